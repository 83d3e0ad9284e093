import type { Message } from '../schemas/chat.ts'
import type { Axis, Strength } from '../schemas/feedback.ts'
import { failed } from './respondent.ts'
import type { Choice, Failed, Question, Respondent, Usage, Watch } from './respondent.ts'

export type Comparison = {
  axis: Axis
  prompt: readonly Message[]
  a: string
  b: string
  /** which answer is shown first; both in turn by default */
  order?: Order
}
export const ORDERS = ['both', 'a_first', 'b_first'] as const
export type Order = (typeof ORDERS)[number]

/** What a judge says of a comparison. */
export type Verdict =
  | {
      ok: true
      /** P(a is better), averaged over the orders that were asked */
      probability: number
      /** P(a is better) with a shown first, and with a shown second; null: not asked */
      orders: readonly [number | null, number | null]
      /** whether both orders prefer the same answer; null: one order was asked */
      consistent: boolean | null
      strength: Strength
      /** whether the label comes from log-probabilities */
      soft: boolean
      /** whether nothing had to be asked: it was known from before */
      cached: boolean
    }
  | Failed
export type GivenVerdict = Extract<Verdict, { ok: true }>

export type SafetyVerdict = { ok: true; safe: boolean; probability: number } | Failed

export type Judge = {
  name: string
  promptVersion: string
  version(): Promise<string>
  compare(comparisons: readonly Comparison[], watch?: Watch): Promise<Verdict[]>
  /** absolute safety of single answers */
  assess(
    answers: readonly { prompt: readonly Message[]; answer: string }[],
    watch?: Watch,
  ): Promise<SafetyVerdict[]>
  /** what its answers have cost since it was opened */
  usage(): Usage
}

/** How a judge words its questions. Options: `A` and `B`. */
export type Wording = {
  /** changes with every word: labels of different versions are never mixed unseen */
  version: string
  compare(axis: Axis, prompt: readonly Message[], a: string, b: string): Message[]
  /** `A` safe, `B` unsafe; null: this judge has learned comparisons alone */
  assess: ((prompt: readonly Message[], answer: string) => Message[]) | null
}

export const LETTERS = ['A', 'B'] as const

/** A judge: a wording before a model that answers. */
export function createJudge(respondent: Respondent, wording: Wording): Judge {
  const ask = (messages: Message[]): Question => ({ messages, options: LETTERS })
  return {
    name: respondent.name,
    promptVersion: wording.version,
    version: () => respondent.version(),
    usage: () => respondent.usage(),
    async compare(comparisons, watch) {
      const choices = await respondent.choose(
        comparisons.map(({ axis, prompt, a, b, order = 'both' }) => [
          ...(order === 'b_first' ? [] : [ask(wording.compare(axis, prompt, a, b))]),
          ...(order === 'a_first' ? [] : [ask(wording.compare(axis, prompt, b, a))]),
        ]),
        watch,
      )
      return choices.map((orders, i) => verdictOf(orders, comparisons[i]?.order ?? 'both'))
    },
    async assess(answers, watch) {
      const { assess } = wording
      if (assess === null)
        return answers.map(() => failed('unavailable', 'this judge has learned comparisons alone'))
      const choices = await respondent.choose(
        answers.map(({ prompt, answer }) => [ask(assess(prompt, answer))]),
        watch,
      )
      return choices.map(([choice]) => {
        if (choice?.ok !== true) return choice ?? failed('unavailable', 'nothing was answered')
        const [probability = NaN] = choice.probabilities
        return { ok: true, safe: probability >= 0.5, probability }
      })
    },
  }
}

/** A verdict from what the model chose in each order that was asked, or the first failure among them. */
function verdictOf(choices: readonly Choice[], order: Order): Verdict {
  const first: number[] = []
  for (const choice of choices)
    if (choice.ok) first.push(choice.probabilities[0] ?? NaN)
    else return choice
  const given = choices.filter((choice) => choice.ok)
  const [p = NaN, q] = first
  const orders =
    order === 'both'
      ? ([p, 1 - (q ?? NaN)] as const)
      : order === 'a_first'
        ? ([p, null] as const)
        : ([null, 1 - p] as const)
  return {
    ...verdict(orders),
    soft: given.every(({ soft }) => soft),
    cached: given.every(({ cached = false }) => cached),
  }
}

/** Llama 2's four levels from how far the judge is from undecided: |p − ½| of 0.4, 0.25 and 0.1. */
export function strengthOf(probability: number): Strength {
  const distance = Math.abs(probability - 0.5)
  if (distance >= 0.4) return 'significantly_better'
  if (distance >= 0.25) return 'better'
  return distance >= 0.1 ? 'slightly_better' : 'negligibly_better'
}

/** What P(a is better) of the orders that were asked comes to. */
function verdict(
  orders: readonly [number | null, number | null],
): Omit<GivenVerdict, 'soft' | 'cached'> {
  const asked = orders.filter((p) => p !== null)
  const probability = asked.reduce((sum, p) => sum + p, 0) / asked.length
  const [first, second] = orders
  return {
    ok: true,
    probability,
    orders,
    consistent: first === null || second === null ? null : first > 0.5 === second > 0.5,
    strength: strengthOf(probability),
  }
}
