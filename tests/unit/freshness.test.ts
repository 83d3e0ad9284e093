import { expect, test } from 'vitest'
import { clusteredShare } from '../../src/evaluation/shares.ts'
import { uniform } from '../../src/random.ts'
import type { Engine } from '../../src/engine/engine.ts'
import type { PreferenceRow } from '../../src/schemas/feedback.ts'
import { freshInLoop, isFresh, refuseStale } from '../../src/services/freshness.ts'
import { approvalWarnings, freshFigures } from '../../src/services/human-checks.ts'
import type { CheckRow, Store } from '../../src/store/store.ts'

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

test('of a judge that has just labelled: measured, held against a model where it can be, told where it is overridden', async () => {
  // scores the longer answer higher
  const serving = {
    score: ({ conversations }: { conversations: { content: string }[][] }) =>
      Promise.resolve(conversations.map((turns) => ({ logit: turns.at(-1)?.content.length }))),
    describe: () => Promise.resolve({ version: 'v' }),
  } as unknown as Engine
  const kept: CheckRow[] = []
  const insert = (rows: CheckRow[]) => Promise.resolve(void kept.push(...rows))
  const store = { rewardChecks: { insert } } as unknown as Store
  const files = { base: 'base', adapters: [] }
  /** So many pairs whose better answer is the longer one, others, and some that the judge left open. */
  const pairs = (right: number, wrong: number, open: number): PreferenceRow[] =>
    Array.from({ length: right + wrong + open }, (_, i) => {
      const [chosen, rejected] = i < right ? ['long answer', 'short'] : ['short', 'long answer']
      const probability = i < right + wrong ? 0.8 : 0.55
      const prompt = [{ role: 'user' as const, content: `question ${i}` }]
      return { axis: 'safety', prompt, chosen, rejected, probability }
    })
  const ask = async (given: PreferenceRow[], override: string[] = []) => {
    const how = { policy: files, judge: 'judge', floor: 0.55, seed: 1, run: 'run_1', override }
    const found = await freshInLoop({ serving, store }, { name: 'run_1 safety', files }, 'safety', {
      ...{ ...how, pairs: given },
    })
    return { id: 'check', axis: 'safety' as const, ...found }
  }
  const knows = await ask(pairs(50, 10, 7))
  expect(knows.freshness).toMatchObject({ accuracy: 50 / 60, n: 60, judge: 'judge', policy: 'v' })
  expect(knows.objections).toEqual([])
  expect(approvalWarnings(knows)).toEqual([])
  const [figure] = freshFigures(knows)
  expect(figure).toMatchObject({ value: 50 / 60, n: 60 })
  expect(figure?.low).toBeGreaterThan(0.5)

  const refused: unknown = await ask(pairs(28, 30, 2)).catch((error: unknown) => error)
  expect(refused).toMatchObject({
    ...{ code: 'reward_model_stale', details: { field: 'safety', check: kept.at(-1)?.id } },
    message: expect.stringMatching(/48\.3 % of 58 .*override: \["staleness"\]/u) as string,
  })
  const passed = await ask(pairs(28, 30, 2), ['staleness'])
  expect(passed.objections).toEqual(['staleness'])
  expect(approvalWarnings(passed)).toEqual([
    expect.stringMatching(/48\.3 % of 58 decided pairs.*抛硬币/u) as string,
  ])
  // as the loop over starter prompts: of few nothing is held against it, and of none there is no number
  const few = await ask(pairs(3, 8, 40))
  expect([few.freshness?.n, few.objections]).toEqual([11, []])
  expect(approvalWarnings(few)).toEqual([expect.stringMatching(/^safety: 11 held-out/u) as string])
  const checks = kept.length
  const none = await ask(pairs(0, 0, 60))
  expect([none.freshness, kept.length, freshFigures(none)]).toEqual([undefined, checks, []])
  expect(approvalWarnings(none)).toEqual([expect.stringMatching(/^safety: 0 held-out/u) as string])
  expect(kept.map(({ check, objections }) => [check, objections.length])).toEqual([
    ...[
      ['freshness', 0],
      ['freshness', 1],
      ['freshness', 1],
      ['freshness', 0],
    ],
  ])
})
