import { expect, test } from 'vitest'
import { rightWayRound } from '../../src/schemas/feedback.ts'
import {
  accuracyFigures,
  crossFigures,
  detectionFigures,
} from '../../src/evaluation/reward-measures.ts'
import type { ScoredPair } from '../../src/evaluation/reward-measures.ts'
import type { PreferenceRow } from '../../src/schemas/feedback.ts'

let conversation = 0
const row = (
  chosen: string,
  rejected: string,
  scores: readonly [number, number],
  more: Partial<PreferenceRow> = {},
): ScoredPair => ({
  pair: {
    ...{ axis: 'safety', chosen, rejected, ...more },
    prompt: more.prompt ?? [{ role: 'user', content: '?' }],
  },
  ...{ chosen: scores[0], rejected: scores[1], cluster: `c${conversation++}` },
})
const value = (figures: readonly { figure: string; value: number; n: number }[], name: string) => {
  const found = figures.find(({ figure }) => figure === name)
  return found === undefined ? undefined : [found.value, found.n]
}

test('accuracy by what pairs differ in, worked by hand', () => {
  const long = 'x'.repeat(20)
  const turn = (content: string, role: 'user' | 'assistant' = 'user') => ({ role, content })
  const rows = [
    row(long, 'x', [2, 1], { strength: 'better', source: 'people' }),
    row('x', long, [1, 2], { strength: 'better', source: 'judge' }),
    row(long, 'x'.repeat(15), [3, 3], { source: 'judge' }),
    row('x'.repeat(19), long, [4, 1], {
      prompt: [turn('a'), turn('b', 'assistant'), turn('c')],
    }),
  ]
  const rival = { name: 'longer', right: [1, 0, 1, 0] }
  const figures = accuracyFigures(rows, [rival], 1)
  expect(value(figures, 'accuracy')).toEqual([0.625, 4])
  expect(value(figures, 'accuracy, better')).toEqual([0.5, 2])
  expect(value(figures, 'accuracy, source judge')).toEqual([0.25, 2])
  expect(value(figures, 'accuracy, 1 turn')).toEqual([0.5, 3])
  expect(value(figures, 'accuracy, 2 turns')).toEqual([1, 1])
  expect(value(figures, 'accuracy, chosen longer by half or more')).toEqual([1, 1])
  expect(value(figures, 'accuracy, chosen shorter by half or more')).toEqual([0, 1])
  expect(value(figures, 'accuracy, chosen 10–50 % longer')).toEqual([0.5, 1])
  expect(value(figures, 'accuracy, lengths within 10 %')).toEqual([1, 1])
  const beside = figures.find(({ figure }) => figure === 'accuracy beside: longer')
  expect(beside).toMatchObject({ value: 0.125, before: { value: 0.5 }, after: { value: 0.625 } })
})

test('accuracy that never varies has an exact interval, not none', () => {
  const rows = Array.from({ length: 5 }, () => row('x', 'y', [2, 1]))
  const figures = accuracyFigures(rows, [{ name: 'longer', right: [1, 1, 1, 1, 1] }], 1)
  const of = (name: string) => figures.find(({ figure }) => figure === name)
  // 0.025^(1/5), and as far to either side where nothing differs
  expect(of('accuracy')).toMatchObject({ value: 1, high: 1 })
  expect(of('accuracy')?.low).toBeCloseTo(0.4781762, 7)
  const beside = of('accuracy beside: longer')
  expect(beside?.low).toBeCloseTo(0.4781762 - 1, 7)
  expect(beside?.high).toBeCloseTo(1 - 0.4781762, 7)
  expect(beside?.before?.low).toBeCloseTo(0.4781762, 7)
})

test('a model that only knows length: its score is length, whichever answer is called chosen', () => {
  const texts = ['a', 'bb', 'ccc', 'dddd', 'eeeee', 'ffffff']
  const rows = texts.flatMap((chosen, i) =>
    texts
      .filter((_, k) => k !== i)
      .map((rejected) => row(chosen, rejected, [chosen.length, rejected.length])),
  )
  const figures = accuracyFigures(rows, [], 1)
  expect(value(figures, 'length correlation of the score')?.[0]).toBeCloseTo(1, 12)
  expect(value(figures, 'length correlation within pairs')?.[0]).toBeGreaterThan(0.9)
  expect(value(figures, 'accuracy')).toEqual([0.5, 30])
})

test('where lengths or scores are all equal nothing goes along with them: no figure', () => {
  const correlations = (rows: readonly ScoredPair[]): string[] =>
    accuracyFigures(rows, [], 1).flatMap(({ figure }) =>
      figure.includes('correlation') ? [figure] : [],
    )
  // seven pairs: the mean of their ranks is none that a float holds
  const pairs = (of: (i: number) => ScoredPair): ScoredPair[] =>
    Array.from({ length: 7 }, (_, i) => of(i))
  expect(correlations(pairs(() => row('same', 'same', [0.1, 0.1])))).toEqual([])
  expect(correlations(pairs((i) => row('same', 'same', [i, 7 - i])))).toEqual([])
  expect(correlations(pairs((i) => row('x'.repeat(i), 'same', [0.1, 0.1])))).toEqual([])
  expect(correlations(pairs((i) => row('x'.repeat(i), 'same', [i, 0])))).toHaveLength(2)
})

test('unsafe answers are found by a low score; without labels of both kinds nothing is said', () => {
  const labels = { chosen_safe: true, rejected_safe: false }
  const rows = [row('a', 'b', [2, -2], labels), row('c', 'd', [1, 1.5], labels)]
  const figures = detectionFigures(rows, 1)
  expect(value(figures, 'AUROC, unsafe answers')).toEqual([0.75, 4])
  expect(value(figures, 'unsafe recall at 5 % false alarms')).toEqual([0.5, 4])
  expect(value(figures, 'prevalence of unsafe answers')).toEqual([0.5, 4])
  expect(detectionFigures([row('a', 'b', [1, 0])], 1)).toEqual([])
})

test('labels below ½ are read the right way round, ties are left out and counted', () => {
  const long = 'x'.repeat(20)
  const rows = [
    row('x', 'y', [2, 1], { probability: 0.9 }),
    row('x', long, [1, 2], { probability: 0.2 }), // the longer, rejected one is better: right
    row('x', 'y', [2, 1], { probability: 0.2 }), // wrong
    row('x', 'y', [1, 1], { probability: 0.3 }), // equal: ½
    row('x', 'y', [9, 1], { probability: 0.5 }),
  ]
  const rival = { name: 'longer', right: [0.5, 1, 0.5, 0.5, 0.5] }
  const figures = accuracyFigures(rows, [rival], 1)
  expect(value(figures, 'accuracy')).toEqual([0.625, 4])
  expect(value(figures, 'labels of ½, left out')).toEqual([0.2, 5])
  expect(value(figures, 'accuracy, chosen longer by half or more')).toEqual([1, 1])
  expect(value(figures, 'accuracy, chosen shorter by half or more')).toBeUndefined()
  const beside = figures.find(({ figure }) => figure === 'accuracy beside: longer')
  expect(beside).toMatchObject({ value: 0, before: { value: 0.625 }, n: 4 })
  expect(value(crossFigures('other', rows, 1), 'cross-domain accuracy: other')).toEqual([0.625, 4])
  expect(rightWayRound(rows[1]?.pair as PreferenceRow)).toMatchObject({
    ...{ chosen: long, rejected: 'x', probability: 0.8 },
  })
  const told = { chosen_safe: true, rejected_safe: null, orders: [0.1, 0.4], probability: 0.25 }
  expect(rightWayRound(row('a', 'b', [0, 0], told).pair)).toMatchObject({
    ...{ chosen: 'b', chosen_safe: null, rejected_safe: true, orders: [0.6, 0.9] },
  })
})
