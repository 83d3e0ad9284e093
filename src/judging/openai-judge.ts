import PQueue from 'p-queue'
import { LibraError } from '../errors.ts'
import { createJudge } from './judge.ts'
import type { Judge } from './judge.ts'
import { createChatClient } from './openai-client.ts'
import type { ChatRequest } from './openai-dialect.ts'
import { openAiWording } from './openai-prompts.ts'
import { readChoice, readProse } from './openai-reply.ts'
import type { Completion } from './openai-reply.ts'
import { createPace } from './pace.ts'
import type { Pace, Rate } from './pace.ts'
import { noUsage, OVER_BUDGET } from './respondent.ts'
import type {
  Choice,
  Failed,
  Question,
  Respondent,
  Usage,
  WatchAnswers,
  Written,
} from './respondent.ts'

/** What a respondent may use up in its lifetime. Retries are not counted: servers do not charge for what they did not answer. */
export type Budget = {
  requests?: number | undefined
  /** in and out, as the server reports them; requests under way may overshoot it, and cost likewise */
  tokens?: number | undefined
  cost?: number | undefined
}
/** What is left of a budget after some use; nothing below 0 is asked for. */
export const budgetLeft = (budget: Budget, used: Usage | undefined): Budget =>
  used === undefined
    ? budget
    : {
        requests: budget.requests && Math.max(0, budget.requests - used.requests),
        tokens:
          budget.tokens && Math.max(0, budget.tokens - used.prompt_tokens - used.completion_tokens),
        cost: budget.cost && Math.max(0, budget.cost - (used.cost ?? 0)),
      }
/** Of a million tokens. */
export type Price = { prompt: number; completion: number }

/** What all askers of one server share: how many requests are under way, and how many a minute sees. */
export type Line = { queue: PQueue; pace: Pace }
/** A request keeps its place while it waits for a retry: an overloaded server gets fewer, not more. */
export const createLine = (maxConcurrency: number, rate: Rate = {}): Line => ({
  queue: new PQueue({ concurrency: maxConcurrency }),
  pace: createPace(rate),
})

export type OpenAiJudgeOptions = {
  /** up to and without `/chat/completions`, most often ending in `/v1` */
  baseUrl: string
  model: string
  apiKey: string | null
  /** the name labels are stored under; the model's by default */
  name?: string
  /** requests under way at once, over all calls of this judge; not with `line`, which brings its own */
  maxConcurrency?: number
  line?: Line
  /** for one request, from its start to the last byte of the reply */
  timeoutMs?: number
  maxRetries?: number
  /** enough for a letter in its wrapping; a reasoning model needs thousands */
  maxTokens?: number
  budget?: Budget
  price?: Price | undefined
  fetch?: typeof globalThis.fetch
}

/**
 * Any server that speaks OpenAI's chat completions. Soft labels come from log-probabilities where the server gives
 * them, else from plain words; words that say nothing are asked for once more, in a prescribed shape.
 */
export function createOpenAiRespondent(options: OpenAiJudgeOptions): Respondent {
  const { model, name = model, maxConcurrency = 8, budget = {}, price } = options
  const { maxTokens = 16, timeoutMs = 60_000, maxRetries = 3 } = options
  checkCounts({ maxConcurrency, maxTokens, timeoutMs }, 1)
  checkCounts({ maxRetries }, 0)
  const { queue, pace } = options.line ?? createLine(maxConcurrency)
  const ask = createChatClient({
    ...{ baseUrl: options.baseUrl, model, apiKey: options.apiKey, timeoutMs, maxRetries, pace },
    fetch: options.fetch ?? globalThis.fetch,
  })
  const used = { ...noUsage(), cost: price === undefined ? null : 0 }
  let tokens = 0

  const reserve = (requests: number): boolean => {
    const enough =
      used.requests + requests <= (budget.requests ?? Infinity) &&
      tokens < (budget.tokens ?? Infinity) &&
      (used.cost ?? 0) < (budget.cost ?? Infinity)
    if (enough) used.requests += requests
    return enough
  }

  /** One request and what it says, its tokens counted. */
  async function read<T>(
    request: ChatRequest,
    stop: AbortSignal,
    reading: (completion: Completion) => T,
  ): Promise<T | Failed> {
    const answer = await ask(request, stop)
    if (!answer.ok) return answer
    count(answer.completion.usage)
    return reading(answer.completion)
  }

  /** Adds what one answer used up. What the server does not tell has no number: no budget of it can be kept. */
  function count(usage: Completion['usage']): void {
    const {
      total_tokens: total,
      prompt_tokens: prompt,
      completion_tokens: completion,
    } = usage ?? {}
    const cost =
      price === undefined || prompt == null || completion == null
        ? null
        : (prompt * price.prompt + completion * price.completion) / 1e6
    if (budget.tokens !== undefined && total === undefined) throw untold(name, 'budget.tokens')
    if (budget.cost !== undefined && cost === null) throw untold(name, 'budget.cost')
    tokens += total ?? 0
    used.prompt_tokens += prompt ?? 0
    used.completion_tokens += completion ?? 0
    used.cost = used.cost === null || cost === null ? null : used.cost + cost
  }

  async function choose({ messages, options }: Question, stop: AbortSignal): Promise<Choice> {
    const reading = (completion: Completion): Choice => readChoice(completion, options)
    const request = { messages, maxTokens, logprobs: true }
    const first = await read(request, stop, reading)
    // words that say nothing may do so by chance of wording: the shape of a second reply is prescribed
    if (first.ok || first.failure !== 'unparseable' || maxRetries === 0 || !reserve(1)) return first
    const second = await read(
      { ...request, maxTokens: Math.max(maxTokens, 32), structure: options },
      stop,
      reading,
    )
    return second.ok ? second : first
  }

  return {
    name,
    version: () => Promise.resolve(`${model} at ${options.baseUrl.replace(/\/+$/, '')}`),
    usage: () => ({ ...used }),
    choose: (items, { onAnswer, ...watch } = {}) =>
      each(
        items,
        (questions, stop, item) => {
          let granted: boolean | undefined
          return Promise.all(
            questions.map((question, place) =>
              queue.add(async () => {
                stop.throwIfAborted()
                granted ??= reserve(questions.length)
                const choice = granted ? await choose(question, stop) : OVER_BUDGET
                onAnswer?.(item, place, choice)
                return choice
              }),
            ),
          )
        },
        watch,
      ),
    write: (assignments, watch) =>
      each(
        assignments,
        ({ messages, maxTokens }, stop) =>
          queue.add(async (): Promise<Written> => {
            stop.throwIfAborted()
            if (!reserve(1)) return OVER_BUDGET
            return read({ messages, maxTokens, logprobs: false }, stop, readProse)
          }),
        watch,
      ),
  }
}

/** Runs over all items; an error of configuration stops those under way and those to come, and so does the caller. */
async function each<Item, Result>(
  items: readonly Item[],
  one: (item: Item, stop: AbortSignal, index: number) => Promise<Result>,
  { onProgress, onAnswer, signal }: WatchAnswers<Result> = {},
): Promise<Result[]> {
  const controller = new AbortController()
  const stop =
    signal === undefined ? controller.signal : AbortSignal.any([controller.signal, signal])
  let done = 0
  const run = async (item: Item, index: number): Promise<Result> => {
    const result = await one(item, stop, index)
    onAnswer?.(index, result)
    onProgress?.(++done)
    return result
  }
  const runs = items.map(run)
  try {
    return await Promise.all(runs)
  } catch (error) {
    controller.abort(error)
    await Promise.allSettled(runs)
    throw error
  }
}

/** A model on a server as judge. */
export const createOpenAiJudge = (options: OpenAiJudgeOptions): Judge =>
  createJudge(createOpenAiRespondent(options), openAiWording)

const untold = (name: string, field: string): LibraError =>
  new LibraError(
    'judge_misconfigured',
    `${field}: judge ${name} answers without the usage that this is counted in, so nobody knows when it is used up; leave it out, or set budget.requests`,
    { details: { field } },
  )

function checkCounts(values: Record<string, number>, least: number): void {
  for (const [name, value] of Object.entries(values))
    if (!Number.isInteger(value) || value < least)
      throw new LibraError(
        'judge_misconfigured',
        `${name} of a judge must be a whole number from ${least}, got ${value}`,
      )
}
