import { expect, test } from 'vitest'
import {
  chooseGate,
  gateAt,
  gateWithIntervals,
  reliabilityCurve,
  reliabilityOf,
  squaredCalibrationError,
} from '../../src/evaluation/reliability.ts'
import type { Forecast } from '../../src/evaluation/reliability.ts'
import { uniform } from '../../src/random.ts'

/** Forecasts that say p, of which `truth(p)` come true. */
const drawn = (n: number, seed: number, truth: (p: number) => number): Forecast[] =>
  Array.from({ length: n }, (_, i) => {
    const p = 0.02 + 0.96 * uniform(seed, 1, i)
    return { p, outcome: uniform(seed, 2, i) < truth(p), cluster: String(i) }
  })
const mean = (values: readonly number[]): number =>
  values.reduce((a, b) => a + b, 0) / values.length

test('a perfect forecaster has no squared error on average, at 253 forecasts too', () => {
  const errors = Array.from({ length: 400 }, (_, s) =>
    squaredCalibrationError(reliabilityCurve(drawn(253, s, (p) => p))),
  )
  const deviation = Math.sqrt(mean(errors.map((e) => e * e)) / errors.length)
  expect(Math.abs(mean(errors))).toBeLessThan(3 * deviation)
  // the plain estimate would be some 10 bins · p(1 − p) / 253
  const plain = reliabilityCurve(drawn(253, 1, (p) => p)).reduce(
    (sum, { predicted, observed, n }) => sum + (n / 253) * (observed - predicted) ** 2,
    0,
  )
  expect(plain).toBeGreaterThan(10 * Math.abs(mean(errors)))
})

test('a known error is found: everything comes true a tenth less often than said', () => {
  const errors = Array.from({ length: 200 }, (_, s) =>
    squaredCalibrationError(reliabilityCurve(drawn(400, s, (p) => Math.max(0, p - 0.1)))),
  )
  // below p = 0.1 the error is p itself: 0.98·0.01 in all but for that twelfth
  expect(Math.sqrt(mean(errors))).toBeGreaterThan(0.093)
  expect(Math.sqrt(mean(errors))).toBeLessThan(0.1)
})

test('the interval of the error lies around it: what is drawn again adds no error', () => {
  // fifteen forecasts in each of ten bins, all 0.1 too low or too high: the truth is 0.1
  let [above, below] = [0, 0]
  for (let s = 0; s < 60; s++) {
    const rows = Array.from({ length: 150 }, (_, i): Forecast => {
      const p = (i + 0.5) / 150
      const outcome = uniform(s, 5, i) < (p < 0.5 ? p + 0.1 : p - 0.1)
      return { p, outcome, cluster: String(i) }
    })
    const { low, high, value } = reliabilityOf(rows, s).calibration_error
    expect(low).toBeLessThanOrEqual(value)
    expect(high).toBeGreaterThanOrEqual(value)
    if (low > 0.1) above++
    if (high < 0.1) below++
  }
  // 2.5 % on either side; with the variance counted once more one in eight lay above
  expect(above).toBeLessThanOrEqual(3)
  expect(below).toBeLessThanOrEqual(3)
}, 60_000)

test('slope, intercept and skill of one that is too sure', () => {
  const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x))
  const sure = drawn(4000, 3, (p) => sigmoid(0.5 * Math.log(p / (1 - p)) + 0.3))
  const { slope, intercept, calibration_error, curve } = reliabilityOf(sure, 1)
  expect(slope.low).toBeLessThan(0.5)
  expect(slope.high).toBeGreaterThan(0.5)
  expect(slope.high - slope.low).toBeLessThan(0.15)
  expect(intercept.low).toBeLessThan(0.3)
  expect(intercept.high).toBeGreaterThan(0.3)
  expect(calibration_error.low).toBeGreaterThan(0.05)
  expect(curve).toHaveLength(10)
  expect(curve.reduce((n, point) => n + point.n, 0)).toBe(4000)
  const rate = drawn(1000, 4, () => 0.3).map((f) => ({ ...f, p: 0.3 }))
  expect(Math.abs(reliabilityOf(rate, 1).skill.value)).toBeLessThan(0.01)
  expect(
    reliabilityOf(
      drawn(1000, 5, (p) => p),
      1,
    ).skill.value,
  ).toBeGreaterThan(0.2)
})

test('edge cases: one forecast, one outcome', () => {
  const one = [{ p: 0.7, outcome: true, cluster: 'a' }]
  expect(reliabilityOf(one, 1).calibration_error.value).toBe(0)
  expect(reliabilityCurve(one)).toEqual([{ predicted: 0.7, observed: 1, n: 1 }])
  expect(reliabilityOf(one, 1).skill.value).toBeNaN()
  expect(reliabilityCurve([])).toEqual([])
})

test('the gate: by hand, and the threshold that reaches a precision', () => {
  const rows = (list: [number, boolean][]): Forecast[] =>
    list.map(([p, outcome], i) => ({ p, outcome, cluster: String(i) }))
  const some = rows([
    [0.05, false],
    [0.1, false],
    [0.2, true],
    [0.3, false],
    [0.3, true],
    [0.9, true],
    [0.95, false],
  ])
  expect(gateAt(some, 0.15)).toEqual({ threshold: 0.15, precision: 1, recall: 0.5 })
  expect(gateAt(some, 0.25)).toEqual({ threshold: 0.25, precision: 2 / 3, recall: 0.5 })
  expect(gateAt(some, 0.01)).toEqual({ threshold: 0.01, precision: null, recall: 0 })
  expect(chooseGate(some, 0.9)).toEqual({ threshold: (0.1 + 0.2) / 2, precision: 1, recall: 0.5 })
  // 3 of 5 below 0.3 (two at 0.3 fall together), 4 of 7 below 1
  expect(chooseGate(some, 0.6)).toEqual({ threshold: 0.6, precision: 0.6, recall: 0.75 })
  expect(chooseGate(rows([[0.5, true]]), 0.5)).toBeNull()
})

test('a gate that is always right has the exact interval of so many tries, not none', () => {
  const rows = Array.from({ length: 30 }, (_, i): Forecast => ({
    ...{ p: i < 10 ? 0.05 : 0.9, outcome: i >= 10, cluster: String(i) },
  }))
  const { precision, recall } = gateWithIntervals(rows, 0.15, 1)
  for (const share of [precision, recall]) {
    expect(share).toMatchObject({ value: 1, high: 1 })
    // Clopper and Pearson of 10 of 10: 0.025^(1/10)
    expect(share?.low).toBeCloseTo(0.6915029, 6)
  }
  const none = gateWithIntervals(
    rows.map((row) => ({ ...row, p: 1 - row.p })),
    0.15,
    1,
  )
  expect(none.precision).toMatchObject({ value: 0, low: 0 })
  // of 20 tries: 1 − 0.025^(1/20)
  expect(none.precision?.high).toBeCloseTo(1 - 0.8315665, 6)
  expect(none.recall?.high).toBeCloseTo(1 - 0.6915029, 6)
})
