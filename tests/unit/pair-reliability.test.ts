import { expect, test } from 'vitest'
import { pairForecasts, pairReliability } from '../../src/evaluation/pair-reliability.ts'
import type { HeldOutPair } from '../../src/evaluation/pair-reliability.ts'
import { uniform } from '../../src/random.ts'
import { ensembleOf } from '../../src/services/human-study.ts'

const row = (i: number, chosen: number, rejected: number): HeldOutPair => ({
  pair: { axis: 'safety', prompt: [{ role: 'user', content: `${i}` }], chosen: 'a', rejected: 'b' },
  ...{ chosen, rejected, cluster: `${i}`, fold: i % 5 },
})
/** Pairs of a model whose differences d are three times too wide: the better one is the first with P = σ(d/3). */
const overconfident = Array.from({ length: 4000 }, (_, i) => {
  const d = 12 * uniform(1, i) - 6
  const first = uniform(2, i) < 1 / (1 + Math.exp(-d / 3))
  return row(i, first ? d : -d, 0)
})

test('the temperature of held-out pairs makes P(better) calibrated', () => {
  const { calibration_error, slope, intercept } = pairReliability(overconfident, 1)
  expect(slope.low).toBeLessThan(1)
  expect(slope.high).toBeGreaterThan(1)
  expect(slope.value).toBeCloseTo(1, 1)
  expect(calibration_error.value).toBeLessThan(0.03)
  expect(intercept.low).toBeLessThan(0)
  expect(intercept.high).toBeGreaterThan(0)
  const [forecast] = pairForecasts(overconfident, 1)
  const d = overconfident[0]?.chosen ?? NaN
  const p = forecast?.outcome === true ? (forecast.p ?? NaN) : 1 - (forecast?.p ?? NaN)
  // P(chosen is better) = σ(d/T), and T is near 3
  expect(d / Math.log(p / (1 - p))).toBeCloseTo(3, 0)
  const first = pairForecasts(overconfident, 1).filter(({ outcome }) => outcome).length
  expect(first / 4000).toBeCloseTo(0.5, 1)
})

test('no forecast knows its own outcome: a fold’s temperature comes of the others', () => {
  const turned = overconfident.map((each) =>
    each.fold === 0 ? { ...each, chosen: each.rejected, rejected: each.chosen } : each,
  )
  const [before, after] = [pairForecasts(overconfident, 1), pairForecasts(turned, 1)]
  before.forEach(({ p }, i) => {
    const other = after[i]?.p ?? NaN
    // of the turned pairs the same temperature, so exactly the other side of one half
    if (i % 5 === 0) expect(other).toBeCloseTo(1 - p, 12)
  })
})

test('several seeds as one: each in deviations of its own differences', () => {
  const held = (scale: number, rows: [number, number][]) => ({
    helpfulness: rows.map(([c, r], i) => row(i, scale * c, scale * r)),
    safety: [],
  })
  // the second is the first but for its scale and one pair that it finds the other way round
  const { helpfulness } = ensembleOf([
    held(1, [
      [1, 0],
      [0, 1],
      [3, 0],
    ]),
    held(10, [
      [1, 0],
      [1, 0],
      [3, 0],
    ]),
  ])
  const differences = helpfulness.map(({ chosen, rejected }) => chosen - rejected)
  const deviation = Math.sqrt((1 + 1 + 9) / 3)
  expect(differences).toHaveLength(3)
  ;[1 / deviation, 0, 3 / deviation].forEach((x, i) => expect(differences[i]).toBeCloseTo(x, 12))
})

test('soft labels are what forecasts are held against; turned rows the same, ties not at all', () => {
  // the model says σ(d), the labels say σ(d/3)
  const soft = (turned: boolean): HeldOutPair[] =>
    Array.from({ length: 3000 }, (_, i) => {
      const d = 12 * uniform(3, i) - 6
      const p = 1 / (1 + Math.exp(-d / 3))
      const [one, other] = [row(i, d, 0), row(i, 0, d)]
      return turned && i % 2 === 0
        ? { ...other, pair: { ...other.pair, probability: 1 - p } }
        : { ...one, pair: { ...one.pair, probability: p } }
    })
  for (const rows of [soft(false), soft(true)]) {
    const { slope, calibration_error } = pairReliability(rows, 1)
    expect(Math.abs(slope.value - 1)).toBeLessThan(0.12)
    expect(calibration_error.value).toBeLessThan(0.035)
  }
  const tie = row(1, 2, 0)
  expect(pairForecasts([{ ...tie, pair: { ...tie.pair, probability: 0.5 } }], 1)).toEqual([])
})
