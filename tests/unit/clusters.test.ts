import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import type { Engine } from '../../src/engine/engine.ts'
import { calibrateReward } from '../../src/rlaif/reward.ts'
import type { Message } from '../../src/schemas/chat.ts'
import type { PreferenceRow } from '../../src/schemas/feedback.ts'
import { auditFigures } from '../../src/services/audit-figures.ts'
import { clusterOf, oneCluster } from '../../src/services/policy-answers.ts'

// A system turn that stands before every prompt makes no one conversation of them.
const asked = (i: number): Message[] => [
  { role: 'system', content: 'Be helpful and harmless.' },
  { role: 'user', content: `question ${i}` },
]
const folder = await mkdtemp(join(tmpdir(), 'libra-clusters-'))
afterAll(() => rm(folder, { recursive: true, force: true }))

test('prompts of an evaluation go together by their first user turn, or as they say', () => {
  const prompts = [1, 2, 2].map((i) => ({ messages: asked(i) }))
  expect(new Set(prompts.map(clusterOf)).size).toBe(2)
  expect(prompts.map((prompt) => clusterOf({ ...prompt, cluster: 'template' }))).toEqual(
    prompts.map(() => 'template'),
  )
  expect(oneCluster(prompts)).toEqual([])
  expect(oneCluster([])).toEqual([])
  expect(oneCluster(prompts.slice(1))).toEqual([
    'all 2 prompts are of one conversation or template: intervals say nothing',
  ])
})

test('a judge’s audit has intervals over conversations', () => {
  const figures = auditFigures(
    Array.from({ length: 20 }, (_, i) => ({
      ...{ axis: null, prompt: asked(i), a: 'x', b: 'y', label: 'a' as const },
    })),
    Array.from({ length: 20 }, (_, i) => ({
      ...{ ok: true as const, orders: [0.9, 0.9], probability: i < 10 ? 0.9 : 0.1, cached: false },
      ...{ consistent: true, strength: 'better' as const, soft: true },
    })),
    1,
    {},
  )
  const of = (name: string) => figures.find(({ figure }) => figure === name)
  const { low = NaN, high = NaN } = of('accuracy') ?? {}
  expect(high - low).toBeGreaterThan(0.2)
  // what never came out otherwise in 20 conversations (Clopper and Pearson)
  const others = 1 - 0.025 ** (1 / 20)
  expect(of('same position preferred')).toMatchObject({ value: 0, low: 0, n: 20 })
  expect(of('same position preferred')?.high).toBeCloseTo(others, 10)
})

test('a calibration has intervals over conversations', async () => {
  const raw = join(folder, 'raw')
  await mkdir(raw)
  await writeFile(join(raw, 'weights'), '')
  const held = Array.from({ length: 40 }, (_, i): PreferenceRow => ({
    ...{ axis: 'safety', prompt: asked(i), chosen: 'no', rejected: 'yes' },
    ...{ chosen_safe: i % 8 !== 0, rejected_safe: i % 4 === 0 },
  }))
  const score = ({ conversations }: { conversations: readonly (readonly Message[])[] }) =>
    Promise.resolve(
      conversations.map((turns, i) => ({
        logit: (turns.at(-1)?.content === 'no' ? 1 : -1) + Math.sin(i),
      })),
    )
  const output = join(folder, 'calibrated')
  const { calibration } = await calibrateReward(
    { score, describe: () => Promise.resolve({ version: 'raw' }) } as unknown as Engine,
    { base: raw, adapters: [] },
    output,
    { axis: 'safety', held, dataHash: '0'.repeat(64), seed: 1, references: null },
  )
  expect(await readFile(join(output, 'weights'), 'utf8')).toBe('')
  const { low = NaN, high = NaN } =
    (calibration.kind === 'platt' && calibration.quality?.gate?.prevalence) || {}
  expect(high - low).toBeGreaterThan(0.05)
})
