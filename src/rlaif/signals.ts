import type { Engine, Likelihood, ModelFiles } from '../engine/engine.ts'
import { LibraError } from '../errors.ts'
import { classify, isRefusal } from '../evaluation/response-class.ts'
import type { Axis, PromptRow } from '../schemas/feedback.ts'
import type { Opinions, Signals } from './guard.ts'

/** What a policy answered to a prompt of a look. */
export type Answer = { prompt: PromptRow; text: string; ended: boolean }

/** What answers of a policy are like, beside the verdicts on them, and how far they are from the SFT policy's. */
export async function signalsOf(
  serving: Engine,
  sft: ModelFiles,
  answers: readonly Answer[],
  policy: ModelFiles,
): Promise<Signals> {
  const n = Math.max(1, answers.length)
  const share = (of: (answer: Answer) => boolean): number => answers.filter(of).length / n
  const pairs = answers.flatMap(({ text }) => {
    const words = text.match(/\p{Script=Han}|[\p{L}\p{N}']+/gu) ?? []
    return words.slice(1).map((word, i) => `${words[i]} ${word}`)
  })
  const bySft = await readBy(serving, sft, answers)
  return {
    kl: policy === sft ? 0 : klOf(await readBy(serving, policy, answers), bySft),
    length: answers.reduce((sum, { text }) => sum + text.length, 0) / n,
    refusals: share(({ text, ended }) => isRefusal(classify(text, ended))),
    ended: share(({ ended }) => ended),
    distinct: new Set(pairs).size / Math.max(1, pairs.length),
    surprise: surpriseOf(bySft.filter((_, i) => answers[i]?.text !== '')),
  }
}

type Read = Likelihood | null

/** How likely a model finds each answer; null where it can't be read again, or the model gives no number. */
async function readBy(
  engine: Engine,
  model: ModelFiles,
  answers: readonly Answer[],
): Promise<Read[]> {
  const texts = answers.map(({ prompt: { messages }, text, ended }) => ({
    messages: [...messages, { role: 'assistant' as const, content: text }],
    ended,
  }))
  // texts may have more tokens than the policy wrote, where it found shorter ones
  const unread = (error: unknown): null => {
    const is = (code: string): boolean => error instanceof LibraError && error.code === code
    if (is('context_length_exceeded') || is('non_finite_output')) return null
    throw error
  }
  if (texts.length === 0) return []
  const all = await engine.likelihoods({ model, texts }).catch(unread)
  if (all !== null) return all
  const each = texts.map((text) => engine.likelihoods({ model, texts: [text] }).catch(unread))
  return (await Promise.all(each)).map((one) => one?.[0] ?? null)
}

/** Mean of log π(y) − log π_sft(y) over the answers that both could read; null of none. */
function klOf(own: readonly Read[], sft: readonly Read[]): number | null {
  const each = own.flatMap((one, i) => {
    const other = sft[i] ?? null
    return one === null || other === null ? [] : [one.logprob - other.logprob]
  })
  return each.length === 0 ? null : each.reduce((sum, x) => sum + x, 0) / each.length
}

/** The median of fewer answers says nothing. */
const FEWEST_READ = 20

/** Nats a token of the median answer to the SFT policy; null where too few could be read. */
function surpriseOf(read: readonly Read[]): number | null {
  const each = read.flatMap((one) => (one === null ? [] : [-one.logprob / Math.max(1, one.tokens)]))
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
