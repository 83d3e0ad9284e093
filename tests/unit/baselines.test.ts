import { expect, test } from 'vitest'
import { fitHashedWords, longerWins } from '../../src/evaluation/baselines.ts'
import type { PreferenceRow } from '../../src/schemas/feedback.ts'
import { paretoFronts } from '../../src/evaluation/trade-off.ts'
import { order } from '../../src/services/ranking.ts'

const pair = (chosen: string, rejected: string): PreferenceRow => ({
  axis: 'helpfulness',
  prompt: [{ role: 'user', content: '?' }],
  chosen,
  rejected,
})

test('counting baselines learn what counting can learn', () => {
  expect([pair('long', 'no'), pair('a', 'bb'), pair('a', 'b')].map(longerWins)).toEqual([1, 0, 0.5])
  const words = ['one', 'two', 'three', 'four', 'five', 'six']
  const training = words.map((word) => pair(`${word} good`, `${word} bad`))
  const learned = fitHashedWords(training, false)
  expect(learned(pair('seven good', 'seven bad'))).toBe(1)
  expect(learned(pair('seven bad', 'seven good'))).toBe(0)
  expect(learned(pair('same', 'same'))).toBe(0.5)
})

test('counting baselines read labels below ½ the other way round, and learn nothing from ½', () => {
  const labelled = (chosen: string, rejected: string, probability: number): PreferenceRow => ({
    ...pair(chosen, rejected),
    probability,
  })
  expect(longerWins(labelled('long', 'no', 0.2))).toBe(0)
  expect(longerWins(labelled('no', 'long', 0.2))).toBe(1)
  expect(longerWins(labelled('a', 'b', 0.2))).toBe(0.5)
  const words = ['one', 'two', 'three', 'four', 'five', 'six']
  const turned = words.map((word) => labelled(`${word} bad`, `${word} good`, 0.1))
  const ties = words.flatMap((word) =>
    [0, 1].map(() => labelled(`${word} bad`, `${word} good`, 0.5)),
  )
  const learned = fitHashedWords([...turned, ...ties], false)
  expect(learned(pair('seven good', 'seven bad'))).toBe(1)
  expect(learned(labelled('seven good', 'seven bad', 0.3))).toBe(0)
})

test('ranks: equals share one, fronts by hand', () => {
  expect(order([1, 3, 3, 0]).map(({ index, rank }) => [index, rank])).toEqual([
    [1, 1],
    [2, 1],
    [0, 3],
    [3, 4],
  ])
  const points = [
    [1, 4],
    [3, 3],
    [4, 1],
    [2, 2],
    [1, 1],
  ]
  expect(paretoFronts(points)).toEqual([1, 1, 1, 2, 3])
  expect(paretoFronts([[1, 1], [1, 1]])).toEqual([1, 1]) // prettier-ignore
})
