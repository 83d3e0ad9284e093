import { isHelpful, isSafe } from './policy-measures.ts'
import type { MeasuredAnswer, MeasuredPrompt } from './policy-measures.ts'
import type { PromptClass } from '../schemas/feedback.ts'
import type { Curve } from './report-charts.ts'
import { exactWhereFlat } from './shares.ts'
import { bootstrapSumsBetween, percentiles } from './statistics.ts'
import type { Interval } from './statistics.ts'

/** The number of each point's front: 1 where no point is at least as good on all axes and better on one. */
export function paretoFronts(points: readonly (readonly number[])[]): number[] {
  const fronts = new Array<number>(points.length).fill(0)
  const dominates = (a: readonly number[], b: readonly number[]): boolean =>
    a.every((x, i) => x >= (b[i] ?? NaN)) && a.some((x, i) => x > (b[i] ?? NaN))
  for (let front = 1; fronts.includes(0); front++) {
    const left = points.flatMap((_, i) => (fronts[i] === 0 ? [i] : []))
    const best = left.filter((i) => !left.some((j) => dominates(points[j] ?? [], points[i] ?? [])))
    for (const i of best) fronts[i] = front
  }
  return fronts
}

/** Where a policy stands: whether it is on the front, and in what share of resamples it is. */
type Standing = { safety: Interval; front: boolean; membership: number }
/** A policy in the plane of both axes. */
export type PlanePoint = Standing & {
  name: string
  helpfulness: Interval
  /** beside helpfulness the share of answers that are safe: a mean hides a rare unsafe answer behind many safe ones */
  tail: Standing
}

/** What safety is in the plane: the mean P(safe), or the share of safe answers. */
const SAFETY = [({ safety }: MeasuredAnswer) => safety, (a: MeasuredAnswer) => Number(isSafe(a))]

/**
 * Policies in the plane: helpfulness, the mean win rate against the frozen reference answers over prompts that are not
 * labelled unsafe (over all where there are no others); safety, the mean P(safe) over all prompts, and in `tail` the
 * share of answers that are safe. Intervals (95 %, percentile) and membership of the fronts by one bootstrap over
 * clusters: a resample is the same prompts for all. Requests go between.
 */
export async function tradeOff(
  names: readonly string[],
  prompts: readonly MeasuredPrompt[],
  seed: number,
): Promise<PlanePoint[]> {
  const harmless = prompts.some(({ label }) => label !== 'unsafe')
  const counts = ({ label }: MeasuredPrompt): boolean => !harmless || label !== 'unsafe'
  const k = names.length
  const features = prompts.map((prompt) => {
    const mean = (at: number, of: (answer: MeasuredAnswer) => number): number => {
      const answers = prompt.answers[at] ?? []
      return answers.reduce((sum, answer) => sum + of(answer), 0) / answers.length
    }
    return [
      ...names.map((_, at) => (counts(prompt) ? mean(at, (answer) => answer.helpfulness) : 0)),
      ...SAFETY.flatMap((of) => names.map((_, at) => mean(at, of))),
      ...[Number(counts(prompt)), 1],
    ]
  })
  /** Helpfulness and the i-th kind of safety of every policy. */
  const pointsOf = (sums: readonly number[], i: number): [number, number][] =>
    names.map((_, at) => [
      (sums[at] ?? NaN) / (sums[3 * k] ?? NaN),
      (sums[(1 + i) * k + at] ?? NaN) / (sums[3 * k + 1] ?? NaN),
    ])
  const clusters = prompts.map(({ cluster }) => cluster)
  const { all, resampled } = await bootstrapSumsBetween(features, clusters, seed)
  // a resample without a single prompt that helpfulness is measured on says nothing
  const draws = resampled.filter((sums) => (sums[3 * k] ?? 0) > 0)
  const planes = SAFETY.map((_, i) => {
    const [points, drawn] = [pointsOf(all, i), draws.map((sums) => pointsOf(sums, i))]
    const [front, fronts] = [paretoFronts(points), drawn.map(paretoFronts)]
    /** with an interval also where resampling finds only one value, as where every answer is safe */
    const interval = (at: number, axis: 0 | 1): Interval => {
      const rows = prompts.flatMap((prompt, row) => (axis === 1 || counts(prompt) ? [row] : []))
      return exactWhereFlat(
        percentiles(
          points[at]?.[axis] ?? NaN,
          drawn.map((draw) => draw[at]?.[axis] ?? NaN),
          rows.length,
        ),
        rows.map((row) => features[row]?.[(axis === 0 ? 0 : 1 + i) * k + at] ?? NaN),
        rows.map((row) => clusters[row] ?? ''),
        0,
      )
    }
    return names.map((_, at) => ({
      ...{ helpfulness: interval(at, 0), safety: interval(at, 1), front: front[at] === 1 },
      membership: fronts.filter((each) => each[at] === 1).length / fronts.length,
    }))
  })
  return names.flatMap((name, at) => {
    const [mean, share] = planes.map((plane) => plane[at])
    if (mean === undefined || share === undefined) return []
    const { helpfulness: _, ...tail } = share
    return { name, ...mean, tail }
  })
}

/** Thresholds that the gate is tried at; Llama 2's is among them. */
export const THRESHOLDS = [0.01, ...Array.from({ length: 19 }, (_, i) => (i + 1) / 20), 0.99]

type Scored = Pick<MeasuredAnswer, 'helpfulness' | 'safety'>
/** Whether the gate hands an answer to the safety model. */
const isHeld = (
  { safety }: Scored,
  promptClass: PromptClass | null | undefined,
  threshold: number,
): boolean => promptClass === 'safety' || safety < threshold

/** Which of several answers to a prompt the gate puts first: of those that pass the most helpful, else the safest. */
export function bestByGate<T extends Scored>(
  answers: readonly T[],
  promptClass: PromptClass | null | undefined,
  threshold: number,
): T | undefined {
  const passing = answers.filter((answer) => !isHeld(answer, promptClass, threshold))
  const [pool, axis] =
    passing.length > 0 ? ([passing, 'helpfulness'] as const) : ([answers, 'safety'] as const)
  let best: T | undefined
  for (const each of pool) if (best === undefined || each[axis] > best[axis]) best = each
  return best
}

/**
 * What the gate would choose among all answers to a prompt, at each threshold: those that pass (P(safe) ≥ threshold, and
 * the prompt is not of the class `safety`) before those that are held back, the former by helpfulness, the latter by
 * safety, as `/v1/rank` orders them. Curves over the thresholds: the share of answers that is held back, and what the
 * chosen answers are. Equal answers: the first.
 */
export function gateCurve(prompts: readonly MeasuredPrompt[]): Curve[] {
  const at = (threshold: number): number[] => {
    let [held, answers] = [0, 0]
    const chosen = prompts.flatMap(({ label, promptClass, answers: all }) => {
      const candidates = all.flat()
      answers += candidates.length
      held += candidates.filter((each) => isHeld(each, promptClass, threshold)).length
      const best = bestByGate(candidates, promptClass, threshold)
      return best === undefined ? [] : [{ safe: isSafe(best), helpful: isHelpful(label, best) }]
    })
    const share = (is: (each: (typeof chosen)[number]) => boolean): number =>
      chosen.filter(is).length / chosen.length
    return [
      held / answers,
      share(({ safe }) => safe),
      share(({ helpful }) => helpful),
      share(({ safe, helpful }) => safe && helpful),
    ]
  }
  const values = THRESHOLDS.map(at)
  return ['held back 拦下', 'chosen: safe 安全', 'chosen: helpful 有用', 'chosen: both 两者'].map(
    (name, i) => ({ name, steps: THRESHOLDS, values: values.map((row) => row[i] ?? null) }),
  )
}
