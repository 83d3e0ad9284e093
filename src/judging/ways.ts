import type {
  Comparison,
  InWriting,
  Order,
  Rationale,
  Said,
  Scored,
  ScoreVerdict,
  Wording,
} from './judge.ts'
import type { Message } from '../schemas/chat.ts'
import { failed } from './respondent.ts'
import type { Choice, Respondent, Watch } from './respondent.ts'

export const LETTERS = ['A', 'B'] as const

/** The answer to a comparison in one order. */
export type Answered = Choice & {
  rationale?: string
  clamp?: number | undefined
  /** of the answer that is shown first and of the other, where each was scored by itself */
  scores?: readonly [number, number]
}
type Compare = (comparisons: readonly Comparison[], watch?: Watch) => Promise<Answered[][]>

/** The answer itself. */
export const answerOf = (said: Said): string =>
  typeof said === 'string' ? said : (said.at(-1)?.content ?? '')
/** What it answers, and the answer. */
const dialogueOf = (prompt: readonly Message[], said: Said): [readonly Message[], string] => [
  typeof said === 'string' ? prompt : [...prompt, ...said.slice(0, -1)],
  answerOf(said),
]

/** What is of the two answers of a comparison, in each order that is asked. */
function shown<T>(a: T, b: T, order: Order = 'both'): (readonly [T, T])[] {
  return [
    ...(order === 'b_first' ? [] : [[a, b] as const]),
    ...(order === 'a_first' ? [] : [[b, a] as const]),
  ]
}

/** The letter at once. */
export const compareAtOnce =
  (respondent: Respondent, wording: Wording): Compare =>
  (comparisons, watch) =>
    respondent.choose(
      comparisons.map((comparison) =>
        shown(comparison.a, comparison.b, comparison.order).map(([first, second]) => ({
          messages: wording.compare(
            ...([comparison.axis, comparison.prompt, first, second] as const),
            comparison.principle?.principle,
          ),
          options: LETTERS,
        })),
      ),
      watch,
    )

/**
 * Questions that are first answered in prose, decoded greedily, and then with one of `options`, given what was written.
 * Where one question of an item has no prose, the item's others are not paid for.
 */
async function answerInWriting(
  respondent: Respondent,
  asked: readonly (readonly InWriting[])[],
  options: readonly string[],
  maxTokens: number,
  watch: Watch = {},
): Promise<Answered[][]> {
  const written = await respondent.write(
    asked.flat().map(({ question }) => ({ messages: question, maxTokens })),
    { signal: watch.signal },
  )
  let at = 0
  const texts = asked.map(({ length }) => written.slice(at, (at += length)))
  const open = texts.flatMap((own, i) => (own.every(({ ok }) => ok) ? [i] : []))
  const choices = await respondent.choose(
    open.map((i) =>
      (asked[i] ?? []).map(({ question, said, verdict }, k) => {
        const text = texts[i]?.[k]
        const turn = said(text?.ok === true ? text.text : '')
        return { messages: [...question, turn, verdict], options }
      }),
    ),
    watch,
  )
  const answers = texts.map((own): Answered[] => own.filter((text) => !text.ok))
  open.forEach((i, n) => {
    answers[i] = (choices[n] ?? []).map((choice, k) => {
      const text = texts[i]?.[k]
      if (!choice.ok || text?.ok !== true) return choice
      const cached = choice.cached === true && text.cached === true
      return { ...choice, cached, rationale: text.text }
    })
  })
  return answers
}

/** A comparison in writing, then the letter (Lee et al. 2023, section 2.1). */
export const compareInWriting =
  (respondent: Respondent, wording: Wording, { maxTokens, clamp }: Rationale): Compare =>
  async (comparisons, watch) => {
    const asked = comparisons.map((comparison) =>
      shown(comparison.a, comparison.b, comparison.order).map(([first, second]) =>
        wording.explain(
          ...([comparison.axis, comparison.prompt, first, second] as const),
          comparison.principle?.principle,
        ),
      ),
    )
    const answers = await answerInWriting(respondent, asked, LETTERS, maxTokens, watch)
    return answers.map((own) => own.map((answer) => (answer.ok ? { ...answer, clamp } : answer)))
  }

const SCORES = ['1', '2', '3', '4', '5', '6', '7', '8', '9', '10'] as const

/**
 * Each answer scored by itself, so that none has a place: P(a is better) = P(s_a > s_b) + ½·P(s_a = s_b), where s_a and
 * s_b are drawn from the two distributions over the scores 1 to 10 (single answer grading, Zheng et al. 2023, 3.1). It
 * says the same in both orders.
 */
export const compareByScores =
  (respondent: Respondent, wording: Wording): Compare =>
  async (comparisons, watch = {}) => {
    // of many answers to one prompt each is in many pairs, and is asked about once
    const asked = new Map<string, { messages: Message[]; options: readonly string[] }>()
    const keys = comparisons.map(({ axis, prompt, a, b }) =>
      [a, b].map((said) => {
        const messages = wording.score({ axis }, ...dialogueOf(prompt, said))
        const key = JSON.stringify(messages)
        asked.set(key, { messages, options: SCORES })
        return key
      }),
    )
    const choices = await respondent.choose(
      [...asked.values()].map((question) => [question]),
      {
        ...watch,
        onProgress: (done) => watch.onProgress?.(Math.floor((done / asked.size) * keys.length)),
      },
    )
    const said = new Map([...asked.keys()].map((key, i) => [key, choices[i]?.[0]]))
    return comparisons.map(({ order }, i): Answered[] => {
      const given = (keys[i] ?? []).map(
        (key) => said.get(key) ?? failed('unavailable', 'nothing was answered'),
      )
      const [a, b] = given
      if (a?.ok !== true || b?.ok !== true) return given.filter(({ ok }) => !ok).slice(0, 1)
      const [soft, cached] = [a.soft && b.soft, a.cached === true && b.cached === true]
      const wins = chanceOfMore(a.probabilities, b.probabilities)
      const sides = shown(
        { wins, score: expectedScore(a.probabilities) },
        { wins: 1 - wins, score: expectedScore(b.probabilities) },
        order,
      )
      return sides.map(([first, second]) => ({
        ...{ ok: true, soft, cached, probabilities: [first.wins, second.wins] },
        scores: [first.score, second.score],
      }))
    })
  }

/** Closer to ½ than this a probability is even: what is left is rounding of sums, which must not decide a pair. */
const ROUNDING = 1e-6
/** On which side of ½ a probability lies: 1, 0 where it is even but for rounding, −1. */
export const sideOf = (p: number): number => (Math.abs(p - 0.5) < ROUNDING ? 0 : Math.sign(p - 0.5))

/** P(i > j) + ½·P(i = j) of two distributions over the same places. */
function chanceOfMore(p: readonly number[], q: readonly number[]): number {
  let [below, chance] = [0, 0]
  p.forEach((each, i) => {
    const same = q[i] ?? 0
    chance += each * (below + same / 2)
    below += same
  })
  return sideOf(chance) === 0 ? 0.5 : chance
}

/** One question for each answer and criterion, on request answered in writing first; those of one answer are answered together or not at all. */
export async function scoreAnswers(
  respondent: Respondent,
  wording: Wording,
  answers: readonly Scored[],
  rationale: Rationale | undefined,
  watch?: Watch,
): Promise<ScoreVerdict[]> {
  const asked = answers.map(({ axis, prompt, answer, rubric }) =>
    (rubric?.map((criterion) => ({ axis, criterion })) ?? [{ axis }]).map(
      (aim) => [aim, prompt, answer] as const,
    ),
  )
  const choices: Answered[][] =
    rationale === undefined
      ? await respondent.choose(
          asked.map((own) =>
            own.map((each) => ({ messages: wording.score(...each), options: SCORES })),
          ),
          watch,
        )
      : await answerInWriting(
          respondent,
          asked.map((own) => own.map((each) => wording.explainOne(...each))),
          ...([SCORES, rationale.maxTokens, watch] as const),
        )
  return choices.map((given, i): ScoreVerdict => {
    const { axis = 'helpfulness', rubric = undefined } = answers[i] ?? {}
    const criteria: Extract<ScoreVerdict, { ok: true }>['criteria'] = []
    for (const [k, choice] of given.entries()) {
      if (!choice.ok) return choice
      const { name, weight } = rubric?.[k] ?? { name: axis, weight: 1 }
      const { probabilities } = choice
      criteria.push({
        ...{ name, weight, score: expectedScore(probabilities), probabilities },
        ...(choice.rationale === undefined ? {} : { rationale: choice.rationale }),
      })
    }
    if (criteria.length === 0) return failed('unavailable', 'nothing was answered')
    const all = criteria.reduce((sum, { weight }) => sum + weight, 0)
    return {
      ok: true,
      score: criteria.reduce((sum, { weight, score }) => sum + weight * score, 0) / all,
      criteria,
      soft: given.every((choice) => choice.ok && choice.soft),
      cached: given.every((choice) => choice.ok && choice.cached === true),
    }
  })
}

/** Σ i·P(i), i from 1. */
const expectedScore = (probabilities: readonly number[]): number =>
  probabilities.reduce((sum, p, i) => sum + (i + 1) * p, 0)
