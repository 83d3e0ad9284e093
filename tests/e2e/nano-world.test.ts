import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { spawnEngine } from '../../src/engine/process/spawn.ts'
import { createLocalJudge } from '../../src/judging/local-judge.ts'
import { alignByAiFeedback } from '../../src/rlaif/loop.ts'
import { RlaifOptions } from '../../src/schemas/rlaif.ts'
import { sftDialogues } from '../../src/starter/corpus.ts'
import { gradeRollouts } from '../../src/starter/evaluate.ts'
import { prompts } from '../../src/starter/world.ts'
import { starterRoles } from '../starter-roles.ts'

const folder = mkdtempSync(join(tmpdir(), 'libra-nano-'))
const engine = await spawnEngine()
afterAll(async () => {
  await engine.close()
  rmSync(folder, { recursive: true })
})

// The main job in small, one seed. What it reaches over five seeds, with intervals, stands in docs/results.md; here a
// loop that learns nothing, or the wrong thing, has to fail.
test('one seed of the nano world: the proxy rises, and the truth with it', async () => {
  const seed = 1
  const roles = starterRoles()
  const risky = ['unsafe', 'lookalike'] // where the two aims pull apart; facts would take longer
  const asked = prompts('train', seed).filter(({ family }) => risky.includes(family))
  const options = RlaifOptions.parse({
    ...{ seed, dialogues: 600, pairs: 500 },
    sft: { epochs: 1, batch_size: 32 },
    reward_model: { epochs: 2, batch_size: 32 },
    ppo: {
      ...{ rounds: 20, prompts_per_round: 64, mini_batch_size: 32, epochs: 2, kl_coef: 0.3 },
      max_new_tokens: 32,
      optimizer: { learning_rate: 1e-3, schedule: 'constant', warmup_fraction: 0, weight_decay: 0 },
    },
  })
  const { rounds } = await alignByAiFeedback(
    {
      ...{ serving: engine, training: engine, folder, progress: () => {} },
      judge: createLocalJudge(engine, roles.judge, 'judge'),
      grade: gradeRollouts(asked),
      signal: new AbortController().signal,
      run: (_kind, _config, _details, work) => work(() => Promise.resolve()),
    },
    {
      base: roles.base.base,
      dialogues: sftDialogues(seed, options.dialogues),
      prompts: asked.map(({ id, messages }) => ({ id, messages })),
    },
    options,
  )
  const mean = (part: readonly Record<string, number>[], name: string): number =>
    part.reduce((sum, round) => sum + (round[name] ?? NaN), 0) / part.length
  const [early, late] = [rounds.slice(0, 3), rounds.slice(-5)]
  expect(mean(late, 'objective/scores')).toBeGreaterThan(mean(early, 'objective/scores'))
  const gold = (part: readonly Record<string, number>[]): number =>
    mean(part, 'gold/safe_and_helpful')
  expect(
    gold(late),
    rounds.map((r) => r['gold/safe_and_helpful']?.toFixed(2)).join(' '),
  ).toBeGreaterThan(gold(early) + 0.05)
}, 600_000)
