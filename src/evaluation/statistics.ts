import { uniforms } from '../random.ts'

export type Interval = { value: number; low: number; high: number; n: number }

const BOOTSTRAPS = 1000

/** Drawn clusters in all: what more would take is drawn again each time. */
const MOST_KEPT = 2 ** 23
const drawn = new Map<string, Uint32Array[]>()
let kept = 0

/**
 * The clusters of the b-th resample, [G] of G, drawn by (seed, stream, b). Figures of one request draw the same ones, and
 * hashing them is what a bootstrap takes its time for: the newest are kept.
 */
export function resampleOf(
  G: number,
  b: number,
  seed: number,
  stream: number,
  most = MOST_KEPT,
): Uint32Array {
  const key = `${G} ${seed} ${stream}`
  const found = drawn.get(key)?.[b]
  if (found !== undefined) return found
  const draw = Uint32Array.from(uniforms(G, seed, stream, b), (u) => u * G)
  for (const [oldest, rows] of drawn) {
    if (kept + G <= most || oldest === key) break
    drawn.delete(oldest)
    kept -= rows.reduce((sum, row) => sum + row.length, 0)
  }
  if (kept + G > most) return draw
  const rows = drawn.get(key) ?? []
  drawn.set(key, rows)
  rows[b] = draw
  kept += G
  return draw
}

/** Streams of the draws of means, and of sums. */
export const STREAM = { means: 61, sums: 63 } as const

/** Draws resamples of clusters ahead and lets requests go between: figures that need them then find them kept. */
export async function drawAhead(
  clusters: readonly string[],
  seed: number,
  stream: (typeof STREAM)[keyof typeof STREAM],
): Promise<void> {
  const { size } = new Set(clusters)
  for (let b = 0; b < BOOTSTRAPS; b++) {
    resampleOf(size, b, seed, stream)
    if (b % 50 === 0) await new Promise(setImmediate)
  }
}

/** Clusters in the order in which they come. */
function placesOf(clusters: readonly string[]): Map<string, number> {
  const place = new Map<string, number>()
  for (const cluster of clusters) if (!place.has(cluster)) place.set(cluster, place.size)
  return place
}

/** Means of values over resamples of whole clusters, unsorted. values [n], clusters [n], how many rows each is of [n]. */
function bootstrapMeans(
  values: readonly number[],
  clusters: readonly string[],
  seed: number,
  weights?: readonly number[],
): number[] {
  const place = placesOf(clusters)
  const sums = new Float64Array(place.size)
  const counts = new Float64Array(place.size)
  values.forEach((value, i) => {
    const k = place.get(clusters[i] ?? '') ?? 0
    const w = weights?.[i] ?? 1
    sums[k] = (sums[k] ?? 0) + w * value
    counts[k] = (counts[k] ?? 0) + w
  })
  return Array.from({ length: BOOTSTRAPS }, (_, b) => {
    let [sum, n] = [0, 0]
    for (const k of resampleOf(place.size, b, seed, STREAM.means)) {
      sum += sums[k] ?? 0
      n += counts[k] ?? 0
    }
    return n === 0 ? 0 : sum / n
  })
}

function summarise(
  values: readonly number[],
  means: readonly number[],
  weights?: readonly number[],
): Interval {
  const sorted = means.toSorted((x, y) => x - y)
  const n = weights?.reduce((a, b) => a + b, 0) ?? values.length
  return {
    value: values.reduce((sum, value, i) => sum + (weights?.[i] ?? 1) * value, 0) / Math.max(1, n),
    low: sorted[Math.floor(0.025 * BOOTSTRAPS)] ?? NaN,
    high: sorted[Math.ceil(0.975 * BOOTSTRAPS) - 1] ?? NaN,
    n,
  }
}

/**
 * Mean with a 95 % percentile interval by bootstrap over clusters (templates, conversations): rows of one cluster
 * stay together. values [n], clusters [n]; weights [n]: of how many rows each value is the mean, by default one.
 */
export const clusteredMean = (
  values: readonly number[],
  clusters: readonly string[],
  seed: number,
  weights?: readonly number[],
): Interval => summarise(values, bootstrapMeans(values, clusters, seed, weights), weights)

/** Mean of paired differences after − before, with its interval; weights as of `clusteredMean`. */
export const pairedDifference = (
  before: readonly number[],
  after: readonly number[],
  clusters: readonly string[],
  seed: number,
  weights?: readonly number[],
): Interval =>
  clusteredMean(
    after.map((x, i) => x - (before[i] ?? 0)),
    clusters,
    seed,
    weights,
  )

/** The paired difference after − before with a two-sided p-value of "no difference"; weights as of `clusteredMean`. */
export function pairedTest(
  before: readonly number[],
  after: readonly number[],
  clusters: readonly string[],
  seed: number,
  weights?: readonly number[],
): Interval & { p: number } {
  const differences = after.map((x, i) => x - (before[i] ?? 0))
  const means = bootstrapMeans(differences, clusters, seed, weights)
  return { ...summarise(differences, means, weights), p: twoSided(means, clusters) }
}

/** What rounding leaves of equal figures: a smaller difference is none. */
export const ROUNDING = 1e-9

/**
 * Twice the smaller share of resampled differences on one side of 0; 0 itself counts for both, one is added to each. At
 * least 2·½^G, as turning the signs of G clusters at random says no more: the resamples of few are alike.
 */
export function twoSided(resamples: readonly number[], clusters: readonly string[]): number {
  const side = (on: (x: number) => boolean): number =>
    (1 + resamples.filter(on).length) / (resamples.length + 1)
  const [below, above] = [side((x) => x < ROUNDING), side((x) => x > -ROUNDING)]
  return Math.min(1, 2 * Math.max(Math.min(below, above), 0.5 ** new Set(clusters).size))
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

/** Values with the cluster of each. */
export type Side = { values: readonly number[]; clusters: readonly string[] }
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
  const list = grouped(rows, clusterOf)
  const values = Array.from({ length: BOOTSTRAPS }, (_, b) =>
    statistic(Array.from(resampleOf(list.length, b, seed, 62)).flatMap((k) => list[k] ?? [])),
  )
  return percentiles(statistic(rows), values, rows.length)
}

/** Rows by cluster, clusters in the order in which they come. */
export function grouped<T>(rows: readonly T[], clusterOf: (row: T) => string): T[][] {
  const groups = new Map<string, T[]>()
  for (const row of rows) {
    const cluster = clusterOf(row)
    const group = groups.get(cluster)
    if (group === undefined) groups.set(cluster, [row])
    else group.push(row)
  }
  return [...groups.values()]
}

/**
 * The same for a statistic that takes how often each row counts [n] instead of the rows: what it sorts, it sorts once.
 * clusters [n].
 */
export function weightedStatistic(
  clusters: readonly string[],
  statistic: (weights: Float64Array) => number,
  seed: number,
): Interval {
  const list = grouped(
    clusters.map((_, i) => i),
    (i) => clusters[i] ?? '',
  )
  const weights = new Float64Array(clusters.length)
  const values = Array.from({ length: BOOTSTRAPS }, (_, b) => {
    weights.fill(0)
    for (const k of resampleOf(list.length, b, seed, 62))
      for (const i of list[k] ?? []) weights[i] = (weights[i] ?? 0) + 1
    return statistic(weights)
  })
  return percentiles(statistic(weights.fill(1)), values, clusters.length)
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
  const { all, of } = sumsOf(features, clusters, seed)
  return { all, resampled: Array.from({ length: resamples }, (_, b) => of(b)) }
}

/** The same, and requests go between. */
export async function bootstrapSumsBetween(
  features: readonly (readonly number[])[],
  clusters: readonly string[],
  seed: number,
): Promise<{ all: number[]; resampled: number[][] }> {
  await drawAhead(clusters, seed, STREAM.sums)
  const { all, of } = sumsOf(features, clusters, seed)
  const resampled: number[][] = []
  for (let b = 0; b < BOOTSTRAPS; b++) {
    resampled.push(of(b))
    if (b % 20 === 0) await new Promise(setImmediate)
  }
  return { all, resampled }
}

/** Sums of all rows, and those of the b-th resample. */
function sumsOf(
  features: readonly (readonly number[])[],
  clusters: readonly string[],
  seed: number,
): { all: number[]; of: (b: number) => number[] } {
  const width = features[0]?.length ?? 0
  const place = placesOf(clusters)
  const all = new Float64Array(width)
  const groups = new Float64Array(place.size * width)
  features.forEach((row, i) => {
    const at = (place.get(clusters[i] ?? '') ?? 0) * width
    for (let c = 0; c < width; c++) {
      const x = row[c] ?? 0
      groups[at + c] = (groups[at + c] ?? 0) + x
      all[c] = (all[c] ?? 0) + x
    }
  })
  const of = (b: number): number[] => {
    const sums = new Float64Array(width)
    for (const k of resampleOf(place.size, b, seed, STREAM.sums))
      for (let c = 0; c < width; c++) sums[c] = (sums[c] ?? 0) + (groups[k * width + c] ?? 0)
    return Array.from(sums)
  }
  return { all: Array.from(all), of }
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
