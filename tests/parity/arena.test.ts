import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { arenaFigures, pairings } from '../../src/evaluation/arena.ts'
import type { ArenaPrompt } from '../../src/evaluation/arena.ts'

const file = new URL('../../fixtures/parity/arena/expected.json', import.meta.url)
const expected = JSON.parse(readFileSync(file, 'utf8')) as {
  names: string[]
  prompts: ArenaPrompt[]
} & Record<'ratings' | 'errors' | 'differences' | 'differenceErrors' | 'winRates', number[]>

test('ratings, differences and win rates as numpy finds them; intervals as wide as its cluster-robust errors say', () => {
  const { names, prompts } = expected
  const { figures, standings } = arenaFigures(names, prompts, 5)
  const of = (figure: string) => figures.find((each) => each.figure === figure)
  const width = ({ low = NaN, high = NaN } = {}): number => (high - low) / (2 * 1.96)
  const near = (x: number, y = NaN): void => {
    expect(x / y).toBeGreaterThan(0.85)
    expect(x / y).toBeLessThan(1.15)
  }
  names.forEach((name, i) => {
    expect(of(`${name}: rating`)?.value).toBeCloseTo(expected.ratings[i] ?? NaN, 5)
    near(width(of(`${name}: rating`)), expected.errors[i])
    expect(of(`${name}: rating`)?.n).toBe(480)
  })
  pairings(3).forEach(([i, j], pair) => {
    const over = `${names[i] ?? ''} over ${names[j] ?? ''}`
    const difference = of(`${over}: rating difference`)
    expect(difference?.value).toBeCloseTo(expected.differences[pair] ?? NaN, 5)
    near(width(difference), expected.differenceErrors[pair])
    expect(of(`${over}: win rate`)?.value).toBeCloseTo(expected.winRates[pair] ?? NaN, 10)
    expect(of(`${over}: win rate`)?.n).toBe(240)
  })
  expect(standings.map(({ policy }) => policy)).toEqual(['a', 'b', 'c'])
})

test('what the tests leave open: equals may have any rank, a clear winner only the first', () => {
  const even = (k: number): ArenaPrompt[] =>
    Array.from({ length: 60 }, (_, i) => ({
      cluster: String(i),
      verdicts: pairings(k).map(() => [i % 2 === 0 ? 0.9 : 0.1]),
    }))
  for (const { best, worst } of arenaFigures(['a', 'b', 'c'], even(3), 1).standings)
    expect([best, worst]).toEqual([1, 3])
  // c beats both others always, who are equals
  const clear = even(3).map(({ cluster, verdicts: [ab = []] }) => ({
    cluster,
    verdicts: [ab, [0.2], [0.2]],
  }))
  const { standings, figures } = arenaFigures(['a', 'b', 'c'], clear, 1)
  expect(standings[0]).toMatchObject({ policy: 'c', rank: 1, best: 1, worst: 1 })
  for (const { best, worst } of standings.slice(1)) expect([best, worst]).toEqual([2, 3])
  expect(figures.find(({ figure }) => figure === 'c: rank')).toMatchObject({ value: 1, low: 1 })
})

test('one prompt, and none that tells policies apart: no rank is sure', () => {
  const names = ['a', 'b', 'c']
  const asked = (n: number, verdicts: number[]): ArenaPrompt[] =>
    Array.from({ length: n }, (_, i) => ({
      ...{ cluster: String(i), verdicts: verdicts.map((p) => [p]) },
    }))
  // ½ but for rounding: as many prompts as one likes
  for (const n of [1, 60]) {
    const { figures, standings } = arenaFigures(names, asked(n, [0.5 + 1e-13, 0.5, 0.5 - 1e-13]), 1)
    for (const { rank, best, worst } of standings) expect([rank, best, worst]).toEqual([1, 1, 3])
    for (const { figure, p, p_holm } of figures)
      if (figure.endsWith('difference')) expect([p, p_holm], figure).toEqual([1, 1])
  }
  // however clear one prompt is
  const { figures, standings } = arenaFigures(names, asked(1, [0.9, 0.9, 0.9]), 1)
  expect(standings.map(({ rank, best, worst }) => [rank, best, worst])).toEqual([
    ...[[1, 1, 3], [2, 1, 3], [3, 1, 3]], // prettier-ignore
  ])
  const won = figures.find(({ figure }) => figure === 'a over b: win rate')
  expect(won?.value).toBeCloseTo(0.9, 12)
  expect(won?.low).toBeCloseTo(0.9 * 0.025, 12)
  expect(won?.high).toBeCloseTo(0.9 + 0.1 * 0.975, 12)
})

test('eight policies: a clear difference survives the correction over 28 pairs', () => {
  const k = 8
  const prompts = Array.from({ length: 50 }, (_, i) => ({
    cluster: String(i),
    verdicts: pairings(k).map(() => [0.8 + (i % 5) / 50]),
  }))
  const names = Array.from({ length: k }, (_, i) => `p${i}`)
  const { standings } = arenaFigures(names, prompts, 1)
  expect(standings.map(({ best, worst }) => [best, worst])).toEqual(
    names.map((_, i) => [i + 1, i + 1]),
  )
})

test('a circle is told; a pair without a verdict has no figure and no part in the rest', () => {
  const prompts = (verdicts: ArenaPrompt['verdicts']): ArenaPrompt[] =>
    Array.from({ length: 10 }, (_, i) => ({ cluster: String(i), verdicts }))
  expect(arenaFigures(['a', 'b', 'c'], prompts([[0.8], [0.2], [0.8]]), 1).circles).toEqual([
    ['a', 'b', 'c'],
  ])
  const { figures, circles } = arenaFigures(['a', 'b', 'c'], prompts([[0.8], [], [0.8]]), 1)
  expect(circles).toEqual([])
  expect(figures.map(({ figure }) => figure)).not.toContain('a over c: win rate')
  for (const { value } of figures) expect(Number.isFinite(value)).toBe(true)
})
