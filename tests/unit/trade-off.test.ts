import { expect, test } from 'vitest'
import type { MeasuredAnswer, MeasuredPrompt } from '../../src/evaluation/policy-measures.ts'
import { gateCurve, THRESHOLDS, tradeOff } from '../../src/evaluation/trade-off.ts'

const answer = (helpfulness: number, safety: number): MeasuredAnswer => ({
  ...{ text: 'x', class: 'comply', helpfulness, safety, branch: 'helpfulness', tokens: 1 },
})
const prompt = (
  answers: MeasuredAnswer[][],
  more: Partial<MeasuredPrompt> = {},
): MeasuredPrompt => ({
  ...{ prompt: 'x', label: null, pair: null, cluster: 'one', answers, ...more },
})

test('the front: means per policy, helpfulness without unsafe prompts, dominated ones off it', async () => {
  const points = await tradeOff(
    ['old', 'new', 'timid'],
    [
      prompt([[answer(0.4, 0.6)], [answer(0.8, 0.6), answer(0.6, 0.8)], [answer(0.3, 0.65)]]),
      prompt([[answer(0.9, 0.2)], [answer(0, 0.4)], [answer(0.1, 0.9)]], { label: 'unsafe' }),
    ],
    1,
  )
  const of = (name: string) => points.find((point) => point.name === name)
  expect(of('new')?.helpfulness).toMatchObject({ value: 0.7, n: 1 })
  expect(of('new')?.safety.value).toBeCloseTo(0.55, 12)
  expect(points.map(({ front }) => front)).toEqual([false, true, true])
  expect(of('old')?.membership).toBe(0)
  expect(of('timid')?.membership).toBe(1)
  expect(points.map(({ tail }) => tail.safety.value)).toEqual([0.5, 0.5, 1])
  expect(points.map(({ tail }) => tail.front)).toEqual([false, true, true])
  // all prompts unsafe: helpfulness is over them
  const [only] = await tradeOff(['a'], [prompt([[answer(0.9, 0.2)]], { label: 'unsafe' })], 1)
  expect(only?.helpfulness.value).toBe(0.9)
})

test('one prompt says little of either axis, and its intervals are as wide as that', async () => {
  const [only] = await tradeOff(['a'], [prompt([[answer(0.9, 0.6)]])], 1)
  expect(only?.helpfulness.low).toBeCloseTo(0.9 * 0.025, 12)
  expect(only?.safety.high).toBeCloseTo(0.6 + 0.4 * 0.975, 12)
})

test('a mean hides a rare unsafe answer: by the share of safe ones another policy is on the front', async () => {
  const [a, b] = await tradeOff(
    ['a', 'b'],
    [
      prompt([
        [answer(0.5, 0.9), answer(0.5, 0.4)],
        [answer(0.5, 0.6), answer(0.5, 0.6)],
      ]),
    ],
    1,
  )
  expect([a?.front, b?.front]).toEqual([true, false])
  expect([a?.tail.front, b?.tail.front]).toEqual([false, true])
  expect([a?.tail.membership, b?.tail.membership]).toEqual([0, 1])
})

test('membership of the front by resamples: two clusters make four equally likely ones', async () => {
  // equally helpful; b is less safe by 0.1 in one cluster and safer by 0.3 in the other: only the resample of the
  // first cluster twice (one in four) throws b off the front, and all others a
  const rows = [
    prompt([[answer(0.5, 0.5)], [answer(0.5, 0.4)]], { cluster: 'first' }),
    prompt([[answer(0.5, 0.5)], [answer(0.5, 0.8)]], { cluster: 'second' }),
  ]
  const [a, b] = await tradeOff(['a', 'b'], rows, 3)
  expect(a?.membership).toBeGreaterThan(0.2)
  expect(a?.membership).toBeLessThan(0.3)
  expect((a?.membership ?? 0) + (b?.membership ?? 0)).toBeCloseTo(1, 12)
})

test('requests go between the resamples of many prompts', async () => {
  const rows = Array.from({ length: 600 }, (_, i) =>
    prompt([[answer(0.5, 0.5)], [answer(0.6, 0.4)]], { cluster: String(i) }),
  )
  let [turns, over] = [0, false]
  const watch = (): void => void (over || (turns++, setImmediate(watch)))
  setImmediate(watch)
  await tradeOff(['a', 'b'], rows, 4)
  over = true
  expect(turns).toBeGreaterThan(60) // 20 while clusters are drawn, 50 while they are summed
})

test('the gate at other thresholds: who passes goes before who is held back', () => {
  const helpful = answer(0.9, 0.3)
  const safe = answer(0.6, 0.7)
  const curves = gateCurve([
    prompt([[helpful], [safe]]),
    // held back at every threshold by its class: the safer one is chosen
    prompt([[answer(0.9, 0.1)], [answer(0.1, 0.8)]], { promptClass: 'safety' }),
  ])
  const at = (name: string, threshold: number) =>
    curves.find((curve) => curve.name.startsWith(name))?.values[THRESHOLDS.indexOf(threshold)]
  expect(THRESHOLDS).toContain(0.15)
  expect(at('held back', 0.15)).toBe(0.5)
  expect(at('chosen: safe', 0.15)).toBe(0.5) // the helpful, unsafe one and the safe one of the second
  expect(at('chosen: helpful', 0.15)).toBe(0.5)
  expect(at('held back', 0.35)).toBe(0.75)
  expect(at('chosen: safe', 0.35)).toBe(1)
  expect(at('chosen: both', 0.35)).toBe(0.5)
  expect(at('held back', 0.99)).toBe(1)
  expect(at('chosen: safe', 0.99)).toBe(1)
})
