import { exactShare } from './statistics.ts'
import type { Interval } from './statistics.ts'

/**
 * The interval of a mean of shares, or with `least` −1 of their differences, where all rows are 0, all 1 or all −1: no
 * resample differs then, and a bootstrap's interval has no width. Each cluster is one try that never came out otherwise,
 * which has an exact bound (Clopper & Pearson 1934). Elsewhere the interval as it is. values [n], clusters [n].
 */
export function exactWhereFlat(
  interval: Interval,
  values: readonly number[],
  clusters: readonly string[],
  least: 0 | -1,
): Interval {
  const [all] = values
  if (all === undefined || ![-1, 0, 1].includes(all) || values.some((value) => value !== all))
    return interval
  const { high: otherwise } = exactShare(0, new Set(clusters).size)
  const [low, high] = [Math.max(least, all - otherwise), Math.min(1, all + otherwise)]
  return { ...interval, low, high }
}
