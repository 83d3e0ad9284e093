import { expect, test } from 'vitest'
import { dataFigures, mixPairs, ownPairs } from '../../src/rlaif/mix.ts'
import type { PreferenceRow } from '../../src/schemas/feedback.ts'
import { bradleyTerry, centering } from '../../src/training/losses.ts'

const rows = (n: number, axis: 'helpfulness' | 'safety', source?: string): PreferenceRow[] =>
  Array.from({ length: n }, (_, i) => ({
    ...{ axis, prompt: [{ role: 'user', content: `${source} ${i}` }], chosen: 'a', rejected: 'b' },
    ...(source === undefined ? {} : { source }),
  }))
const all = [
  ...rows(90, 'safety', 'meta'),
  ...rows(50, 'helpfulness', 'hh'),
  ...rows(7, 'safety'),
  ...rows(30, 'safety', 'other'),
]

test('a mix of 90 to 10 takes all it can, of both axes, and says what it left out', () => {
  const { rows: mixed, left_out } = mixPairs(all, 'safety', { meta: 9, hh: 1 }, 1)
  const { pairs, by_source } = dataFigures(mixed, left_out)
  expect(pairs).toBe(100)
  expect(by_source).toEqual({ meta: { pairs: 90, share: 0.9 }, hh: { pairs: 10, share: 0.1 } })
  expect(left_out).toBe(90 + 50 + 7 + 30 - 100)
  expect(new Set(mixed.map(({ axis }) => axis))).toEqual(new Set(['safety']))
  expect(new Set(mixed.map(({ prompt }) => prompt[0]?.content)).size).toBe(100)
  expect(mixPairs(all, 'safety', { meta: 9, hh: 1 }, 1).rows).toEqual(mixed)
  expect(mixPairs(all, 'safety', { meta: 9, hh: 1 }, 2).rows).not.toEqual(mixed)
  const half = mixPairs(all, 'helpfulness', { hh: 0.5, other: 0.5 }, 1)
  expect(dataFigures(half.rows, half.left_out).by_source['hh']).toEqual({ pairs: 30, share: 0.5 })
})

test('of a source with pairs of both axes a model gets those of its own: the other axis prefers other things', () => {
  const judged = [...rows(40, 'safety', 'judge'), ...rows(60, 'helpfulness', 'judge')]
  const { rows: mixed, left_out } = mixPairs([...judged, ...all], 'safety', { judge: 4, hh: 1 }, 1)
  const sources = judged.filter(({ axis }) => axis === 'helpfulness')
  expect(mixed).toHaveLength(50)
  expect(dataFigures(mixed, left_out).by_source['judge']).toEqual({ pairs: 40, share: 0.8 })
  for (const { prompt } of mixed) expect(sources.some((row) => row.prompt === prompt)).toBe(false)
  // 40 + 127 of safety and the 50 of hh could have been taken
  expect(left_out).toBe(40 + 127 + 50 - 50)
})

test('what calibrates a model is of its own axis, of the sources that a mix names where it names any', () => {
  expect(ownPairs(all, 'safety', { meta: 9, hh: 1 })).toEqual(all.slice(0, 90))
  expect(ownPairs(all, 'safety', { hh: 1 })).toHaveLength(127)
  expect(ownPairs(all, 'helpfulness', undefined)).toHaveLength(50)
})

test('without a mix all pairs of the axis; an unknown source is named', () => {
  const { rows: own, left_out } = mixPairs(all, 'safety', undefined, 1)
  expect([own.length, left_out]).toEqual([127, 0])
  expect(dataFigures(own, 0).by_source['unnamed']?.pairs).toBe(7)
  expect(() => mixPairs(all, 'safety', { meta: 1, nobody: 1 }, 1)).toThrow(/"nobody".*meta/)
})

test('ties and missing labels are counted', () => {
  const [one, two, three] = rows(3, 'safety') as [PreferenceRow, PreferenceRow, PreferenceRow]
  const figures = dataFigures(
    [
      { ...one, probability: 0.52 },
      { ...two, strength: 'better', chosen_safe: true },
      { ...three, probability: 0.9 },
    ],
    4,
  )
  expect(figures).toMatchObject({ ties: 1, without_strength: 2, without_safety_labels: 2 })
  expect(figures.left_out).toBe(4)
})

test('centering: its gradient, and that it leaves the difference of a pair alone', () => {
  const [c, r, h] = [0.7, -0.2, 1e-6]
  const { loss, dChosen, dRejected } = centering(c, r)
  expect(loss).toBeCloseTo(0.25, 12)
  expect(dChosen).toBeCloseTo((centering(c + h, r).loss - centering(c - h, r).loss) / (2 * h), 6)
  expect(dRejected).toBeCloseTo((centering(c, r + h).loss - centering(c, r - h).loss) / (2 * h), 6)
  // gradient descent on the sum of both losses ends with rewards around 0 and the pair apart
  let [x, y] = [5, 4]
  for (let i = 0; i < 4000; i++) {
    const [a, b] = [bradleyTerry(x, y), centering(x, y)]
    x -= 0.05 * (a.dChosen + 0.01 * b.dChosen)
    y -= 0.05 * (a.dRejected + 0.01 * b.dRejected)
  }
  expect(Math.abs(x + y)).toBeLessThan(0.2)
  expect(x - y).toBeGreaterThan(3)
})
