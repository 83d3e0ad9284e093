import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import type { Engine } from '../../src/engine/engine.ts'
import { uniform } from '../../src/random.ts'
import { awayFrom, calibrateReward } from '../../src/rlaif/reward.ts'
import type { Axis, PreferenceRow } from '../../src/schemas/feedback.ts'

const folder = mkdtempSync(join(tmpdir(), 'libra-reward-'))
afterAll(() => rmSync(folder, { recursive: true }))
const raw = join(folder, 'raw')
mkdirSync(raw)

/** A model whose logit is the number that an answer is. */
const engine = (version = 'raw'): Engine =>
  ({
    score: ({ conversations }: { conversations: { content: string }[][] }) =>
      Promise.resolve(conversations.map((turns) => ({ logit: Number(turns.at(-1)?.content) }))),
    describe: () => Promise.resolve({ version }),
  }) as unknown as Engine
let made = 0
const calibrated = (
  axis: Axis,
  held: readonly PreferenceRow[],
  more: { by?: Engine; references?: PreferenceRow['prompt'][] } = {},
) =>
  calibrateReward(
    ...([more.by ?? engine(), { base: raw, adapters: [raw] }, join(folder, `${made++}`)] as const),
    { axis, held, dataHash: 'x', seed: 1, references: more.references ?? null },
  )
const pair = (i: number, chosen: number, rejected: number, more: Partial<PreferenceRow> = {}) => ({
  ...{ axis: 'helpfulness' as const, chosen: `${chosen}`, rejected: `${rejected}` },
  ...{ prompt: [{ role: 'user' as const, content: `Question ${i}?` }], ...more },
})
const many = (n: number, of: (i: number) => PreferenceRow): PreferenceRow[] =>
  Array.from({ length: n }, (_, i) => of(i))

test('who says 0.7 where labels say 0.7 is calibrated', async () => {
  const d = Math.log(7 / 3) // σ(d) = 0.7
  const held = many(2000, (i) => pair(i, d * (1 + i / 1e6), 0, { probability: 0.7 }))
  const { calibration } = await calibrated('helpfulness', held)
  expect(calibration).toMatchObject({ kind: 'win_rate' })
  if (calibration.kind === 'win_rate') expect(calibration.temperature).toBeCloseTo(1, 1)
  const { quality } = calibration
  // taken for wins, the observed share was 1 where 0.7 was said
  for (const { predicted, observed } of quality?.curve ?? [])
    expect(Math.abs(predicted - observed)).toBeLessThan(0.12)
  expect(quality?.calibration_error.value).toBeLessThan(0.06)
  expect(quality?.slope.low).toBeLessThan(1)
  expect(quality?.slope.high).toBeGreaterThan(1)
  // 1 − H(0.7)/H(½) = 0.1187
  expect(Math.abs((quality?.skill.value ?? NaN) - 0.1187)).toBeLessThan(0.04)
})

test('held-out accuracy reads the label: turned pairs, ties, equal scores', async () => {
  const held = [
    ...[pair(0, 2, 1), pair(1, 1, 2, { probability: 0.2 }), pair(2, 2, 1, { probability: 0.2 })],
    ...[pair(3, 1, 1, { probability: 0.55 }), pair(4, 9, 1, { probability: 0.5 })],
  ]
  const { accuracy, compared, decided } = await calibrated('helpfulness', held)
  // right, right, wrong, ½; the tie is left out, and the fourth is undecided
  expect([accuracy, compared]).toEqual([2.5 / 4, 4])
  expect(decided).toMatchObject({ value: 2 / 3, n: 3 })
})

test('safety: too few absolute labels, or of one kind, give way to the sides of the pairs, and that is said', async () => {
  const labels = { chosen_safe: true, rejected_safe: false }
  const few = many(9, (i) => pair(i, 1 + (i % 3), i % 2, labels))
  const one = many(40, (i) => pair(i, 1 + (i % 3), i % 2, { chosen_safe: true }))
  const none = many(40, (i) => pair(i, 1 + (i % 3), i % 2))
  for (const [held, n, said] of [
    [few, 18, /^18 absolute safety labels, of which 9 say safe.*sides of the pairs/u],
    [one, 80, /^40 .* of which 40 say safe/u],
    [none, 80, /^0 absolute/u],
  ] as const) {
    const { calibration, warnings } = await calibrated('safety', held)
    expect(calibration).toMatchObject({ kind: 'platt', n })
    expect(warnings.join()).toMatch(said)
  }
  const enough = many(10, (i) => pair(i, 1 + (i % 3), i % 2, labels))
  expect(await calibrated('safety', enough)).toMatchObject({ warnings: [], calibration: { n: 20 } })
})

test('safety: where the logit falls as answers get safer nothing is gated by it, loudly', async () => {
  const held = many(50, (i) =>
    pair(i, 5 * uniform(1, i), 5 * uniform(2, i) + 2, {
      ...{ chosen_safe: true, rejected_safe: i % 5 === 0 },
    }),
  )
  const { calibration, warnings } = await calibrated('safety', held)
  // 60 of 100 are safe
  expect(calibration).toMatchObject({ kind: 'platt', a: 0, b: Math.log(61 / 41) })
  expect(warnings.join()).toMatch(/does not tell safe from unsafe/u)
})

test('a calibration is named by what it is: its numbers, what it is held against, and the weights', async () => {
  const held = many(30, (i) => pair(i, (i % 4) + 1, 2))
  const version = async (...given: Parameters<typeof calibrated>) =>
    (await calibrated(...given)).calibration.version
  const first = await version('helpfulness', held)
  expect(first).toMatch(/^helpfulness-[0-9a-f]{12}$/u)
  expect(await version('helpfulness', held)).toBe(first)
  const others = [
    await version('helpfulness', held, { by: engine('another') }),
    await version('helpfulness', held.slice(1)),
    await version('helpfulness', held, {
      references: [[...pair(99, 0, 0).prompt, { role: 'assistant', content: '1' }]],
    }),
  ]
  expect(new Set([first, ...others]).size).toBe(4)
})

test('pairs of the conversations that references are of are kept apart', () => {
  const rows = many(4, (i) => pair(i, 1, 0))
  const reference = [
    { role: 'user', content: ' question 2? ' },
    { role: 'assistant', content: '!' },
  ]
  expect(awayFrom(rows, [reference] as PreferenceRow['prompt'][])).toEqual([
    ...[rows[0], rows[1], rows[3]],
  ])
  expect(awayFrom(rows, [])).toEqual(rows)
})
