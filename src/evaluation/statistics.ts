import { uniform } from '../random.ts'

export type Interval = { value: number; low: number; high: number; n: number }

const BOOTSTRAPS = 1000

/**
 * Mean with a 95 % percentile interval by bootstrap over clusters (templates, conversations): rows of one cluster
 * stay together. values [n], clusters [n].
 */
export function clusteredMean(
  values: readonly number[],
  clusters: readonly string[],
  seed: number,
): Interval {
  const groups = new Map<string, { sum: number; n: number }>()
  values.forEach((value, i) => {
    const group = groups.get(clusters[i] ?? '') ?? { sum: 0, n: 0 }
    groups.set(clusters[i] ?? '', { sum: group.sum + value, n: group.n + 1 })
  })
  const list = [...groups.values()]
  const means = Array.from({ length: BOOTSTRAPS }, (_, b) => {
    let [sum, n] = [0, 0]
    for (let k = 0; k < list.length; k++) {
      const group = list[Math.floor(uniform(seed, 61, b, k) * list.length)]
      sum += group?.sum ?? 0
      n += group?.n ?? 0
    }
    return n === 0 ? 0 : sum / n
  }).sort((x, y) => x - y)
  const total = list.reduce((a, { sum }) => a + sum, 0)
  return {
    value: total / Math.max(1, values.length),
    low: means[Math.floor(0.025 * BOOTSTRAPS)] ?? NaN,
    high: means[Math.ceil(0.975 * BOOTSTRAPS) - 1] ?? NaN,
    n: values.length,
  }
}

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
