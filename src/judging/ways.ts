import type { Comparison, Rationale, Scored, ScoreVerdict, Wording } from './judge.ts'
import { failed } from './respondent.ts'
import type { Choice, Respondent, Watch } from './respondent.ts'

export const LETTERS = ['A', 'B'] as const

/** The answer to a comparison in one order. */
export type Answered = Choice & { rationale?: string; clamp?: number | undefined }
type Compare = (comparisons: readonly Comparison[], watch?: Watch) => Promise<Answered[][]>

/** The two answers of a comparison as they are shown, in each order that is asked. */
function shown({ a, b, order = 'both' }: Comparison): (readonly [string, string])[] {
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
        shown(comparison).map(([first, second]) => ({
          messages: wording.compare(
            ...([comparison.axis, comparison.prompt, first, second] as const),
            comparison.principle?.principle,
          ),
          options: LETTERS,
        })),
      ),
      watch,
    )

/** A comparison in writing, decoded greedily; then the letter, given what was written (Lee et al. 2023, section 2.1). */
export const compareInWriting =
  (respondent: Respondent, wording: Wording, { maxTokens, clamp }: Rationale): Compare =>
  async (comparisons, watch = {}) => {
    const explained = comparisons.map((comparison) =>
      shown(comparison).map(([first, second]) =>
        wording.explain(
          ...([comparison.axis, comparison.prompt, first, second] as const),
          comparison.principle?.principle,
        ),
      ),
    )
    const { signal } = watch
    const written = await respondent.write(
      explained.flat().map(({ question }) => ({ messages: question, maxTokens })),
      { signal },
    )
    let at = 0
    const texts = explained.map(({ length }) => written.slice(at, (at += length)))
    // a comparison without its rationale in one order has no verdict: its other order is not paid for
    const open = texts.flatMap((own, i) => (own.every(({ ok }) => ok) ? [i] : []))
    const choices = await respondent.choose(
      open.map((i) =>
        (explained[i] ?? []).map(({ question, said, verdict }, k) => {
          const text = texts[i]?.[k]
          const turn = said(text?.ok === true ? text.text : '')
          return { messages: [...question, turn, verdict], options: LETTERS }
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
        return { ...choice, cached, rationale: text.text, clamp }
      })
    })
    return answers
  }

const SCORES = ['1', '2', '3', '4', '5', '6', '7', '8', '9', '10'] as const

/** One question for each answer and criterion; those of one answer are answered together or not at all. */
export async function scoreAnswers(
  respondent: Respondent,
  wording: Wording,
  answers: readonly Scored[],
  watch?: Watch,
): Promise<ScoreVerdict[]> {
  const choices = await respondent.choose(
    answers.map(({ axis, prompt, answer, rubric }) =>
      (rubric?.map((criterion) => ({ axis, criterion })) ?? [{ axis }]).map((aim) => ({
        messages: wording.score(aim, prompt, answer),
        options: SCORES,
      })),
    ),
    watch,
  )
  return choices.map((given, i): ScoreVerdict => {
    const { axis = 'helpfulness', rubric = undefined } = answers[i] ?? {}
    const criteria: Extract<ScoreVerdict, { ok: true }>['criteria'] = []
    for (const [k, choice] of given.entries()) {
      if (!choice.ok) return choice
      const { name, weight } = rubric?.[k] ?? { name: axis, weight: 1 }
      const { probabilities } = choice
      criteria.push({ name, weight, score: expectedScore(probabilities), probabilities })
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
