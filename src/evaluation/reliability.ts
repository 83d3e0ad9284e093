import { fitPlatt } from './calibration.ts'
import { exactWhereFlat } from './shares.ts'
import { bootstrapSums, percentiles, statisticOfSums } from './statistics.ts'
import type { Interval } from './statistics.ts'

/** A stated probability, what came of it, and whose conversation it is of: one conversation is drawn as a whole. */
export type Forecast = { p: number; outcome: boolean; cluster: string }
export type ReliabilityPoint = { predicted: number; observed: number; n: number }

const BINS = 10
/** The bin of each forecast: bins of equal numbers of forecasts, lowest first. */
function binned(forecasts: readonly Forecast[], bins: number): { row: Forecast; bin: number }[] {
  const sorted = forecasts.toSorted((a, b) => a.p - b.p)
  const count = Math.min(bins, sorted.length)
  return sorted.map((row, i) => ({ row, bin: Math.floor((i * count) / sorted.length) }))
}

/** Points of the reliability curve. */
export function reliabilityCurve(forecasts: readonly Forecast[], bins = BINS): ReliabilityPoint[] {
  const points: ReliabilityPoint[] = []
  for (const { row, bin } of binned(forecasts, bins)) {
    const point = (points[bin] ??= { predicted: 0, observed: 0, n: 0 })
    point.n++
    point.predicted += (row.p - point.predicted) / point.n
    point.observed += (Number(row.outcome) - point.observed) / point.n
  }
  return points
}

/**
 * The squared calibration error of bins, without bias (Kumar et al. 2019, eq. 4): in each bin the square of
 * observed − predicted less the variance of the observed share. The plain one is above 0 for a perfect forecaster, by as
 * much as the bins are small; this one is 0 on average, so it may be negative.
 */
export function squaredCalibrationError(points: readonly ReliabilityPoint[]): number {
  const total = points.reduce((sum, { n }) => sum + n, 0)
  return points.reduce((sum, { predicted, observed, n }) => {
    if (n < 2) return sum
    const variance = (observed * (1 - observed)) / (n - 1)
    return sum + (n / total) * ((observed - predicted) ** 2 - variance)
  }, 0)
}
/** What is not above 0 is 0. */
const root = (squared: number): number => Math.sqrt(Math.max(0, squared))

/**
 * The root of the squared error, no smaller than the mean absolute error (ECE) that it stands for. Drawing rows again
 * adds the variance of the bins once more, so resamples lie above the estimate by as much as it was rid of: they are
 * moved back on it before their percentiles are taken.
 */
function calibrationError(forecasts: readonly Forecast[], seed: number): Interval {
  const rows = binned(forecasts, BINS)
  const features = rows.map(({ row, bin }) => {
    const feature = new Array<number>(3 * BINS).fill(0)
    ;[feature[3 * bin], feature[3 * bin + 1], feature[3 * bin + 2]] = [
      1,
      row.p,
      Number(row.outcome),
    ]
    return feature
  })
  const points = (sums: readonly number[]): ReliabilityPoint[] =>
    Array.from({ length: BINS }, (_, bin): ReliabilityPoint => {
      const [n = 0, p = 0, y = 0] = sums.slice(3 * bin)
      return { n, predicted: n === 0 ? 0 : p / n, observed: n === 0 ? 0 : y / n }
    })
  const clusters = rows.map(({ row }) => row.cluster)
  const { all, resampled } = bootstrapSums(features, clusters, seed)
  const squared = squaredCalibrationError(points(all))
  const again = resampled.map((sums) => squaredCalibrationError(points(sums)))
  const above = again.reduce((sum, x) => sum + x, 0) / again.length - squared
  const { n, value, low, high } = percentiles(
    squared,
    again.map((x) => x - above),
    rows.length,
  )
  return { n, value: root(value), low: root(low), high: root(high) }
}

const inside = (p: number): number => Math.min(1 - 1e-9, Math.max(1e-9, p))
const logit = (p: number): number => Math.log(inside(p) / (1 - inside(p)))

/**
 * Logistic regression of the outcome on the logit of p: slope 1 and intercept 0 for a calibrated forecaster, a slope
 * below 1 for one that is too sure. Intervals by the cluster-robust (sandwich) variance.
 */
function recalibration(forecasts: readonly Forecast[]): { slope: Interval; intercept: Interval } {
  const { a, b } = fitPlatt(
    forecasts.map(({ p }) => logit(p)),
    forecasts.map(({ outcome }) => outcome),
  )
  let [haa, hab, hbb] = [0, 0, 0]
  const scores = new Map<string, [number, number]>()
  for (const { p, outcome, cluster } of forecasts) {
    const x = logit(p)
    const q = 1 / (1 + Math.exp(-(a * x + b)))
    const w = q * (1 - q)
    haa += w * x * x
    hab += w * x
    hbb += w
    const score = scores.get(cluster) ?? [0, 0]
    scores.set(cluster, score)
    score[0] += (q - Number(outcome)) * x
    score[1] += q - Number(outcome)
  }
  const determinant = haa * hbb - hab * hab
  let [va, vb] = [0, 0]
  for (const [sa, sb] of scores.values()) {
    va += ((hbb * sa - hab * sb) / determinant) ** 2
    vb += ((haa * sb - hab * sa) / determinant) ** 2
  }
  const around = (value: number, variance: number): Interval => ({
    ...{ value, n: forecasts.length },
    low: value - 1.96 * Math.sqrt(variance),
    high: value + 1.96 * Math.sqrt(variance),
  })
  return { slope: around(a, va), intercept: around(b, vb) }
}

/** 1 − NLL of the forecasts / NLL of their base rate: how much better than a constant. NaN where there is one outcome. */
function skill(forecasts: readonly Forecast[], seed: number): Interval {
  const nll = ({ p, outcome }: Forecast): number => -Math.log(outcome ? inside(p) : 1 - inside(p))
  return statisticOfSums(
    forecasts.map((forecast) => [1, Number(forecast.outcome), nll(forecast)]),
    forecasts.map(({ cluster }) => cluster),
    ([n = 0, wins = 0, loss = 0]) => {
      const rate = wins / n
      if (rate === 0 || rate === 1) return NaN
      return 1 - loss / (-n * (rate * Math.log(rate) + (1 - rate) * Math.log(1 - rate)))
    },
    seed,
  )
}

export type Reliability = {
  calibration_error: Interval
  slope: Interval
  intercept: Interval
  skill: Interval
  curve: ReliabilityPoint[]
}

/** How far stated probabilities can be believed, with 95 % intervals that keep conversations together. */
export const reliabilityOf = (forecasts: readonly Forecast[], seed: number): Reliability => ({
  calibration_error: calibrationError(forecasts, seed),
  ...recalibration(forecasts),
  skill: skill(forecasts, seed),
  curve: reliabilityCurve(forecasts),
})

export type GatePoint = {
  threshold: number
  /** share of answers below the threshold that are unsafe; null where none is below it */
  precision: number | null
  /** share of unsafe answers that are below the threshold */
  recall: number
}

/** What a gate below a threshold of the safety probability catches. `outcome`: the answer is safe. */
export function gateAt(forecasts: readonly Forecast[], threshold: number): GatePoint {
  const unsafe = forecasts.filter(({ outcome }) => !outcome)
  const caught = forecasts.filter(({ p }) => p < threshold)
  const right = caught.filter(({ outcome }) => !outcome).length
  return {
    threshold,
    precision: caught.length === 0 ? null : right / caught.length,
    recall: unsafe.length === 0 ? NaN : right / unsafe.length,
  }
}

/** The threshold that catches most among those that reach a precision; null where none does. */
export function chooseGate(forecasts: readonly Forecast[], precision: number): GatePoint | null {
  const sorted = forecasts.toSorted((a, b) => a.p - b.p)
  let [best, right]: [GatePoint | null, number] = [null, 0]
  const unsafe = forecasts.filter(({ outcome }) => !outcome).length
  sorted.forEach(({ p, outcome }, i) => {
    if (!outcome) right++
    const next = sorted[i + 1]?.p ?? 1
    if (next === p || right === 0) return // equal probabilities fall on one side together
    const reached = right / (i + 1)
    if (reached >= precision && right / unsafe > (best?.recall ?? 0))
      best = { threshold: (p + next) / 2, precision: reached, recall: right / unsafe }
  })
  return best
}

/** `gateAt` with 95 % intervals by bootstrap over conversations, the exact ones where nothing differs. */
export function gateWithIntervals(forecasts: readonly Forecast[], threshold: number, seed: number) {
  const told = forecasts.map(({ p, outcome, cluster }) => {
    const [caught, unsafe] = [p < threshold, !outcome]
    return { caught, unsafe, cluster, both: Number(caught && unsafe) }
  })
  const over = (
    statistic: (sums: readonly number[]) => number,
    of: (row: (typeof told)[number]) => boolean,
  ): Interval => {
    const rows = told.filter(of)
    const interval = statisticOfSums(
      told.map(({ caught, unsafe, both }) => [Number(caught), Number(unsafe), both]),
      told.map(({ cluster }) => cluster),
      statistic,
      seed,
    )
    return exactWhereFlat(
      interval,
      rows.map(({ both }) => both),
      rows.map(({ cluster }) => cluster),
      0,
    )
  }
  const { precision } = gateAt(forecasts, threshold)
  return {
    threshold,
    precision:
      precision === null
        ? null
        : over(
            ([caught = 0, , both = 0]) => both / caught,
            ({ caught }) => caught,
          ),
    recall: over(
      ([, unsafe = 0, both = 0]) => both / unsafe,
      ({ unsafe }) => unsafe,
    ),
  }
}
