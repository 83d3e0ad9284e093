import type { Interval } from './statistics.ts'

/** A round: KL to the reference in nats, and the gold score of its answers. */
export type GoldPoint = { kl: number; gold: number }
export type GaoFit = {
  alpha: Interval
  beta: Interval
  /** the fitted gold score at a distance √KL, with its interval */
  at(distance: number): Interval
  /** the distance √KL with the most gold, exp(α/β − 1); null where it can't be told yet */
  peak: Interval | null
}

const PARAMETERS = 3
/** Rounds fewer than this, or no further than this from the reference, show no curve. */
const FEWEST = 20
const LEAST_REACH = 0.3
/** The share of the way to a peak that must be behind the policy before the peak is told. */
const PASSED = 0.5
const MOST_CORRELATED = 0.97
/** Degrees of freedom that an interval has at least. */
const LEAST_FREE = 4

export const distanceOf = (kl: number): number => Math.sqrt(Math.max(0, kl))
const features = (d: number): number[] => [1, d, d > 0 ? -d * Math.log(d) : 0]

/**
 * Gao's curve of reinforcement learning: gold = g0 + d·(α − β·ln d), d = √KL (Gao et al. 2023, section 3.1), by least
 * squares over rounds. Rounds come one out of the other, so errors are taken for an AR(1) process (Prais–Winsten, its
 * correlation corrected for the few rounds), and the peak's interval is Fieller's of α/β. Null where there are too few
 * rounds or they stay too near the reference. It holds for one pair of reward models.
 */
export function fitGao(points: readonly GoldPoint[]): GaoFit | null {
  const rows = points.filter(({ kl, gold }) => Number.isFinite(kl) && Number.isFinite(gold))
  const n = rows.length
  const reach = Math.max(0, ...rows.map(({ kl }) => distanceOf(kl)))
  if (n < FEWEST || reach < LEAST_REACH) return null
  const x = rows.map(({ kl }) => features(distanceOf(kl)))
  const y = rows.map(({ gold }) => gold)
  const first = leastSquares(x, y)
  if (first === null) return null
  const errors = y.map((value, i) => value - dot(x[i] ?? [], first.coefficients))
  const squares = errors.reduce((sum, e) => sum + e * e, 0)
  const products = errors.slice(1).reduce((sum, e, i) => sum + e * (errors[i] ?? 0), 0)
  const raw = squares > 0 ? products / squares : 0
  // residuals of a fit with trends look less correlated than the errors are: about 2 for each coefficient and 3ρ of n
  const rho = Math.max(0, Math.min(MOST_CORRELATED, raw + (2 * PARAMETERS + 3 * raw) / n))
  const whiten = (values: readonly number[]): number[] =>
    values.map((v, i) => (i === 0 ? v * Math.sqrt(1 - rho * rho) : v - rho * (values[i - 1] ?? 0)))
  const columns = Array.from({ length: PARAMETERS }, (_, k) => whiten(x.map((row) => row[k] ?? 0)))
  const fit = leastSquares(
    rows.map((_, i) => columns.map((column) => column[i] ?? 0)),
    whiten(y),
  )
  if (fit === null) return null
  const { coefficients, covariance } = fit
  // correlated rounds say as much as this many free ones
  const free = (n * (1 - rho)) / (1 + rho)
  const t = studentT(Math.max(LEAST_FREE, free - PARAMETERS))
  const of = (w: readonly number[]): Interval => {
    const value = dot(w, coefficients)
    const half = t * Math.sqrt(quadratic(w, covariance))
    return { value, low: value - half, high: value + half, n }
  }
  const [alpha, beta] = [of([0, 1, 0]), of([0, 0, 1])]
  const peak = peakOf(coefficients, covariance, t, n)
  return {
    ...{ alpha, beta },
    at: (distance) => of(features(distance)),
    peak: peak !== null && reach >= PASSED * peak.value ? peak : null,
  }
}

/** Fieller's interval of α/β, as the distance exp(α/β − 1); null where β may be 0 or less. */
function peakOf(
  [, a = 0, b = 0]: readonly number[],
  covariance: readonly (readonly number[])[],
  t: number,
  n: number,
): Interval | null {
  const [vaa = 0, vab = 0, vbb = 0] = [covariance[1]?.[1], covariance[1]?.[2], covariance[2]?.[2]]
  const g = (t * t * vbb) / (b * b)
  if (b <= 0 || g >= 1) return null
  const ratio = a / b
  const middle = (ratio - (g * vab) / vbb) / (1 - g)
  const root = vaa - 2 * ratio * vab + ratio * ratio * vbb - g * (vaa - (vab * vab) / vbb)
  const half = ((t / b) * Math.sqrt(Math.max(0, root))) / (1 - g)
  const distance = (r: number): number => Math.exp(r - 1)
  return { value: distance(ratio), low: distance(middle - half), high: distance(middle + half), n }
}

const dot = (a: readonly number[], b: readonly number[]): number =>
  a.reduce((sum, v, i) => sum + v * (b[i] ?? 0), 0)
const quadratic = (w: readonly number[], m: readonly (readonly number[])[]): number =>
  w.reduce((sum, v, i) => sum + v * dot(m[i] ?? [], w), 0)
/** The 97.5 % quantile of Student's t (Fisher's expansion; within 0.2 % from 4 degrees of freedom on). */
function studentT(df: number): number {
  const z = 1.959963984540054
  const terms = [
    (z ** 3 + z) / 4,
    (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96,
    (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / 384,
    (79 * z ** 9 + 776 * z ** 7 + 1482 * z ** 5 - 1920 * z ** 3 - 945 * z) / 92160,
  ]
  return terms.reduce((sum, term, i) => sum + term / df ** (i + 1), z)
}

/** Least squares with the covariance of its coefficients, s²·(XᵀX)⁻¹; null where the columns say the same. */
function leastSquares(
  x: readonly (readonly number[])[],
  y: readonly number[],
): { coefficients: number[]; covariance: number[][] } | null {
  const k = x[0]?.length ?? 0
  const gram = Array.from({ length: k }, (_, i) =>
    Array.from({ length: k }, (_, j) => x.reduce((s, row) => s + (row[i] ?? 0) * (row[j] ?? 0), 0)),
  )
  const inverse = invert(gram)
  if (inverse === null) return null
  const right = Array.from({ length: k }, (_, i) =>
    x.reduce((sum, row, at) => sum + (row[i] ?? 0) * (y[at] ?? 0), 0),
  )
  const coefficients = inverse.map((row) => dot(row, right))
  const left = y.reduce((sum, v, i) => sum + (v - dot(x[i] ?? [], coefficients)) ** 2, 0)
  const variance = left / (y.length - k)
  return { coefficients, covariance: inverse.map((row) => row.map((v) => v * variance)) }
}

/** Gauss–Jordan with pivots; null for a singular matrix. */
function invert(matrix: readonly (readonly number[])[]): number[][] | null {
  const n = matrix.length
  const rows = matrix.map((row, i) => [...row, ...row.map((_, j) => Number(i === j))])
  for (let c = 0; c < n; c++) {
    const pivot = rows
      .slice(c)
      .reduce(
        (best, row, i) => (Math.abs(row[c] ?? 0) > Math.abs(rows[best]?.[c] ?? 0) ? c + i : best),
        c,
      )
    ;[rows[c], rows[pivot]] = [rows[pivot] ?? [], rows[c] ?? []]
    const own = rows[c] ?? []
    const head = own[c] ?? 0
    if (Math.abs(head) < 1e-12) return null
    own.forEach((v, j) => (own[j] = v / head))
    rows.forEach((row, i) => {
      if (i === c) return
      const factor = row[c] ?? 0
      row.forEach((v, j) => (row[j] = v - factor * (own[j] ?? 0)))
    })
  }
  return rows.map((row) => row.slice(n))
}
