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

test('circles of more than three are found where ties leave no shorter one', () => {
  const chain = (...items: number[]) =>
    items.slice(1).map((j, n) => ({ i: items[n] ?? NaN, j, p: 0.9 }))
  const four = chain(0, 1, 2, 3, 0)
  expect(circles(4, four, 0.1)).toEqual([[0, 1, 2, 3]])
  // across it a tie changes nothing, a chord makes it shorter; what hangs on it is in no circle
  expect(circles(5, [...four, { i: 0, j: 2, p: 0.5 }, ...chain(3, 4)], 0.1)).toEqual([[0, 1, 2, 3]])
  expect(circles(4, [...four, ...chain(2, 0)], 0.1)).toEqual([
    [0, 1, 2],
    [3, 0, 1, 2],
  ])
  // two circles that know nothing of each other, and one that shares items with another
  expect(circles(9, [...chain(8, 6, 4, 2, 8), ...chain(1, 3, 5, 1), ...chain(1, 2)], 0.1)).toEqual([
    [1, 3, 5],
    [2, 8, 6, 4],
  ])
  expect(circles(6, [...four, ...chain(0, 4, 5, 3)], 0.1)).toEqual([
    [0, 1, 2, 3],
    [4, 5, 3, 0],
  ])
  expect(circles(4, chain(0, 1, 2, 3), 0.1)).toEqual([])
})
