import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { circles, fitBradleyTerry } from '../../src/evaluation/bradley-terry.ts'

const file = new URL('../../fixtures/parity/judging/agreement.json', import.meta.url)
const { bradleyTerry } = JSON.parse(readFileSync(file, 'utf8')) as {
  bradleyTerry: {
    items: number
    comparisons: { i: number; j: number; p: number }[]
    strengths: number[]
    deviations: number[]
  }[]
}

test('strengths and deviations as scipy’s minimum and its curvature, also where one wins everything', () => {
  for (const { items, comparisons, strengths, deviations } of bradleyTerry)
    fitBradleyTerry(items, comparisons).forEach(({ value, low, high }, i) => {
      expect(value).toBeCloseTo(strengths[i] ?? NaN, 5)
      expect((high - low) / 2 / 1.96).toBeCloseTo(deviations[i] ?? NaN, 3)
    })
})

test('circles are found once each; ties break them', () => {
  const circle = [
    { i: 0, j: 1, p: 0.9 },
    { i: 1, j: 2, p: 0.9 },
    { i: 0, j: 2, p: 0.2 },
    { i: 0, j: 3, p: 1 },
  ]
  expect(circles(4, circle, 0.1)).toEqual([[0, 1, 2]])
  expect(circles(4, circle, 0.35)).toEqual([])
  expect(circles(3, [{ i: 0, j: 1, p: 0.9 }], 0.1)).toEqual([])
})
