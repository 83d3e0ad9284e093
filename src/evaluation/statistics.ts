import { uniform } from '../random.ts'

export type Interval = { value: number; low: number; high: number; n: number }

const BOOTSTRAPS = 1000

/** Means of values over resamples of whole clusters, unsorted. values [n], clusters [n]. */
function bootstrapMeans(
  values: readonly number[],
  clusters: readonly string[],
  seed: number,
): number[] {
  const groups = new Map<string, { sum: number; n: number }>()
  values.forEach((value, i) => {
    const group = groups.get(clusters[i] ?? '') ?? { sum: 0, n: 0 }
    groups.set(clusters[i] ?? '', { sum: group.sum + value, n: group.n + 1 })
  })
  const list = [...groups.values()]
  return Array.from({ length: BOOTSTRAPS }, (_, b) => {
    let [sum, n] = [0, 0]
    for (let k = 0; k < list.length; k++) {
      const group = list[Math.floor(uniform(seed, 61, b, k) * list.length)]
      sum += group?.sum ?? 0
      n += group?.n ?? 0
    }
    return n === 0 ? 0 : sum / n
  })
}

function summarise(values: readonly number[], means: readonly number[]): Interval {
  const sorted = means.toSorted((x, y) => x - y)
  return {
    value: values.reduce((a, b) => a + b, 0) / Math.max(1, values.length),
    low: sorted[Math.floor(0.025 * BOOTSTRAPS)] ?? NaN,
    high: sorted[Math.ceil(0.975 * BOOTSTRAPS) - 1] ?? NaN,
    n: values.length,
  }
}

/**
 * Mean with a 95 % percentile interval by bootstrap over clusters (templates, conversations): rows of one cluster
 * stay together. values [n], clusters [n].
 */
export const clusteredMean = (
  values: readonly number[],
  clusters: readonly string[],
  seed: number,
): Interval => summarise(values, bootstrapMeans(values, clusters, seed))

/** Mean of paired differences after − before, with its interval. */
export const pairedDifference = (
  before: readonly number[],
  after: readonly number[],
  clusters: readonly string[],
  seed: number,
): Interval =>
  clusteredMean(
    after.map((x, i) => x - (before[i] ?? 0)),
    clusters,
    seed,
  )

/**
 * The paired difference after − before with a two-sided p-value of "no difference".
 */
export function pairedTest(
  before: readonly number[],
  after: readonly number[],
  clusters: readonly string[],
  seed: number,
): Interval & { p: number } {
  const differences = after.map((x, i) => x - (before[i] ?? 0))
  const means = bootstrapMeans(differences, clusters, seed)
  return { ...summarise(differences, means), p: twoSided(means) }
}

/** Twice the smaller share of resampled differences on one side of 0; 0 itself counts for both, one is added to each. */
export function twoSided(resamples: readonly number[]): number {
  const side = (on: (x: number) => boolean): number =>
    (1 + resamples.filter(on).length) / (resamples.length + 1)
  const [below, above] = [side((x) => x <= 0), side((x) => x >= 0)]
  return Math.min(1, 2 * Math.min(below, above))
}

/** Holm's step-down correction: p-values that hold for all of them together. */
export function holm(ps: readonly number[]): number[] {
  const order = ps.map((p, i) => ({ p, i })).toSorted((a, b) => a.p - b.p)
  const corrected = new Array<number>(ps.length)
  let least = 0
  order.forEach(({ p, i }, rank) => {
    least = Math.max(least, Math.min(1, p * (ps.length - rank)))
    corrected[i] = least
  })
  return corrected
}

type Side = { values: readonly number[]; clusters: readonly string[] }
/** The difference of the means of two sets of rows that have nothing to do with each other. */
export function gap(a: Side, b: Side, seed: number): Interval {
  const [x, y] = [
    bootstrapMeans(a.values, a.clusters, seed),
    bootstrapMeans(b.values, b.clusters, (seed + 1) % 2 ** 31),
  ]
  const means = x.map((mean, i) => mean - (y[i] ?? 0))
  const of = ({ values }: Side): number => values.reduce((s, v) => s + v, 0) / values.length
  return {
    ...summarise([], means),
    value: of(a) - of(b),
    n: a.values.length + b.values.length,
  }
}

/** A value with the 95 % percentile interval of its resamples, without those on which it is not defined (NaN). */
export function percentiles(value: number, resamples: readonly number[], n: number): Interval {
  const sorted = resamples.filter((x) => !Number.isNaN(x)).toSorted((x, y) => x - y)
  return {
    ...{ value, n },
    low: sorted[Math.floor(0.025 * sorted.length)] ?? NaN,
    high: sorted[Math.ceil(0.975 * sorted.length) - 1] ?? NaN,
  }
}

/**
 * Any statistic of rows with a 95 % percentile interval by bootstrap over clusters. Resamples on which it is not
 * defined (NaN) are left out.
 */
export function clusteredStatistic<T>(
  rows: readonly T[],
  clusterOf: (row: T) => string,
  statistic: (rows: readonly T[]) => number,
  seed: number,
): Interval {
  const groups = new Map<string, T[]>()
  for (const row of rows) {
    const cluster = clusterOf(row)
    groups.set(cluster, [...(groups.get(cluster) ?? []), row])
  }
  const list = [...groups.values()]
  const values = Array.from({ length: BOOTSTRAPS }, (_, b) =>
    statistic(
      list.flatMap((_, k) => list[Math.floor(uniform(seed, 62, b, k) * list.length)] ?? []),
    ),
  )
  return percentiles(statistic(rows), values, rows.length)
}

/**
 * Sums of features over all rows, and over resamples of whole clusters [resamples][width]. features: one list of equal
 * length for each row. The same clusters and seed draw the same rows.
 */
export function bootstrapSums(
  features: readonly (readonly number[])[],
  clusters: readonly string[],
  seed: number,
  resamples = BOOTSTRAPS,
): { all: number[]; resampled: number[][] } {
  const width = features[0]?.length ?? 0
  const add = (to: number[], row: readonly number[]): void =>
    row.forEach((x, k) => (to[k] = (to[k] ?? 0) + x))
  const zeros = (): number[] => new Array<number>(width).fill(0)
  const groups = new Map<string, number[]>()
  const all = zeros()
  features.forEach((row, i) => {
    const cluster = clusters[i] ?? ''
    const group = groups.get(cluster) ?? zeros()
    groups.set(cluster, group)
    add(group, row)
    add(all, row)
  })
  const list = [...groups.values()]
  const resampled = Array.from({ length: resamples }, (_, b) => {
    const sums = zeros()
    for (let k = 0; k < list.length; k++)
      add(sums, list[Math.floor(uniform(seed, 63, b, k) * list.length)] ?? [])
    return sums
  })
  return { all, resampled }
}

/**
 * A statistic that needs only sums over rows, with a 95 % percentile interval by bootstrap over clusters: fast where
 * rows are many. features: what is summed, one list of equal length for each row.
 */
export function statisticOfSums(
  features: readonly (readonly number[])[],
  clusters: readonly string[],
  statistic: (sums: readonly number[]) => number,
  seed: number,
): Interval {
  const { all, resampled } = bootstrapSums(features, clusters, seed)
  return percentiles(statistic(all), resampled.map(statistic), features.length)
}

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
