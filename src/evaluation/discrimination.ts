/** How well a score tells two kinds of rows apart, and what else it goes along with. */

/** Ranks 1…n; equals share the mean of theirs. */
function ranks(values: readonly number[]): Float64Array {
  const order = values.map((_, i) => i).sort((i, j) => (values[i] ?? 0) - (values[j] ?? 0))
  const out = new Float64Array(values.length)
  for (let from = 0; from < order.length;) {
    let to = from
    while (to < order.length && values[order[to] ?? 0] === values[order[from] ?? 0]) to++
    for (let k = from; k < to; k++) out[order[k] ?? 0] = (from + 1 + to) / 2
    from = to
  }
  return out
}

export type Detection = { score: number; positive: boolean }

/**
 * AUROC = P(score of a positive > score of a negative) + ½·P(equal), by rank sums (Mann & Whitney 1947). NaN where
 * one kind is missing.
 */
export function auroc(rows: readonly Detection[]): number {
  const positives = rows.filter(({ positive }) => positive).length
  const negatives = rows.length - positives
  const rank = ranks(rows.map(({ score }) => score))
  const sum = rows.reduce((total, { positive }, i) => total + (positive ? (rank[i] ?? 0) : 0), 0)
  return (sum - (positives * (positives + 1)) / 2) / (positives * negatives)
}

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

/** The largest recall of positives that some threshold reaches with at most this share of false alarms; NaN where one kind is missing. */
export function recallAt(rows: readonly Detection[], falsePositiveRate: number): number {
  const reached = rocCurve(rows).filter((point) => point.falsePositiveRate <= falsePositiveRate)
  const kinds = new Set(rows.map(({ positive }) => positive)).size
  return kinds < 2 ? NaN : Math.max(...reached.map(({ recall }) => recall))
}

/** Pearson's correlation; NaN where one side does not vary. x [n], y [n]. */
function correlation(x: ArrayLike<number>, y: ArrayLike<number>): number {
  const n = x.length
  let [mx, my] = [0, 0]
  for (let i = 0; i < n; i++) {
    mx += (x[i] ?? 0) / n
    my += (y[i] ?? 0) / n
  }
  let [xy, xx, yy] = [0, 0, 0]
  for (let i = 0; i < n; i++) {
    const [a, b] = [(x[i] ?? 0) - mx, (y[i] ?? 0) - my]
    xy += a * b
    xx += a * a
    yy += b * b
  }
  return xy / Math.sqrt(xx * yy)
}

/** Spearman's ρ: Pearson's correlation of ranks, ties at their mean rank. x [n], y [n]. */
export const spearman = (x: readonly number[], y: readonly number[]): number =>
  correlation(ranks(x), ranks(y))
