import { clusteredMean, gap, grouped, pairedTest, ROUNDING } from './statistics.ts'
import type { Interval, Side } from './statistics.ts'

/** P(X ≤ k) of n tries of chance p. */
function atMost(k: number, n: number, p: number): number {
  let [logarithm, sum] = [n * Math.log1p(-p), 0]
  for (let i = 0; i <= k; i++) {
    sum += Math.exp(logarithm)
    logarithm += Math.log((n - i) / (i + 1)) + Math.log(p) - Math.log1p(-p)
  }
  return sum
}

/** A share k/n with its exact 95 % interval (Clopper & Pearson 1934): no bootstrap says anything of 0 or n. */
export function exactShare(k: number, n: number): Interval {
  /** where a probability that falls with p reaches 2.5 % */
  const bound = (falling: (p: number) => number): number => {
    let [low, high] = [0, 1]
    for (let step = 0; step < 50; step++) {
      const middle = (low + high) / 2
      if (falling(middle) > 0.025) low = middle
      else high = middle
    }
    return (low + high) / 2
  }
  return {
    ...{ value: n === 0 ? NaN : k / n, n },
    low: k === 0 ? 0 : 1 - bound((q) => atMost(n - k, n, q)),
    high: k === n ? 1 : bound((p) => atMost(k, n, p)),
  }
}

/** Whether every resample of whole clusters has the same mean: there is one cluster, or all are alike. */
function isFlat({ values, clusters }: Side): boolean {
  const groups = grouped(
    values.map((_, i) => i),
    (i) => clusters[i] ?? '',
  )
  const means = groups.map(
    (rows) => rows.reduce((sum, i) => sum + (values[i] ?? NaN), 0) / rows.length,
  )
  const [first = NaN] = means
  return means.every((mean) => Math.abs(mean - first) < ROUNDING)
}

/**
 * The interval of a mean of values from `least` (−1 for differences of shares) to `most`, where no resample differs as
 * all clusters are alike or there is only one: a bootstrap's has no width then. Each cluster is one try that never came
 * out otherwise, which has an exact bound (Clopper & Pearson 1934), and those that would may lie at either end.
 * Elsewhere the interval as it is. values [n], clusters [n].
 */
export function exactWhereFlat(
  interval: Interval,
  values: readonly number[],
  clusters: readonly string[],
  least: number,
  most = 1,
): Interval {
  if (values.length === 0 || !isFlat({ values, clusters })) return interval
  const { value } = interval
  const { high: others } = exactShare(0, new Set(clusters).size)
  return {
    ...interval,
    low: value - (value - least) * others,
    high: value + (most - value) * others,
  }
}

/** A mean of values from 0 to 1 with its interval, the exact one where nothing differs. values [n], clusters [n]. */
export const clusteredShare = (
  values: readonly number[],
  clusters: readonly string[],
  seed: number,
): Interval => exactWhereFlat(clusteredMean(values, clusters, seed), values, clusters, 0)

type Means = Interval & { p: number; before: Interval; after: Interval }
/**
 * Means before and after and their paired difference with its p. Those of values from 0 to `most` (shares: 1) have the
 * exact interval where nothing differs. before, after, clusters [n]; weights as of `clusteredMean`.
 */
export function comparedMeans(
  before: readonly number[],
  after: readonly number[],
  clusters: readonly string[],
  seed: number,
  { most, weights }: { most?: number | undefined; weights?: readonly number[] } = {},
): Means {
  const told = (interval: Interval, values: readonly number[], least: number): Interval =>
    most === undefined ? interval : exactWhereFlat(interval, values, clusters, least, most)
  const side = (values: readonly number[]): Interval =>
    told(clusteredMean(values, clusters, seed, weights), values, 0)
  const { p, ...difference } = pairedTest(before, after, clusters, seed, weights)
  const changes = after.map((x, i) => x - (before[i] ?? 0))
  return {
    ...told(difference, changes, -(most ?? 0)),
    ...{ p, before: side(before), after: side(after) },
  }
}

/**
 * The difference of two shares of rows that have nothing to do with each other. Where a side has nothing to resample its
 * exact limits stand in, put together by squares (Newcombe 1998, "Interval estimation for the difference").
 */
export function gapOfShares(a: Side, b: Side, seed: number): Interval {
  const interval = gap(a, b, seed)
  if (!isFlat(a) && !isFlat(b)) return interval
  const [x, y] = [
    clusteredShare(a.values, a.clusters, seed),
    clusteredShare(b.values, b.clusters, seed),
  ]
  return {
    ...interval,
    low: interval.value - Math.hypot(x.value - x.low, y.high - y.value),
    high: interval.value + Math.hypot(x.high - x.value, y.value - y.low),
  }
}
