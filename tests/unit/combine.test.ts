import { expect, test } from 'vitest'
import { combine, inversions, scaleOf, scalesOf } from '../../src/evaluation/combine.ts'
import type { CombineOptions } from '../../src/evaluation/combine.ts'

const platt = { kind: 'platt' as const, version: 's', a: 2, b: -1, n: 9 }
const winRate = { kind: 'win_rate' as const, version: 'h', temperature: 0.5, anchors: [1, 3], n: 9 }
const with_ = (o: Partial<CombineOptions>): CombineOptions => ({
  ...{ combiner: 'gate', threshold: 0.15, promptClass: null, scales: null, ...o },
})

test('each combiner by hand', () => {
  const [h, safe] = [{ logit: 3 }, { logit: 1, probability: 0.8 }]
  const unsafe = { logit: -4, probability: 0.1 }
  expect(combine(h, safe, with_({}))).toEqual({ reward: 3, branch: 'helpfulness' })
  expect(combine(h, unsafe, with_({}))).toEqual({ reward: -4, branch: 'safety' })
  expect(combine(h, safe, with_({ promptClass: 'safety' }))).toEqual({
    reward: 1,
    branch: 'safety',
  })
  const lagrangian = with_({ combiner: 'lagrangian', multiplier: 3 })
  expect(combine(h, unsafe, lagrangian)).toEqual({ reward: (3 - 12) / 4, branch: 'mean' })
  const weighted = with_({ combiner: 'weighted', weight: 0.25 })
  expect(combine(h, unsafe, weighted)).toEqual({ reward: 0.75 - 3, branch: 'mean' })
  expect(combine(h, unsafe, with_({ combiner: 'mean' })).reward).toBe(-0.5)
  expect(combine(h, unsafe, with_({ combiner: 'helpfulness' })).reward).toBe(3)
  expect(combine(h, unsafe, with_({ combiner: 'safety' })).reward).toBe(-4)
})

test('the monotone gate caps what is unsafe, and not what answers a safety prompt safely', () => {
  const monotone = (h: number, s: number, probability: number, o: Partial<CombineOptions> = {}) =>
    combine({ logit: h }, { logit: s, probability }, with_({ combiner: 'gate_monotone', ...o }))
  const promptClass = 'safety' as const
  expect(monotone(3, 1, 0.8, { promptClass })).toEqual({ reward: 1, branch: 'safety' })
  expect(monotone(3, 2.5, 0.9, { promptClass })).toEqual({ reward: 2.5, branch: 'safety' })
  expect(monotone(3, -5, 0.2, { promptClass })).toEqual({ reward: -2, branch: 'safety' })
  expect(monotone(3, -1, 0.1, { promptClass })).toEqual({ reward: -2, branch: 'safety' })
  expect(monotone(3, -4, 0.1)).toEqual({ reward: -4, branch: 'safety' })
  expect(monotone(3, 1, 0.8)).toEqual({ reward: 3, branch: 'helpfulness' })
  expect(monotone(-7, 1, 0.8)).toEqual({ reward: -2, branch: 'helpfulness' })
})

test('a saturated safety model is still gated by its logit, and no reward is infinite', () => {
  for (const logit of [-1000, 1000]) {
    const { reward, branch } = combine({ logit: 1 }, { logit, probability: null }, with_({}))
    expect(branch).toBe(logit < 0 ? 'safety' : 'helpfulness')
    expect(Number.isFinite(reward)).toBe(true)
  }
  // ln(.15/.85) = −1.7346
  const at = (logit: number) =>
    combine({ logit: 0 }, { logit, probability: null }, with_({})).branch
  expect([at(-1.735), at(-1.734)]).toEqual(['safety', 'helpfulness'])
})

test('calibrated scales are log-odds', () => {
  const scales = scalesOf(winRate, platt)
  const { reward } = combine({ logit: 4 }, { logit: 5, probability: 0.99 }, with_({ scales }))
  expect(reward).toBe((4 - 2) / 0.5)
  const safety = with_({ scales, combiner: 'safety' })
  expect(combine({ logit: 4 }, { logit: 5, probability: 1 }, safety).reward).toBeCloseTo(2 * 5 - 1)
  expect(scaleOf({ ...platt, a: -1 })).toBeNull()
  expect(scalesOf(winRate, null)).toBeNull()
})

test('the gate has inversions, the monotone one has none', () => {
  const answers = [
    { h: 0, s: -1.8 }, // unsafe, above the safe and unhelpful one
    { h: -4, s: 1 },
    { h: 2, s: 2 },
    { h: 9, s: -9 },
  ]
  const unsafe = ({ s }: { s: number }): boolean => s < Math.log(0.15 / 0.85)
  const found = (combiner: 'gate' | 'gate_monotone') =>
    inversions(
      answers.map((answer) => ({
        ...{ prompt: 'p', unsafe: unsafe(answer) },
        reward: combine(
          { logit: answer.h },
          { logit: answer.s, probability: null },
          with_({ combiner }),
        ).reward,
      })),
    )
  expect(found('gate')).toEqual({ pairs: 4, share: 1 / 4 })
  expect(found('gate_monotone')).toEqual({ pairs: 4, share: 0 })
  expect(inversions([{ prompt: 'p', unsafe: true, reward: 1 }])).toEqual({ pairs: 0, share: null })
})
