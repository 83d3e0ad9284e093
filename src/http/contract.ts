import type { Context, Hono } from 'hono'
import { createHash } from 'node:crypto'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import type { z } from 'zod'
import { LibraError } from '../errors.ts'
import type { Store } from '../store/store.ts'
import { check, problem, readBody } from './problem.ts'

/** One route as both the server and the OpenAPI document know it. */
export type Contract<B extends z.ZodType = z.ZodType, Q extends z.ZodType = z.ZodType> = {
  method: 'get' | 'post' | 'put' | 'delete'
  /** with parameters as `{id}` */
  path: string
  tag: string
  summary: string
  body?: B
  query?: Q
  /** what comes back: JSON of a schema, or another media type */
  reply:
    | z.ZodType
    | 'text/event-stream'
    | 'text/html'
    | 'text/markdown'
    | 'application/jsonl'
    | 'application/json'
  status?: ContentfulStatusCode
  /** the body is no JSON: the handler reads it */
  upload?: true
}
type Input<B extends z.ZodType, Q extends z.ZodType> = {
  c: Context
  body: z.output<B>
  query: z.output<Q>
  id: string
}
export type Route = { contract: Contract; handle(input: Input<z.ZodType, z.ZodType>): unknown }

/** Ties a contract to its handler; the handler's answer is sent as JSON unless it is a Response. */
export function route<B extends z.ZodType, Q extends z.ZodType>(
  contract: Contract<B, Q>,
  handle: (input: Input<B, Q>) => unknown,
): Route {
  return { contract, handle: handle as Route['handle'] }
}

/** Adds a route to the app. A POST with an `Idempotency-Key` is done once, and its reply kept. */
export function mount(app: Hono, store: Store, { contract, handle }: Route): void {
  const path = contract.path.replaceAll(/\{(\w+)\}/g, ':$1')
  const answer = async (c: Context): Promise<Response> => {
    const query = contract.query ? check(contract.query, c.req.query(), 'query') : undefined
    const body = contract.body ? await readBody(c, contract.body) : undefined
    const reply = await handle({ c, body, query, id: c.req.param('id') ?? '' })
    return reply instanceof Response ? reply : c.json(reply as object, contract.status ?? 200)
  }
  app.on(contract.method.toUpperCase(), path, async (c) => {
    const key = c.req.header('idempotency-key')
    if (key === undefined || contract.method !== 'post' || contract.upload) return answer(c)
    return once(c, store, key, () => answer(c))
  })
}

/** Does a write once per key: a second request with the same key and body gets the first one's reply. */
async function once(
  c: Context,
  store: Store,
  key: string,
  answer: () => Promise<Response>,
): Promise<Response> {
  const hash = createHash('sha256').update(`${c.req.path}\n`)
  const requestHash = hash.update(await c.req.text()).digest('hex')
  const before = await store.takeKey(key, requestHash)
  if (before === null) {
    try {
      const response = await answer()
      const json = response.headers.get('content-type')?.startsWith('application/json')
      if (json) await store.answerKey(key, response.status, await response.clone().text())
      else await store.dropKey(key) // a stream is not kept
      return response
    } catch (error) {
      await store.dropKey(key) // nothing was done: the client may try again with the same key
      return problem(c, error)
    }
  }
  if (before.requestHash !== requestHash)
    throw new LibraError(
      'idempotency_mismatch',
      'this Idempotency-Key was used for another request',
    )
  if (before.status === null || before.reply === null)
    throw new LibraError('idempotency_busy', 'the first request with this key is still in work')
  return c.body(before.reply, before.status as ContentfulStatusCode, {
    'content-type': 'application/json',
    'idempotent-replayed': 'true',
  })
}
