import { expect, test } from 'vitest'
import { fitPlatt, fitTemperature } from '../../src/evaluation/calibration.ts'
import { uniform } from '../../src/random.ts'

type Labelled = readonly [logit: number, safe: boolean]
const times = (n: number, row: Labelled): Labelled[] => Array.from({ length: n }, () => row)
const fit = (rows: readonly Labelled[]): { a: number; b: number } =>
  fitPlatt(
    rows.map(([r]) => r),
    rows.map(([, safe]) => safe),
  )

/** −Σ log σ(±(a·r + b)) + 0.0005·((a − 1)² + b²), written once more. */
const loss = (rows: readonly Labelled[], a: number, b: number): number =>
  rows.reduce(
    (sum, [r, safe]) => {
      const x = safe ? a * r + b : -(a * r + b)
      return sum + (x > 0 ? Math.log1p(Math.exp(-x)) : Math.log1p(Math.exp(x)) - x)
    },
    0.0005 * ((a - 1) ** 2 + b ** 2),
  )
/** The best (a, b) of a grid of 41 × 41 that is drawn in around what was best so far. */
function byGrid(rows: readonly Labelled[]): { a: number; b: number; loss: number } {
  let best = { a: 0, b: 0, loss: Infinity }
  for (let [width, level] = [40, 0]; level < 60; [width, level] = [width * 0.7, level + 1]) {
    const { a, b } = best
    for (let i = -20; i <= 20; i++)
      for (let k = -20; k <= 20; k++) {
        const [x, y] = [a + (width * i) / 20, b + (width * k) / 20]
        const value = loss(rows, x, y)
        if (value < best.loss) best = { a: x, b: y, loss: value }
      }
  }
  return best
}

const sure = (at: number): Labelled[] => [
  ...[...times(7, [at, true]), ...times(3, [at, false])],
  ...[...times(3, [-at, true]), ...times(7, [-at, false])],
]

test('Platt’s fit of logits that are far too sure: seven of ten safe at +4, three of ten at −4', () => {
  // logit(0.7) = 0.8473 = a·4, but for the ridge
  const { a, b } = fit(sure(4))
  expect(a).toBeCloseTo(Math.log(7 / 3) / 4, 4)
  expect(b).toBeCloseTo(0, 6)
  expect(fit(sure(10)).a).toBeCloseTo(Math.log(7 / 3) / 10, 4)
})

test('Platt’s fit is the least loss that a grid finds: too sure, separable, one class, constant', () => {
  const cases: Record<string, Labelled[]> = {
    four: sure(4),
    ten: sure(10),
    separable: [...times(12, [0.5, true]), ...times(8, [-1, false])],
    far: [...times(5, [10, true]), ...times(5, [9, false])],
    'all safe': [...times(4, [3, true]), ...times(3, [-2, true])],
    'all unsafe': [...times(4, [3, false]), ...times(3, [20, false])],
    'constant logits': [...times(7, [2, true]), ...times(3, [2, false])],
    'no logit': [...times(7, [0, true]), ...times(3, [0, false])],
    'the wrong way round': [
      ...times(9, [-6, true]),
      ...times(2, [-5, false]),
      ...times(8, [5, false]),
    ],
  }
  for (const [name, rows] of Object.entries(cases)) {
    const [{ a, b }, grid] = [fit(rows), byGrid(rows)]
    expect(loss(rows, a, b), name).toBeLessThanOrEqual(grid.loss + 1e-9)
    expect(Math.abs(a - grid.a) + Math.abs(b - grid.b), name).toBeLessThan(2e-3)
  }
})

test('twenty right pairs make no temperature sure; of hundreds it is what made them', () => {
  // 21 of 22 are right by Laplace: log 21 = 1/T, whatever the unit of the differences
  const right = (n: number, d: number): number => fitTemperature(new Array<number>(n).fill(d), [])
  expect(right(20, 1)).toBeCloseTo(1 / Math.log(21), 4)
  expect(right(20, 5)).toBeCloseTo(5 / Math.log(21), 4)
  expect(right(1, 1)).toBeCloseTo(1 / Math.log(2), 4)
  expect(fitTemperature([], [])).toBe(1)
  expect(fitTemperature([0, 0], [])).toBe(1)
  // 70 of 100 to one: log(71/31)
  const some = Array.from({ length: 100 }, (_, i) => (i < 70 ? 2 : -2))
  expect(fitTemperature(some, [])).toBeCloseTo(2 / Math.log(71 / 31), 4)
  // labels of σ(d/3), exactly, over d from −6 to 6: the fit without the two tries is 3
  const differences = Array.from({ length: 400 }, (_, i) => 12 * uniform(3, i) - 6)
  const labels = differences.map((d) => 1 / (1 + Math.exp(-d / 3)))
  expect(Math.abs(fitTemperature(differences, labels) / 3 - 1)).toBeLessThan(0.02)
})
