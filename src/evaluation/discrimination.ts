/** How well a score tells two kinds of rows apart, and what else it goes along with. */

type Weights = ArrayLike<number>
const once = (n: number): Weights => new Float64Array(n).fill(1)

/** Places of values from the least on. */
const orderOf = (values: readonly number[]): Uint32Array =>
  Uint32Array.from(values, (_, i) => i).sort((i, j) => (values[i] ?? 0) - (values[j] ?? 0))

/** Ranks 1…Σw of values of which each counts w times; equals share the mean of theirs. */
function ranks(values: readonly number[], order: Uint32Array, weights: Weights): Float64Array {
  const out = new Float64Array(values.length)
  let before = 0
  for (let from = 0; from < order.length;) {
    let [to, size] = [from, 0]
    while (to < order.length && values[order[to] ?? 0] === values[order[from] ?? 0])
      size += weights[order[to++] ?? 0] ?? 0
    for (let k = from; k < to; k++) out[order[k] ?? 0] = before + (1 + size) / 2
    before += size
    from = to
  }
  return out
}

export type Detection = { score: number; positive: boolean }

/**
 * AUROC = P(score of a positive > score of a negative) + ½·P(equal), by rank sums (Mann & Whitney 1947). NaN where
 * one kind is missing. What it returns takes how often each row counts.
 */
export function aurocOf(rows: readonly Detection[]): (weights: Weights) => number {
  const scores = rows.map(({ score }) => score)
  const order = orderOf(scores)
  return (weights) => {
    const rank = ranks(scores, order, weights)
    let [positives, negatives, sum] = [0, 0, 0]
    rows.forEach(({ positive }, i) => {
      const w = weights[i] ?? 0
      if (positive) positives += w
      else negatives += w
      if (positive) sum += w * (rank[i] ?? 0)
    })
    return (sum - (positives * (positives + 1)) / 2) / (positives * negatives)
  }
}
export const auroc = (rows: readonly Detection[]): number => aurocOf(rows)(once(rows.length))

export type RocPoint = { falsePositiveRate: number; recall: number }

/** The points of the ROC curve from (0, 0) to (1, 1), one for each distinct score as threshold (≥). */
export function rocCurve(rows: readonly Detection[]): RocPoint[] {
  const sorted = rows.toSorted((a, b) => b.score - a.score)
  const positives = rows.filter(({ positive }) => positive).length
  const negatives = rows.length - positives
  let [hits, alarms] = [0, 0]
  const points: RocPoint[] = [{ falsePositiveRate: 0, recall: 0 }]
  sorted.forEach(({ score, positive }, i) => {
    if (positive) hits++
    else alarms++
    if (score !== sorted[i + 1]?.score)
      points.push({ falsePositiveRate: alarms / negatives, recall: hits / positives })
  })
  return points
}

/**
 * The largest recall of positives that some threshold reaches with at most this share of false alarms; NaN where one
 * kind is missing. What it returns takes how often each row counts.
 */
export function recallOf(
  rows: readonly Detection[],
  falsePositiveRate: number,
): (weights: Weights) => number {
  const order = orderOf(rows.map(({ score }) => -score))
  return (weights) => {
    let [positives, negatives] = [0, 0]
    rows.forEach(({ positive }, i) => {
      if (positive) positives += weights[i] ?? 0
      else negatives += weights[i] ?? 0
    })
    if (positives === 0 || negatives === 0) return NaN
    let [hits, alarms, best] = [0, 0, 0]
    order.forEach((row, i) => {
      const { score, positive } = rows[row] ?? { score: NaN, positive: false }
      if (positive) hits += weights[row] ?? 0
      else alarms += weights[row] ?? 0
      // equal scores lie on one side of a threshold
      const ends = score !== rows[order[i + 1] ?? -1]?.score
      if (ends && alarms / negatives <= falsePositiveRate) best = hits / positives
    })
    return best
  }
}
export const recallAt = (rows: readonly Detection[], falsePositiveRate: number): number =>
  recallOf(rows, falsePositiveRate)(once(rows.length))

/** Whether rows that count differ; of equal ones rounding would leave a deviation that is none. */
function varies(x: Weights, weights: Weights): boolean {
  let first: number | null = null
  for (let i = 0; i < x.length; i++) {
    if (!weights[i]) continue
    first ??= x[i] ?? 0
    if (x[i] !== first) return true
  }
  return false
}

/** Pearson's correlation of rows of which each counts w times; NaN where one side does not vary. x [n], y [n]. */
function correlation(x: Weights, y: Weights, weights: Weights): number {
  if (!varies(x, weights) || !varies(y, weights)) return NaN
  let [n, mx, my] = [0, 0, 0]
  for (let i = 0; i < x.length; i++) n += weights[i] ?? 0
  for (let i = 0; i < x.length; i++) {
    mx += ((weights[i] ?? 0) * (x[i] ?? 0)) / n
    my += ((weights[i] ?? 0) * (y[i] ?? 0)) / n
  }
  let [xy, xx, yy] = [0, 0, 0]
  for (let i = 0; i < x.length; i++) {
    const [w, a, b] = [weights[i] ?? 0, (x[i] ?? 0) - mx, (y[i] ?? 0) - my]
    xy += w * a * b
    xx += w * a * a
    yy += w * b * b
  }
  return xy / Math.sqrt(xx * yy)
}

/** Spearman's ρ: Pearson's correlation of ranks, ties at their mean rank. x [n], y [n]; then how often each counts [n]. */
export function spearmanOf(x: readonly number[], y: readonly number[]): (w: Weights) => number {
  const [byX, byY] = [orderOf(x), orderOf(y)]
  return (weights) => correlation(ranks(x, byX, weights), ranks(y, byY, weights), weights)
}
export const spearman = (x: readonly number[], y: readonly number[]): number =>
  spearmanOf(x, y)(once(x.length))

/** The share of sorted values that lie below x, equal ones by half. */
export function shareBelow(x: number, sorted: ArrayLike<number>): number {
  /** how many come before the first that is none of those */
  const count = (is: (value: number) => boolean): number => {
    let [low, high] = [0, sorted.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if (is(sorted[middle] ?? NaN)) low = middle + 1
      else high = middle
    }
    return low
  }
  return (count((value) => value < x) + count((value) => value <= x)) / 2 / sorted.length
}
