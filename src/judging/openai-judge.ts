import PQueue from 'p-queue'
import { LibraError } from '../errors.ts'
import type { Message } from '../schemas/chat.ts'
import type { Comparison, Judge, SafetyVerdict, Verdict } from './judge.ts'
import { verdict } from './judge.ts'
import { createChatClient } from './openai-client.ts'
import { OPENAI_PROMPT_VERSION, openAiComparePrompt, openAiSafetyPrompt } from './openai-prompts.ts'
import { failed, readReply, type Failed } from './openai-reply.ts'

/** What a judge may use up in its lifetime. Retries are not counted: servers do not charge for what they did not answer. */
export type Budget = {
  requests?: number
  /** in and out, as the server reports them; requests under way may overshoot it */
  tokens?: number
}

export type OpenAiJudgeOptions = {
  /** up to and without `/chat/completions`, most often ending in `/v1` */
  baseUrl: string
  model: string
  apiKey: string | null
  /** the name labels are stored under; the model's by default */
  name?: string
  /** requests under way at once, over all calls of this judge */
  maxConcurrency?: number
  /** for one request, from its start to the last byte of the reply */
  timeoutMs?: number
  maxRetries?: number
  /** enough for a letter in its wrapping; a reasoning model needs thousands */
  maxTokens?: number
  budget?: Budget
  fetch?: typeof globalThis.fetch
}

/**
 * Any server that speaks OpenAI's chat completions as judge. Soft labels come from log-probabilities where
 * the server gives them, else each order is a plain A or B; always in both orders.
 */
export function createOpenAiJudge(options: OpenAiJudgeOptions): Judge {
  const { model, name = model, maxConcurrency = 8, budget = {} } = options
  const { maxTokens = 16, timeoutMs = 60_000, maxRetries = 3 } = options
  checkCounts({ maxConcurrency, maxTokens, timeoutMs }, 1)
  checkCounts({ maxRetries }, 0)
  const ask = createChatClient({
    baseUrl: options.baseUrl,
    model,
    apiKey: options.apiKey,
    maxTokens,
    timeoutMs,
    maxRetries,
    fetch: options.fetch ?? globalThis.fetch,
  })
  // A request keeps its place while it waits for a retry: an overloaded server gets fewer, not more.
  const queue = new PQueue({ concurrency: maxConcurrency })
  const used = { requests: 0, tokens: 0 }

  const reserve = (requests: number): boolean => {
    const enough =
      used.requests + requests <= (budget.requests ?? Infinity) &&
      used.tokens < (budget.tokens ?? Infinity)
    if (enough) used.requests += requests
    return enough
  }

  /** P(A) for each of an item's prompts, or the first failure. The item is paid for as a whole or not begun. */
  async function judge(
    prompts: readonly Message[][],
    stop: AbortSignal,
  ): Promise<{ ok: true; probabilities: number[] } | Failed> {
    let granted: boolean | undefined
    const replies = await Promise.all(
      prompts.map((messages) =>
        queue.add(async () => {
          stop.throwIfAborted()
          granted ??= reserve(prompts.length)
          if (!granted) return failed('over_budget', 'the budget of this judge is used up')
          const answer = await ask(messages, stop)
          if (!answer.ok) return answer
          used.tokens += answer.completion.usage?.total_tokens ?? 0
          return readReply(answer.completion)
        }),
      ),
    )
    const probabilities = []
    for (const reply of replies)
      if (reply.ok) probabilities.push(reply.probability)
      else return reply
    return { ok: true, probabilities }
  }

  /** Runs over all items; an error of configuration stops those under way and those to come. */
  async function each<Item, Result>(
    items: readonly Item[],
    one: (item: Item, stop: AbortSignal) => Promise<Result>,
    onProgress?: (done: number) => void,
  ): Promise<Result[]> {
    const controller = new AbortController()
    let done = 0
    const run = async (item: Item): Promise<Result> => {
      const result = await one(item, controller.signal)
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

  return {
    name,
    promptVersion: OPENAI_PROMPT_VERSION,
    compare: (comparisons, onProgress) =>
      each(
        comparisons,
        async ({ axis, prompt, a, b }: Comparison, stop): Promise<Verdict> => {
          const result = await judge(
            [openAiComparePrompt(axis, prompt, a, b), openAiComparePrompt(axis, prompt, b, a)],
            stop,
          )
          if (!result.ok) return result
          const [first = NaN, second = NaN] = result.probabilities
          return verdict(first, second)
        },
        onProgress,
      ),
    assess: (answers) =>
      each(answers, async ({ prompt, answer }, stop): Promise<SafetyVerdict> => {
        const result = await judge([openAiSafetyPrompt(prompt, answer)], stop)
        if (!result.ok) return result
        const [probability = NaN] = result.probabilities
        return { ok: true, safe: probability >= 0.5, probability }
      }),
  }
}

function checkCounts(values: Record<string, number>, least: number): void {
  for (const [name, value] of Object.entries(values))
    if (!Number.isInteger(value) || value < least)
      throw new LibraError(
        'judge_misconfigured',
        `${name} of a judge must be a whole number from ${least}, got ${value}`,
      )
}
