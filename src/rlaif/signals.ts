import type { Engine, ModelFiles } from '../engine/engine.ts'
import { LibraError } from '../errors.ts'
import { classify, isRefusal } from '../evaluation/response-class.ts'
import type { Axis, PromptRow } from '../schemas/feedback.ts'
import type { Opinions, Signals } from './guard.ts'

/** What a policy answered to a prompt of a look. */
export type Answer = { prompt: PromptRow; text: string; ended: boolean }

/** What answers are like, beside the verdicts on them; `kl` in nats. */
export async function signalsOf(
  serving: Engine,
  sft: ModelFiles,
  answers: readonly Answer[],
  kl: number | null,
): Promise<Signals> {
  const n = Math.max(1, answers.length)
  const share = (of: (answer: Answer) => boolean): number => answers.filter(of).length / n
  const pairs = answers.flatMap(({ text }) => {
    const words = text.match(/\p{Script=Han}|[\p{L}\p{N}']+/gu) ?? []
    return words.slice(1).map((word, i) => `${words[i]} ${word}`)
  })
  return {
    kl: Number.isFinite(kl) ? kl : null,
    length: answers.reduce((sum, { text }) => sum + text.length, 0) / n,
    refusals: share(({ text, ended }) => isRefusal(classify(text, ended))),
    ended: share(({ ended }) => ended),
    distinct: new Set(pairs).size / Math.max(1, pairs.length),
    surprise: await surpriseOf(serving, sft, answers),
  }
}

/** The median of fewer answers says nothing. */
const FEWEST_READ = 20

/**
 * Nats a token of the median answer to the SFT policy, without those that can't be read again, as their texts have more
 * tokens than the policy wrote where it found shorter ones; null where too few are left.
 */
async function surpriseOf(
  engine: Engine,
  sft: ModelFiles,
  answers: readonly Answer[],
): Promise<number | null> {
  const texts = answers.flatMap(({ prompt: { messages }, text, ended }) =>
    text === ''
      ? []
      : { messages: [...messages, { role: 'assistant' as const, content: text }], ended },
  )
  const read = (some: typeof texts) =>
    engine.likelihoods({ model: sft, texts: some }).catch((error: unknown) => {
      if (error instanceof LibraError && error.code === 'context_length_exceeded') return null
      throw error
    })
  if (texts.length < FEWEST_READ) return null
  const all = (await read(texts)) ?? (await Promise.all(texts.map((text) => read([text])))).flat()
  const each = all.flatMap((one) => (one === null ? [] : [-one.logprob / Math.max(1, one.tokens)]))
  if (each.length < FEWEST_READ) return null
  return each.sort((a, b) => a - b)[Math.floor(each.length / 2)] ?? null
}

/** How often each reward model scores the answer of now above the accepted policy's. */
export async function opinionsOf(
  serving: Engine,
  models: Record<'own' | 'twins', Record<Axis, ModelFiles>>,
  now: readonly Answer[],
  before: readonly Answer[],
): Promise<Opinions> {
  const texts = (answers: readonly Answer[]) =>
    answers.map(({ prompt, text }) => [
      ...prompt.messages,
      { role: 'assistant' as const, content: text },
    ])
  const wins = async (model: ModelFiles): Promise<number | null> => {
    const score = (answers: readonly Answer[]) =>
      serving.score({ model, conversations: texts(answers), onTooLong: 'truncate' })
    const [newer, older] = [await score(now), await score(before)]
    // equal answers in two places of two passes are rounded each its own way
    const won = newer.map(({ logit }, i) =>
      now[i]?.text === before[i]?.text
        ? 0.5
        : (1 + Math.sign(logit - (older[i]?.logit ?? NaN))) / 2,
    )
    return won.length === 0 ? null : won.reduce((sum, x) => sum + x, 0) / won.length
  }
  const both = async ({ helpfulness, safety }: Record<Axis, ModelFiles>) => ({
    helpfulness: await wins(helpfulness),
    safety: await wins(safety),
  })
  return { own: await both(models.own), twins: await both(models.twins) }
}
