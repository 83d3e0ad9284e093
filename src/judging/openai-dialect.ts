import type { Message } from '../schemas/chat.ts'

/** What a server that calls itself OpenAI-compatible takes; learnt from its refusals, so nobody has to configure it. */
export type Dialect = {
  /** how many alternatives to ask for; 0: log-probabilities are not served */
  topLogprobs: 20 | 5 | 0
  limit: 'max_tokens' | 'max_completion_tokens'
  temperature: boolean
}

/** 20 is the protocol's maximum: the spellings of the less likely option should not fall off the list. */
export const FIRST_DIALECT: Dialect = { topLogprobs: 20, limit: 'max_tokens', temperature: true }

export function requestBody(
  model: string,
  messages: readonly Message[],
  maxTokens: number,
  dialect: Dialect,
): string {
  return JSON.stringify({
    model,
    messages,
    [dialect.limit]: maxTokens,
    // 0, so that a server without log-probabilities answers the same each time
    ...(dialect.temperature ? { temperature: 0 } : {}),
    ...(dialect.topLogprobs > 0 ? { logprobs: true, top_logprobs: dialect.topLogprobs } : {}),
  })
}

/** The dialect to try after a 400 or 422 with this text, or null where the complaint is about something else. */
export function adapt(dialect: Dialect, complaint: string): Dialect | null {
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
