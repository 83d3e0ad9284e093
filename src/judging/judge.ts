import type { Message } from '../schemas/chat.ts'
import type { Axis, Strength } from '../schemas/feedback.ts'
import type { CompareBy } from '../schemas/judging.ts'
import { principleFor } from './constitution.ts'
import type { Constitution, Principle } from './constitution.ts'
import { failed } from './respondent.ts'
import { compareAtOnce, compareByScores, compareInWriting, LETTERS, scoreAnswers } from './ways.ts'
import type { Answered } from './ways.ts'
import type { Failed, Failure, Respondent, Usage, Watch } from './respondent.ts'

/** An answer; where the conversations of the two have parted, the turns since they did, with the answer as the last one. */
export type Said = string | readonly Message[]

export type Comparison = {
  axis: Axis
  /** what both answer, or, where their conversations have parted, as far as they are the same */
  prompt: readonly Message[]
  a: Said
  b: Said
  /** which answer is shown first; both in turn by default */
  order?: Order
  /** what to judge by instead of the axis in general; drawn where the judge has a constitution */
  principle?: Pick<Principle, 'id' | 'principle'> | undefined
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
      /** what the judge wrote before each order's verdict, where it was asked to; null: order not asked */
      rationales?: readonly [string | null, string | null]
      /** from 1 to 10, of a and of b, where each was scored by itself */
      scores?: readonly [number, number]
      /** of a constitution: which one was drawn */
      principle?: string
      /** of a panel: what each judge said, and the standard deviation of their P(a is better) */
      panel?: { judge: string; probability: number | null; failure: Failure | null }[]
      disagreement?: number
    }
  | Failed
export type GivenVerdict = Extract<Verdict, { ok: true }>

export type SafetyVerdict = { ok: true; safe: boolean; probability: number } | Failed

/** One named thing to score, with its share in the whole. */
export type Criterion = { name: string; description: string; weight: number }
/** What an answer is scored by: an axis in general, or one criterion. */
export type Aim = { axis: Axis; criterion?: Criterion }
/** An answer to score, as a whole or by a rubric. */
export type Scored = {
  axis: Axis
  prompt: readonly Message[]
  answer: string
  rubric?: readonly Criterion[] | undefined
}
/** Σ i·P(i) over the scores 1 to 10 (Lee et al. 2023, section 2.4); by a rubric the weighted mean of its criteria. */
export type ScoreVerdict =
  | {
      ok: true
      score: number
      /** P(1) … P(10) of each criterion; without a rubric of one that is named as the axis */
      criteria: {
        name: string
        weight: number
        score: number
        probabilities: readonly number[]
        /** what was written before, where it was asked for */
        rationale?: string
      }[]
      soft: boolean
      cached: boolean
      /** of a panel: the standard deviation of its judges' scores */
      disagreement?: number
    }
  | Failed

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
  /** how good single answers are, from 1 to 10 */
  score(answers: readonly Scored[], watch?: Watch): Promise<ScoreVerdict[]>
  /** what its answers have cost since it was opened */
  usage(): Usage
  /** of a panel: its judges */
  members?: readonly Judge[]
}

/** A question that is answered in prose; what was said as a turn; the turn after it, which is answered with an option. */
export type InWriting = { question: Message[]; said(text: string): Message; verdict: Message }

/** How a judge words its questions. Options: `A` and `B`. */
export type Wording = {
  /** changes with every word: labels of different versions are never mixed unseen */
  version: string
  compare(axis: Axis, prompt: readonly Message[], a: Said, b: Said, principle?: string): Message[]
  /** `A` safe, `B` unsafe; null: this judge has learned comparisons alone */
  assess: ((prompt: readonly Message[], answer: string) => Message[]) | null
  /** a comparison answered in prose; what it said as a turn; the turn after it, answered with `A` or `B` */
  explain(axis: Axis, prompt: readonly Message[], a: Said, b: Said, principle?: string): InWriting
  /** answered with `1` to `10` */
  score(aim: Aim, prompt: readonly Message[], answer: string): Message[]
  /** the same in prose first, as of a comparison */
  explainOne(aim: Aim, prompt: readonly Message[], answer: string): InWriting
}

/** A comparison in writing before the verdict. `clamp`: how far from ½ its label may be; its strength is not clamped. */
export type Rationale = { maxTokens: number; clamp?: number | undefined }

type Ways = {
  /** by letters unless said otherwise; what is by scores takes neither a rationale nor a constitution */
  by?: CompareBy | undefined
  rationale?: Rationale | undefined
  /** each comparison is judged by a principle of it, drawn by the seed (Constitutional AI) */
  constitution?: (Constitution & { seed: number }) | undefined
}

/** A judge: a wording before a model that answers. */
export function createJudge(
  respondent: Respondent,
  wording: Wording,
  { by = 'letter', rationale, constitution }: Ways = {},
): Judge {
  const compare =
    by === 'score'
      ? compareByScores(respondent, wording)
      : rationale === undefined
        ? compareAtOnce(respondent, wording)
        : compareInWriting(respondent, wording, rationale)
  return {
    name: respondent.name,
    // an audit of a judge that answers at once and in general says nothing of others
    promptVersion: [
      wording.version,
      ...(by === 'score' ? ['by scores'] : []),
      ...(rationale === undefined ? [] : [`after a rationale of ${rationale.maxTokens} tokens`]),
      ...(constitution === undefined ? [] : [`by constitution ${constitution.version}`]),
    ].join(' '),
    version: () => respondent.version(),
    usage: () => respondent.usage(),
    async compare(comparisons, watch) {
      const drawn = comparisons.map((comparison) =>
        constitution === undefined
          ? comparison
          : { ...comparison, principle: principleFor(constitution, comparison, constitution.seed) },
      )
      const answers = await compare(drawn, watch)
      return answers.map((orders, i) => {
        const verdict = verdictOf(orders, drawn[i]?.order ?? 'both')
        const principle = drawn[i]?.principle
        return verdict.ok && principle !== undefined
          ? { ...verdict, principle: principle.id }
          : verdict
      })
    },
    async assess(answers, watch) {
      const { assess } = wording
      if (assess === null)
        return answers.map(() => failed('unavailable', 'this judge has learned comparisons alone'))
      const choices = await respondent.choose(
        answers.map(({ prompt, answer }) => [
          { messages: assess(prompt, answer), options: LETTERS },
        ]),
        watch,
      )
      return choices.map(([choice]) => {
        if (choice?.ok !== true) return choice ?? failed('unavailable', 'nothing was answered')
        const [probability = NaN] = choice.probabilities
        return { ok: true, safe: probability >= 0.5, probability }
      })
    },
    score: (answers, watch) => scoreAnswers(respondent, wording, answers, rationale, watch),
  }
}

/** A verdict from what the model chose in each order that was asked, or the first failure among them. */
function verdictOf(answers: readonly Answered[], order: Order): Verdict {
  const given: Extract<Answered, { ok: true }>[] = []
  for (const answer of answers)
    if (answer.ok) given.push(answer)
    else return answer
  const inPlaces = <T>(of: (answer: (typeof given)[number]) => T): [T | null, T | null] => {
    const [first = null, second = null] = given.map(of)
    return order === 'b_first' ? [null, first] : [first, second]
  }
  const [p, q] = inPlaces(({ probabilities: [first = NaN] }) => first)
  const clamp = given[0]?.clamp
  const verdict = orderedVerdict([p, q === null ? null : 1 - q])
  return {
    ...verdict,
    probability: clamp === undefined ? verdict.probability : clamped(verdict.probability, clamp),
    soft: given.every(({ soft }) => soft),
    cached: given.every(({ cached = false }) => cached),
    ...scoresOf(given[0], order),
    ...(given[0]?.rationale === undefined
      ? {}
      : { rationales: inPlaces(({ rationale = '' }) => rationale) }),
  }
}

function scoresOf(
  answer: Answered | undefined,
  order: Order,
): { scores?: readonly [number, number] } {
  if (answer?.scores === undefined) return {}
  const [first, second] = answer.scores
  return { scores: order === 'b_first' ? [second, first] : [first, second] }
}

/** Constitutional AI's clamp: a judge that has reasoned is surer than it is right. */
const clamped = (p: number, by: number): number => Math.min(0.5 + by, Math.max(0.5 - by, p))

/** Closer to ½ than this a verdict is a tie: `negligibly_better`. */
export const TIE = 0.1
export const isTie = (probability: number): boolean => Math.abs(probability - 0.5) < TIE

/** Llama 2's four levels from how far the judge is from undecided: |p − ½| of 0.4, 0.25 and 0.1. */
export function strengthOf(probability: number): Strength {
  const distance = Math.abs(probability - 0.5)
  if (distance >= 0.4) return 'significantly_better'
  if (distance >= 0.25) return 'better'
  return isTie(probability) ? 'negligibly_better' : 'slightly_better'
}

/** What P(a is better) of the orders that were asked comes to. */
export function orderedVerdict(
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

/** What becomes of soft verdicts that depend on the order. */
export type Inconsistent = 'average' | 'exclude'

/** Verdicts that depend on the order are none where that is asked for, nor where two plain words contradict each other. */
export function usable(verdict: Verdict, inconsistent: Inconsistent = 'average'): Verdict {
  if (!verdict.ok || verdict.consistent !== false) return verdict
  // soft ones that meet at one half are averaged like all others that are soft
  return inconsistent === 'exclude' || (!verdict.soft && verdict.probability === 0.5)
    ? failed('inconsistent', 'the two orders prefer different answers')
    : verdict
}
