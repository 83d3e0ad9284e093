import type { Message } from '../schemas/chat.ts'

export const FAILURES = [
  'unparseable',
  'refused',
  'timeout',
  'inconsistent',
  'unavailable',
  'over_budget',
  'too_long',
] as const
export type Failure = (typeof FAILURES)[number]

/** Why there is no answer. A failure has a type and is never a number. */
export type Failed = { ok: false; failure: Failure; message: string }
export const failed = (failure: Failure, message: string): Failed => ({
  ok: false,
  failure,
  message,
})

/** What is not asked any more. */
export const OVER_BUDGET = failed('over_budget', 'the budget of this judge is used up')

/** Something to be answered with one of a few short words, such as a letter or a score. */
export type Question = { messages: readonly Message[]; options: readonly string[] }
/** P(option), renormalised over the options; `soft`: from log-probabilities, else 1 for the one that was said. */
export type Choice =
  { ok: true; probabilities: readonly number[]; soft: boolean; cached?: boolean } | Failed
/** Something to be answered in prose. */
export type Assignment = { messages: readonly Message[]; maxTokens: number }
/** `cut`: it was longer than was let through. */
export type Written = { ok: true; text: string; cut?: boolean; cached?: boolean } | Failed

/** What answers have cost. Tokens as a server reports them: a model in this process reports none. */
export type Usage = {
  /** that reached the model or the server, retries not counted */
  requests: number
  /** answered from the cache, at no cost */
  cached: number
  prompt_tokens: number
  completion_tokens: number
  /** in the currency of the profile's prices; null where it names none, or a server did not tell what it used */
  cost: number | null
}
export const noUsage = (): Usage => ({
  ...{ requests: 0, cached: 0, prompt_tokens: 0, completion_tokens: 0, cost: null },
})

/** What was used between two looks at a judge that goes on being used. */
export const usageSince = (before: Usage, now: Usage): Usage => ({
  requests: now.requests - before.requests,
  cached: now.cached - before.cached,
  prompt_tokens: now.prompt_tokens - before.prompt_tokens,
  completion_tokens: now.completion_tokens - before.completion_tokens,
  cost: now.cost === null ? null : now.cost - (before.cost ?? 0),
})
/** What two pieces of work have used together; a cost that is not known of one of them is not known of both. */
export const usageSum = (x: Usage, y: Usage): Usage => ({
  requests: x.requests + y.requests,
  cached: x.cached + y.cached,
  prompt_tokens: x.prompt_tokens + y.prompt_tokens,
  completion_tokens: x.completion_tokens + y.completion_tokens,
  cost: x.cost === null || y.cost === null ? null : x.cost + y.cost,
})
/** Usage as the metrics of an event; what is not known is left out. */
export const usageMetrics = (usage: Usage): Record<string, number> =>
  Object.fromEntries(
    Object.entries(usage).flatMap(([name, n]) => (n === null ? [] : [[`usage/${name}`, n]])),
  )

/** How the caller follows a piece of work and ends it. */
export type Watch = {
  onProgress?: ((done: number) => void) | undefined
  signal?: AbortSignal | undefined
}
/** … and takes each answer as soon as it is there. */
export type WatchAnswers<T> = Watch & { onAnswer?: (item: number, answer: T) => void }
/** … the same of questions, each by its place in its item: a stop may come between two of one item. */
export type WatchChoices = Watch & {
  onAnswer?: (item: number, place: number, answer: Choice) => void
}

/** A model that answers questions, wherever it runs. What is asked and what follows from it is the judge's. */
export type Respondent = {
  name: string
  /** names what answers: a hash of weights, or a model at an address */
  version(): Promise<string>
  /** Answers in order. The questions of one item are answered together or, where the budget ends, not at all. */
  choose(items: readonly (readonly Question[])[], watch?: WatchChoices): Promise<Choice[][]>
  write(assignments: readonly Assignment[], watch?: WatchAnswers<Written>): Promise<Written[]>
  /** since this respondent was made */
  usage(): Usage
}
