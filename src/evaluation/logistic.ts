import { permutation } from '../random.ts'

/** A sparse vector: places and values. */
export type Sparse = { at: readonly number[]; x: readonly number[] }

export const sparse = (values: ReadonlyMap<number, number>): Sparse => ({
  at: [...values.keys()],
  x: [...values.values()],
})

export const dot = (weights: Float64Array, { at, x }: Sparse): number =>
  at.reduce((sum, place, k) => sum + (x[k] ?? 0) * (weights[place] ?? 0), 0)

const EPOCHS = 20

/**
 * Bradley–Terry on differences of features: w that minimises Σ log(1 + exp(−w·x)) + ridge/2·‖w‖², by stochastic dual
 * coordinate ascent (Shalev-Shwartz and Zhang 2013, 6.2). No step size; the order is keyed. Twenty passes are enough for a
 * ridge of 30 and more; a weaker one wants more of them.
 */
export function fitDifferences(
  differences: readonly Sparse[],
  size: number,
  ridge: number,
): Float64Array {
  const weights = new Float64Array(size)
  const dual = new Float64Array(differences.length)
  const norms = differences.map(({ x }) => x.reduce((sum, v) => sum + v * v, 0))
  for (let epoch = 0; epoch < EPOCHS; epoch++)
    for (const i of permutation(differences.length, 91, epoch)) {
      const row = differences[i]
      if (row === undefined) continue
      const before = dual[i] ?? 0
      const wanted = 1 / (1 + Math.exp(dot(weights, row)))
      const change = (wanted - before) / Math.max(1, 0.25 + (norms[i] ?? 0) / ridge)
      dual[i] = before + change
      row.at.forEach((place, k) => {
        weights[place] = (weights[place] ?? 0) + (change * (row.x[k] ?? 0)) / ridge
      })
    }
  return weights
}
