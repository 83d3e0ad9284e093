import { expect, test } from 'vitest'
import { clusteredShare } from '../../src/evaluation/shares.ts'
import { uniform } from '../../src/random.ts'
import { isFresh, refuseStale } from '../../src/services/freshness.ts'

const measured = (right: readonly number[]) =>
  clusteredShare(
    right,
    right.map((_, i) => `${i}`),
    1,
  )
const of = (right: number, n: number) =>
  measured(Array.from({ length: n }, (_, i) => Number(i < right)))

test('a coin on twenty verdicts does not pass for a model that knows the answers', () => {
  let passed = 0
  for (let s = 0; s < 300; s++) {
    const right = Array.from({ length: 20 }, (_, i) => Number(uniform(s, 7, i) < 0.5))
    if (isFresh(measured(right), 0.55)) passed++
  }
  // P(X ≥ 11) of 20 is 0.41, P(X ≥ 15) 0.02
  expect(passed / 300).toBeLessThan(0.06)
})

test('enough verdicts, the floor, and surely more than a coin', () => {
  expect(isFresh(of(19, 19), 0.55)).toBe(false)
  expect(isFresh(of(20, 20), 0.55)).toBe(true)
  expect(isFresh(of(140, 200), 0.55)).toBe(true)
  expect(isFresh(of(140, 200), 0.75)).toBe(false)
  expect(isFresh(of(104, 200), 0.51)).toBe(false)
  // a floor of ½ or less asks for itself alone
  expect(isFresh(of(9, 20), 0.4)).toBe(true)
  expect(isFresh(of(0, 20), 0)).toBe(true)
})

test('a refusal says how many verdicts, and the interval', () => {
  expect(() => refuseStale('safety', of(3, 8), 0.55)).toThrow(/safety: .*8 pairs.*at least 20/u)
  expect(() => refuseStale('safety', of(11, 20), 0.55)).toThrow(
    /55\.0 % of 20 .*interval \d\d\.\d % to \d\d\.\d %.*above 50\.0 %.*"staleness"/u,
  )
  refuseStale('safety', of(18, 20), 0.55)
})
