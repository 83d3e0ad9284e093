import { OpenApiBuilder } from 'openapi3-ts/oas31'
import type { OperationObject, ParameterObject, SchemaObject } from 'openapi3-ts/oas31'
import { z } from 'zod'
import { CODE_VERSION } from '../config.ts'
import * as http from '../schemas/http.ts'
import * as openai from '../schemas/openai.ts'
import { RunRequest } from '../schemas/run.ts'
import * as scoring from '../schemas/scoring.ts'
import * as verdicts from '../schemas/verdicts.ts'
import type { Contract, Route } from './contract.ts'

const schemaOf = (schema: z.ZodType, io: 'input' | 'output'): SchemaObject => {
  const { $schema: _, ...json } = z.toJSONSchema(schema, { io, unrepresentable: 'any' })
  return json as SchemaObject
}

/** Schemas that have a name in the vocabulary have it in the document too. */
const NAMED = new Map<z.ZodType, string>(
  Object.entries({ ...http, ...scoring, ...verdicts, ...openai, RunRequest }).flatMap(
    ([name, value]) => (value instanceof z.ZodType ? [[value, name] as const] : []),
  ),
)
const reference = (schema: z.ZodType, io: 'input' | 'output'): SchemaObject => {
  const name = NAMED.get(schema)
  return name === undefined
    ? schemaOf(schema, io)
    : ({ $ref: `#/components/schemas/${name}` } as SchemaObject)
}

/** The OpenAPI 3.1 document of the contracts that the server itself runs. */
export function openApiDocument(routes: readonly Route[]): object {
  const builder = OpenApiBuilder.create()
    .addInfo({
      title: 'Libra',
      version: CODE_VERSION,
      description:
        'RLAIF as a service: evaluate and align language models by AI feedback. Errors are application/problem+json with a stable `code`.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    })
    .addSchema('Problem', schemaOf(http.Problem, 'output'))
  for (const { contract } of routes) {
    const { body, reply } = contract
    const used = [
      ...(body === undefined ? [] : [[body, 'input'] as const]),
      ...(typeof reply === 'string' ? [] : [[reply, 'output'] as const]),
    ]
    for (const [schema, io] of used) {
      const name = NAMED.get(schema)
      if (name !== undefined) builder.addSchema(name, schemaOf(schema, io))
    }
    builder.addPath(contract.path, { [contract.method]: operation(contract) })
  }
  return builder.getSpec()
}

function operation(contract: Contract): OperationObject {
  const { method, path, tag, summary, body, reply, status = 200 } = contract
  const name = [method, ...path.split('/').filter((part) => part !== '' && part !== 'v1')]
  return {
    operationId: name.map((part) => part.replaceAll(/\W/g, '')).join('_'),
    tags: [tag],
    summary,
    parameters: parametersOf(contract),
    ...(body === undefined ? {} : { requestBody: content(body, 'input') }),
    ...(contract.upload === true ? { requestBody: UPLOAD } : {}),
    responses: {
      [status]: {
        description: summary,
        content:
          typeof reply === 'string'
            ? { [reply]: {} }
            : { 'application/json': { schema: reference(reply, 'output') } },
      },
      default: {
        description: 'A problem',
        content: {
          'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } },
        },
      },
    },
  }
}

const content = (schema: z.ZodType, io: 'input' | 'output') => ({
  required: true,
  content: { 'application/json': { schema: reference(schema, io) } },
})
const UPLOAD = {
  required: true,
  content: {
    'multipart/form-data': {
      schema: {
        type: 'object' as const,
        required: ['file', 'purpose'],
        properties: {
          file: { type: 'string' as const, format: 'binary' },
          purpose: { type: 'string' as const },
        },
      },
    },
  },
}

function parametersOf({ path, query, method, upload }: Contract): ParameterObject[] {
  const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => ({
    ...{ name, in: 'path' as const, required: true, schema: { type: 'string' as const } },
  }))
  const fields = query === undefined ? {} : (schemaOf(query, 'input').properties ?? {})
  const inQuery = Object.entries(fields).map(([name, schema]) => ({
    ...{ name, in: 'query' as const, schema },
  }))
  const key = {
    name: 'idempotency-key',
    in: 'header' as const,
    description: 'the same write sent twice with one key is done once',
    schema: { type: 'string' as const },
  }
  return [...inPath, ...inQuery, ...(method === 'post' && upload !== true ? [key] : [])]
}
