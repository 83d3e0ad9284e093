import type { Interval } from './statistics.ts'

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

/**
 * The interval of a mean of values from `least` (−1 for differences of shares) to 1, where all are alike: no resample
 * differs then, and a bootstrap's interval has no width. Each cluster is one try that never came out otherwise, which
 * has an exact bound (Clopper & Pearson 1934), and those that would may lie at either end. Elsewhere the interval as it
 * is. values [n], clusters [n].
 */
export function exactWhereFlat(
  interval: Interval,
  values: readonly number[],
  clusters: readonly string[],
  least: 0 | -1,
): Interval {
  const [all] = values
  if (all === undefined || values.some((value) => value !== all)) return interval
  const { high: others } = exactShare(0, new Set(clusters).size)
  return { ...interval, low: all - (all - least) * others, high: all + (1 - all) * others }
}
