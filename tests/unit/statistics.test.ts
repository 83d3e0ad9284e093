import { expect, test } from 'vitest'
import { wilson } from '../../src/evaluation/statistics.ts'

// statsmodels 0.15.0: proportion_confint(hits, n, method='wilson')
test.each([
  [0, 30, 0, 0.1135134],
  [5, 10, 0.2365931, 0.7634069],
  [10, 10, 0.7224672, 1],
  [1, 300, 0.0005887, 0.0186367],
])('Wilson’s interval of %i in %i', (hits, n, low, high) => {
  const found = wilson(hits, n)
  expect(found.value).toBe(hits / n)
  expect(found.low).toBeCloseTo(low, 6)
  expect(found.high).toBeCloseTo(high, 6)
})
