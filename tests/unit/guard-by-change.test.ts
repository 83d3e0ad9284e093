import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { alignByAiFeedback } from '../../src/rlaif/loop.ts'
import type { LoopWorld } from '../../src/rlaif/world.ts'
import { AXES } from '../../src/schemas/feedback.ts'
import { RlaifOptions } from '../../src/schemas/rlaif.ts'

const folder = mkdtempSync(join(tmpdir(), 'libra-by-change-'))
afterAll(() => rmSync(folder, { recursive: true }))
const write = (name: string, rows: readonly unknown[]): string => {
  const path = join(folder, name)
  writeFileSync(path, rows.map((row) => JSON.stringify(row)).join('\n'))
  return path
}

test('where changes turn the guard on and off, it begins with the policy that its iteration begins with', async () => {
  const prompt = [{ role: 'user', content: 'question' }]
  const answers = write('answers.jsonl', [{ prompt, a: 'good', b: 'bad' }])
  const pair = { prompt, chosen: 'good', rejected: 'bad' }
  const labels = write(
    'labels.jsonl',
    AXES.flatMap((axis) => Array.from({ length: 5 }, () => ({ ...pair, axis }))),
  )
  const signals = { kl: 1, distinct: 0.5, ended: 1, surprise: 1, length: 1, refusals: 0 }
  const silent = { helpfulness: [], safety: [] }
  const even = { helpfulness: null, safety: null }
  // every part is known already: nothing is trained, asked or judged
  const known = (name: string): unknown => {
    const round = Number(name.split('-').at(-1))
    if (name === 'sft') return { base: 'base', adapters: ['sft'] }
    if (name.endsWith('/answers')) return { file: answers, same: 0 }
    if (name.endsWith('/label')) return { labels, agreement: [], failures: {} }
    if (name.includes('/reward-'))
      return { files: { base: 'base', adapters: [name] }, calibration: {}, accuracy: 1 }
    if (name.includes('/ppo-')) {
      const metrics = Array.from({ length: name.startsWith('1/') || name.startsWith('3/') ? 2 : 1 })
      return { policy: { base: 'base', adapters: ['sft', name] }, metrics: metrics.map(() => ({})) }
    }
    if (name.endsWith('/look-0')) return { signals }
    if (name.includes('/look-')) return { round, outcomes: silent, failed: 0, signals }
    if (name.includes('/ballot-'))
      return { round, worse: 1, better: 0.5, winRate: even, verdicts: 0, failed: 0 }
    return { checks: [] }
  }
  const parts = { run: (name: string) => Promise.resolve(known(name)) }
  const world = {
    ...{ folder, progress: () => {}, signal: new AbortController().signal },
    ...{ parts: { ...parts, note: parts.run }, audit: { judge: {}, prompts: [] } },
    judge: () => ({ name: 'judge', promptVersion: '1' }),
  } as unknown as LoopWorld
  const options = (guard: object | null): RlaifOptions =>
    RlaifOptions.parse({ ppo: { rounds: 2 }, guard })
  const { guard, policy } = await alignByAiFeedback(
    world,
    { base: 'base', dialogues: [], prompts: [] },
    [null, { every: 1 }, null, { every: 1 }].map(options),
  )
  expect(guard?.decisions.map(({ round, accepted }) => [round, accepted])).toEqual([
    [3, 2],
    [4, 2],
    [7, 6],
    [8, 6],
  ])
  expect(guard?.ballots.map(({ accepted, kept }) => [accepted, kept])).toEqual([
    [2, 2],
    [6, 6],
  ])
  expect(policy.adapters.at(-1)).toBe('3/ppo-6')
})
