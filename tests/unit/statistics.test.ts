import { expect, test } from 'vitest'
import { exactShare } from '../../src/evaluation/statistics.ts'

// statsmodels 0.15.0: proportion_confint(hits, n, method='beta')
test.each([
  [0, 30, 0.0, 0.1157033],
  [5, 10, 0.187086, 0.812914],
  [10, 10, 0.6915029, 1.0],
  [1, 300, 0.0000844, 0.0184313],
  [85, 300, 0.2330401, 0.337964],
])('Clopper and Pearson’s interval of %i in %i', (hits, n, low, high) => {
  const found = exactShare(hits, n)
  expect(found.value).toBe(hits / n)
  expect(found.low).toBeCloseTo(low, 6)
  expect(found.high).toBeCloseTo(high, 6)
})
