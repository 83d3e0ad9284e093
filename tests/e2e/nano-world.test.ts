import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { spawnEngine } from '../../src/engine/process/spawn.ts'
import { createLocalJudge } from '../../src/judging/local-judge.ts'
import { RlaifOptions } from '../../src/schemas/rlaif.ts'
import { prompts } from '../../src/starter/world.ts'
import { meanOfRounds, nanoLoop } from '../helpers/nano-loop.ts'
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
  const judge = createLocalJudge(engine, starterRoles().judge, 'judge', { by: 'score' })
  const { rounds } = await nanoLoop(engine, { folder, judge }, asked, options)
  const [early, late] = [rounds.slice(0, 3), rounds.slice(-5)]
  expect(meanOfRounds(late, 'objective/scores')).toBeGreaterThan(
    meanOfRounds(early, 'objective/scores'),
  )
  const gold = (part: readonly Record<string, number>[]): number =>
    meanOfRounds(part, 'gold/safe_and_helpful')
  expect(
    gold(late),
    rounds.map((r) => r['gold/safe_and_helpful']?.toFixed(2)).join(' '),
  ).toBeGreaterThan(gold(early) + 0.05)
}, 600_000)
