import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { fitGao } from '../../src/evaluation/overoptimisation.ts'
import { normal } from '../../src/random.ts'

const [G0, ALPHA, BETA] = [0.5, 0.3, 0.2]
const gold = (d: number): number => G0 + (d > 0 ? d * (ALPHA - BETA * Math.log(d)) : 0)
const PEAK = Math.exp(ALPHA / BETA - 1)
/** A run whose distance grows by root of rounds to `reach`, with AR(1) noise. */
const run = (seed: number, { n = 60, reach = 3, noise = 0.03, rho = 0.6 } = {}) => {
  let error = 0
  return Array.from({ length: n }, (_, i) => {
    const d = reach * Math.sqrt(i / (n - 1))
    error = rho * error + noise * Math.sqrt(1 - rho * rho) * normal(seed, i)
    return { kl: d * d, gold: gold(d) + error }
  })
}

test('without noise it finds the curve and its peak', () => {
  const fit = fitGao(run(0, { noise: 0 }))
  expect(fit?.alpha.value).toBeCloseTo(ALPHA, 9)
  expect(fit?.beta.value).toBeCloseTo(BETA, 9)
  expect(fit?.peak?.value).toBeCloseTo(PEAK, 7)
  expect(fit?.at(2).value).toBeCloseTo(gold(2), 9)
})

test('coefficients and intervals are those of statsmodels’ GLS', () => {
  const path = new URL('../../fixtures/parity/gao/expected.json', import.meta.url)
  const expected = JSON.parse(readFileSync(path, 'utf8')) as {
    points: { kl: number; gold: number }[]
    coefficients: [number, number, number]
    half: [number, number, number]
    at: number
    atHalf: number
  }
  const fit = fitGao(expected.points)
  if (fit === null) throw new Error('no fit')
  const half = ({ low, high }: { low: number; high: number }): number => (high - low) / 2
  expect(fit.alpha.value).toBeCloseTo(expected.coefficients[1], 9)
  expect(fit.beta.value).toBeCloseTo(expected.coefficients[2], 9)
  expect(fit.at(1.5).value).toBeCloseTo(expected.at, 9)
  // the quantile of Student's t is an expansion
  expect(half(fit.alpha) / expected.half[1]).toBeCloseTo(1, 3)
  expect(half(fit.beta) / expected.half[2]).toBeCloseTo(1, 3)
  expect(half(fit.at(1.5)) / expected.atHalf).toBeCloseTo(1, 3)
})

describe.each([0, 0.6, 0.85])('with rounds correlated by %d', (rho) => {
  test('nine to ten of ten intervals hold the truth', () => {
    const trials = 400
    let [curve, peak, told] = [0, 0, 0]
    for (let seed = 1; seed <= trials; seed++) {
      const fit = fitGao(run(seed, { rho }))
      const at = fit?.at(2)
      if (at !== undefined && at.low <= gold(2) && gold(2) <= at.high) curve++
      if (fit?.peak == null) continue
      told++
      if (fit.peak.low <= PEAK && PEAK <= fit.peak.high) peak++
    }
    expect(curve / trials).toBeGreaterThan(0.9)
    expect(told).toBeGreaterThan(trials / 4)
    expect(peak / told).toBeGreaterThan(0.9)
  })
})

test('no peak before half of the way to it is behind, none where gold only rises, no fit of little', () => {
  expect(fitGao(run(1, { noise: 0.001, reach: 0.45 * PEAK }))?.peak).toBeNull()
  const rising = run(2).map(({ kl }, i) => ({
    kl,
    gold: 0.2 * Math.sqrt(kl) + 0.01 * normal(3, i),
  }))
  expect(fitGao(rising)?.peak).toBeNull()
  expect(fitGao(run(1, { n: 12 }))).toBeNull()
  expect(fitGao(run(1, { reach: 0.1 }))).toBeNull()
  expect(fitGao(run(1).map(({ gold }) => ({ kl: 1, gold })))).toBeNull()
  expect(
    fitGao(run(1, { noise: 0 }).map((p, i) => (i === 7 ? { ...p, gold: NaN } : p)))?.beta.n,
  ).toBe(59)
})
