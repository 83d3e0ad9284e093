import type { Message } from '../schemas/chat.ts'

/** What a server that calls itself OpenAI-compatible takes; learnt from its refusals, so nobody has to configure it. */
export type Dialect = {
  /** how many alternatives to ask for; 0: log-probabilities are not served */
  topLogprobs: 20 | 5 | 0
  limit: 'max_tokens' | 'max_completion_tokens'
  temperature: boolean
  /** whether the shape of a reply can be prescribed */
  structured: boolean
}

/** 20 is the protocol's maximum: the spellings of the less likely option should not fall off the list. */
export const FIRST_DIALECT: Dialect = {
  ...{ topLogprobs: 20, limit: 'max_tokens', temperature: true, structured: true },
}

/** One thing to ask of a server. */
export type ChatRequest = {
  messages: readonly Message[]
  maxTokens: number
  /** prose needs no log-probabilities */
  logprobs: boolean
  /** the only words that may come back, as `{"choice": …}` */
  structure?: readonly string[]
}

export function requestBody(model: string, request: ChatRequest, dialect: Dialect): string {
  const { messages, maxTokens, logprobs, structure } = request
  return JSON.stringify({
    model,
    messages,
    [dialect.limit]: maxTokens,
    // 0, so that a server without log-probabilities answers the same each time
    ...(dialect.temperature ? { temperature: 0 } : {}),
    ...(logprobs && structure === undefined && dialect.topLogprobs > 0
      ? { logprobs: true, top_logprobs: dialect.topLogprobs }
      : {}),
    ...(structure !== undefined && dialect.structured
      ? { response_format: responseFormat(structure) }
      : {}),
  })
}

const responseFormat = (options: readonly string[]): object => ({
  type: 'json_schema',
  json_schema: {
    name: 'choice',
    strict: true,
    schema: {
      type: 'object',
      properties: { choice: { type: 'string', enum: options } },
      required: ['choice'],
      additionalProperties: false,
    },
  },
})

/** The dialect to try after a 400 or 422 with this text, or null where the complaint is about something else. */
export function adapt(dialect: Dialect, complaint: string): Dialect | null {
  if (dialect.structured && /response_format|json_schema|structured output/i.test(complaint))
    return { ...dialect, structured: false }
  if (dialect.topLogprobs > 0 && /logprobs/i.test(complaint))
    return { ...dialect, topLogprobs: dialect.topLogprobs === 20 ? 5 : 0 }
  if (
    dialect.limit === 'max_tokens' &&
    /max_tokens.{0,4} is not supported|use .?max_completion_tokens/i.test(complaint)
  )
    return { ...dialect, limit: 'max_completion_tokens' }
  if (dialect.temperature && /temperature/i.test(complaint))
    return { ...dialect, temperature: false }
  return null
}
