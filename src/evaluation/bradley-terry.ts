/** Item i against item j: p = P(i is better), soft or hard; the mean of `weight` contests, by default of one. */
export type Contest = { i: number; j: number; p: number; weight?: number }
export type Strength = { value: number; low: number; high: number }

/** Of the prior: items that win everything stay finite, and the sum of strengths is 0. */
const RIDGE = 0.1

/**
 * Strengths θ [k] that maximise Σ p·log σ(θ_i − θ_j) + (1 − p)·log σ(θ_j − θ_i) − ½·0.1·Σθ² (Bradley & Terry 1952 with
 * a normal prior), by Newton's method, and 95 % intervals θ ± 1.96·√(H⁻¹)_ii from the curvature H there. They tell of
 * few comparisons, not of a judge's faults.
 */
export function fitBradleyTerry(k: number, contests: readonly Contest[]): Strength[] {
  const theta = new Array<number>(k).fill(0)
  let hessian = identity(k, RIDGE)
  for (let iteration = 0; iteration < 100; iteration++) {
    const gradient = theta.map((x) => RIDGE * x)
    hessian = identity(k, RIDGE)
    for (const { i, j, p, weight = 1 } of contests) {
      const won = 1 / (1 + Math.exp((theta[j] ?? 0) - (theta[i] ?? 0)))
      gradient[i] = (gradient[i] ?? 0) + weight * (won - p)
      gradient[j] = (gradient[j] ?? 0) - weight * (won - p)
      const w = weight * won * (1 - won)
      add(hessian, i, i, w)
      add(hessian, j, j, w)
      add(hessian, i, j, -w)
      add(hessian, j, i, -w)
    }
    const inverse = invert(hessian)
    const step = inverse.map((row) => row.reduce((sum, x, n) => sum + x * (gradient[n] ?? 0), 0))
    step.forEach((x, n) => (theta[n] = (theta[n] ?? 0) - x))
    if (Math.max(...step.map(Math.abs)) < 1e-10) break
  }
  const covariance = invert(hessian)
  return theta.map((value, n) => {
    const margin = 1.96 * Math.sqrt(covariance[n]?.[n] ?? NaN)
    return { value, low: value - margin, high: value + margin }
  })
}

/**
 * Circles, in which each beats the next and the last the first: all of three, from their smallest item on; and through
 * each item that is in none told so far, but in a longer one, a shortest such. So every item of a strongly connected part
 * of what beats what is told, and none else. Whoever has one has no order.
 */
export function circles(k: number, contests: readonly Contest[], tie: number): number[][] {
  const beats = Array.from({ length: k }, () => new Set<number>())
  for (const { i, j, p } of contests) {
    if (Math.abs(p - 0.5) < tie) continue
    beats[p > 0.5 ? i : j]?.add(p > 0.5 ? j : i)
  }
  const found: number[][] = []
  for (let i = 0; i < k; i++)
    for (const j of beats[i] ?? [])
      for (const l of beats[j] ?? []) if (beats[l]?.has(i) && i < j && i < l) found.push([i, j, l])
  const told = new Set(found.flat())
  for (let i = 0; i < k; i++) {
    const circle = told.has(i) ? null : shortestCircle(beats, i)
    if (circle === null) continue
    found.push(circle)
    for (const item of circle) told.add(item)
  }
  return found
}

/** A shortest circle through an item, from it on; null where nothing that it beats leads back to it. */
function shortestCircle(beats: readonly ReadonlySet<number>[], start: number): number[] | null {
  const seen = new Set([start])
  let paths = [[start]]
  while (paths.length > 0) {
    const back = paths.find((path) => beats[path.at(-1) ?? start]?.has(start))
    if (back !== undefined) return back
    paths = paths.flatMap((path) =>
      [...(beats[path.at(-1) ?? start] ?? [])].flatMap((next) => {
        if (seen.has(next)) return []
        seen.add(next)
        return [[...path, next]]
      }),
    )
  }
  return null
}

const identity = (k: number, value: number): number[][] =>
  Array.from({ length: k }, (_, i) => Array.from({ length: k }, (_, j) => (i === j ? value : 0)))

function add(matrix: number[][], i: number, j: number, x: number): void {
  const row = matrix[i]
  if (row !== undefined) row[j] = (row[j] ?? 0) + x
}

/** Gauss–Jordan; the matrices here are positive definite, so that no row has to be exchanged. */
function invert(matrix: readonly (readonly number[])[]): number[][] {
  const k = matrix.length
  const left = matrix.map((row) => [...row])
  const right = identity(k, 1)
  for (let i = 0; i < k; i++) {
    const pivot = left[i]?.[i] ?? NaN
    for (const side of [left, right]) side[i] = (side[i] ?? []).map((x) => x / pivot)
    for (let r = 0; r < k; r++) {
      const factor = left[r]?.[i] ?? 0
      if (r === i || factor === 0) continue
      for (const side of [left, right])
        side[r] = (side[r] ?? []).map((x, c) => x - factor * (side[i]?.[c] ?? 0))
    }
  }
  return right
}
