import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { sftDialogues } from '../../src/starter/corpus.ts'
import { prompts } from '../../src/starter/world.ts'
import { server } from '../helpers/kills.ts'
import type { Ended, Kill } from '../helpers/kills.ts'

// A run whose service or training engine is killed at any moment ends to the bit as one that is left alone: weights,
// optimiser, state and metrics. A few kills here; `npm run test:kill` places many over all phases and kinds.
const all = process.env['LIBRA_KILLS'] === 'all'
const data = mkdtempSync(join(tmpdir(), 'libra-kill-'))
const libra = server(data)
let files = { prompts: '', dialogues: '', pairs: '' }

beforeAll(async () => {
  if (!existsSync('/proc')) return
  await libra.start()
  const asked = prompts('train', 1, 60)
  files = {
    prompts: await libra.upload(asked),
    dialogues: await libra.upload(sftDialogues(1, 60)),
    pairs: await libra.upload(
      asked.map(({ messages: prompt }, i) => ({
        ...{ axis: 'safety', prompt, chosen: `yes ${i}`, rejected: 'no', chosen_safe: true },
      })),
    ),
  }
})
afterAll(async () => {
  if (existsSync('/proc')) await libra.stop()
  rmSync(data, { recursive: true })
})

const lora = { rank: 4 }
const small = { batch_size: 8, epochs: 1, checkpoint_every: 2, lora }
const round = {
  ...{ prompts_per_round: 12, samples_per_prompt: 2, mini_batch_size: 6, rounds: 4, epochs: 2 },
  ...{ max_new_tokens: 16, lora },
}
const update = (options: object) => ({
  ...{ kind: 'policy_update', training_file: files.prompts, override: ['staleness'] },
  options: { ...round, ...options },
})
const requests: Record<string, () => object> = {
  ppo: () => update({ method: 'ppo', kl_target: 1, kl_horizon: 24 }),
  rejection_sampling: () => update({ method: 'rejection_sampling' }),
  sft: () => ({ kind: 'sft', training_file: files.dialogues, options: small }),
  reward_model: () => ({
    ...{ kind: 'reward_model', training_file: files.pairs },
    options: { ...small, axis: 'safety' },
  }),
  dpo: () => ({ kind: 'dpo', training_file: files.pairs, options: small }),
}

const few: [string, Kill][] = [
  ['ppo', { ends: 'engine', phase: 'learn', step: 1, fraction: 0.5 }],
  ['ppo', { ends: 'engine', phase: 'write', step: 2 }],
  ['ppo', { ends: 'engine', phase: 'sample', step: 3, fraction: 0.5 }],
  ['ppo', { ends: 'server', phase: 'commit', step: 2 }],
  ['ppo', { ends: 'server', phase: 'score', step: 1, fraction: 0.5 }],
]
const inTurn = (i: number): Kill['ends'] => (i % 2 === 0 ? 'engine' : 'server')
const many: [string, Kill][] = [
  ...[0, 0.2, 0.5, 0.8].flatMap((fraction, i): [string, Kill][] => [
    ['ppo', { ends: inTurn(i), phase: 'sample', step: 1 + (i % 3), fraction }],
    ['ppo', { ends: inTurn(i + 1), phase: 'learn', step: 1 + ((i + 1) % 3), fraction }],
  ]),
  ...([0.2, 0.6] as const).flatMap((fraction, i): [string, Kill][] => [
    ['ppo', { ends: inTurn(i), phase: 'measure', step: 1 + i, fraction }],
    ['ppo', { ends: inTurn(i + 1), phase: 'score', step: 1 + i, fraction }],
  ]),
  ...[1, 2, 3].flatMap((step): [string, Kill][] => [
    ['ppo', { ends: inTurn(step), phase: 'write', step }],
    ['ppo', { ends: inTurn(step + 1), phase: 'commit', step }],
  ]),
  ['ppo', { ends: 'server', phase: 'start', fraction: 0.2 }],
  ['ppo', { ends: 'server', phase: 'write', folder: 'model' }],
  ['ppo', { ends: 'server', phase: 'commit', folder: 'model' }],
  ['rejection_sampling', { ends: 'server', phase: 'learn', step: 2, fraction: 0.5 }],
  ['rejection_sampling', { ends: 'engine', phase: 'write', step: 3 }],
  ...['sft', 'dpo', 'reward_model'].flatMap((kind, i): [string, Kill][] => [
    [kind, { ends: inTurn(i), phase: 'write', step: 2 }],
    [kind, { ends: inTurn(i + 1), phase: 'commit', step: 4 }],
  ]),
  ['reward_model', { ends: 'server', phase: 'commit', folder: 'raw' }],
  ['reward_model', { ends: 'server', phase: 'commit', folder: 'model' }],
]

const undisturbed = new Map<string, Promise<Ended>>()
const wholeOf = (name: string): Promise<Ended> => {
  const run = undisturbed.get(name) ?? libra.run(requests[name]?.() ?? {})
  undisturbed.set(name, run)
  return run
}

describe.skipIf(!existsSync('/proc'))('kill -9', () => {
  test.each(
    (all ? many : few).map(
      ([name, kill]) =>
        [
          `${name}: the ${kill.ends}, ${kill.phase} ${kill.folder ?? kill.step ?? ''} ${kill.fraction ?? ''}`,
          ...([name, kill] as const),
        ] as const,
    ),
  )(
    '%s',
    async (_, name, kill) => {
      const whole = await wholeOf(name)
      expect(whole.resumed).toEqual([])
      const run = await libra.run(requests[name]?.() ?? {}, kill, whole.phases)
      // it was interrupted, and at most one interval was done again
      if (kill.phase !== 'start' && kill.folder === undefined) {
        const every = name === 'ppo' || name === 'rejection_sampling' ? 1 : small.checkpoint_every
        expect(run.resumed).toHaveLength(1)
        expect(run.resumed[0]).toBeGreaterThanOrEqual((kill.step ?? 0) - every)
      }
      expect(run.metrics).toEqual(whole.metrics)
      expect(run.rollouts).toEqual(whole.rollouts)
      expect(run.hashes).toEqual(whole.hashes)
      expect(run.left.filter((file) => /checkpoints|partial/.test(file))).toEqual([])
    },
    120_000,
  )
})
