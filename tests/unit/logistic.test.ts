import { expect, test } from 'vitest'
import { dot, fitDifferences, sparse } from '../../src/evaluation/logistic.ts'
import { normal, uniform } from '../../src/random.ts'

test('the gradient of the ridge regression is zero where the dual ascent ends', () => {
  const rows = Array.from({ length: 300 }, (_, i) => {
    const values = new Map(
      Array.from({ length: 6 }, (_, k) => [
        Math.floor(uniform(1, i, k) * 40),
        normal(2, i, k) + 0.2 * k,
      ]),
    )
    return sparse(values)
  })
  for (const ridge of [30, 100]) {
    const weights = fitDifferences(rows, 40, ridge)
    const gradient = Float64Array.from(weights, (w) => ridge * w)
    for (const row of rows) {
      const slope = 1 / (1 + Math.exp(dot(weights, row)))
      row.at.forEach(
        (place, k) => (gradient[place] = (gradient[place] ?? 0) - slope * (row.x[k] ?? 0)),
      )
    }
    const norm = (v: Float64Array): number => Math.sqrt(v.reduce((sum, x) => sum + x * x, 0))
    expect(norm(weights)).toBeGreaterThan(0.05)
    expect(norm(gradient)).toBeLessThan(0.01 * ridge * norm(weights))
  }
  expect(norm0(fitDifferences([], 3, 1))).toBe(0)
})
const norm0 = (v: Float64Array): number => v.reduce((sum, x) => sum + Math.abs(x), 0)
