import type { Interval } from './statistics.ts'

/** Of the normal distribution, two-sided at 95 %. */
const Z = 1.959963984540054

/** The mean and its squared error, rows of one cluster together: G/(G−1)·Σ_g (Σ_{i∈g} (x_i − x̄))²/n². */
function clusterMean(
  values: readonly number[],
  clusters: readonly string[],
): { mean: number; variance: number } {
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length
  const sums = new Map<string, number>()
  values.forEach((x, i) => {
    const cluster = clusters[i] ?? ''
    sums.set(cluster, (sums.get(cluster) ?? 0) + x - mean)
  })
  const squares = [...sums.values()].reduce((sum, x) => sum + x * x, 0)
  const G = sums.size
  return { mean, variance: ((G / (G - 1)) * squares) / values.length ** 2 }
}

export type Judged = { cluster: string; judge: number }
export type Audited = Judged & { people: number }

/**
 * Prediction-powered mean (Angelopoulos et al. 2023, "Prediction-Powered Inference", algorithm 1): people's mean over
 * everything, from a judge's word on the rows that nobody audited and its error on those that people audited,
 *   θ = mean_N(f) + mean_n(y − f),   θ ± 1.96·√(Var_N(f)/N + Var_n(y − f)/n).
 * The judge's bias is taken off, and its error is inside the interval. Deviation: errors are robust to clusters (with
 * every row a cluster of its own they are the sample variances). `n` is the number of audited rows; it needs two
 * clusters on each side.
 */
export function predictionPowered(
  unaudited: readonly Judged[],
  audited: readonly Audited[],
): Interval {
  const predicted = clusterMean(
    unaudited.map(({ judge }) => judge),
    unaudited.map(({ cluster }) => cluster),
  )
  const rectifier = clusterMean(
    audited.map(({ people, judge }) => people - judge),
    audited.map(({ cluster }) => cluster),
  )
  const value = predicted.mean + rectifier.mean
  const margin = Z * Math.sqrt(predicted.variance + rectifier.variance)
  return { value, low: value - margin, high: value + margin, n: audited.length }
}
