import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Engine } from '../../src/engine/engine.ts'
import { spawnEngine } from '../../src/engine/process/spawn.ts'
import { PpoOptions } from '../../src/schemas/policy-options.ts'
import type { TrainSpec } from '../../src/schemas/training.ts'
import { prompts } from '../../src/starter/world.ts'
import { openSafetensors } from '../../src/weights/safetensors.ts'
import { starterRoles } from '../starter-roles.ts'

// One method after another on one policy, by the real engine.
let engine: Engine
const folder = mkdtempSync(join(tmpdir(), 'libra-in-turn-'))
const data = join(folder, 'prompts.jsonl')
const roles = starterRoles()
beforeAll(async () => {
  engine = await spawnEngine()
  const asked = prompts('train', 1, 12).map(({ id, messages }) => ({ id, messages }))
  await writeFile(data, asked.map((row) => JSON.stringify(row)).join('\n'))
})
afterAll(async () => {
  await engine.close()
  rmSync(folder, { recursive: true })
})

type Done = { folder: string; rounds: Record<string, number>[] }
/** Rounds of a method from where another one ended. */
async function go(
  name: string,
  from: Done | null,
  options: object,
  place: Partial<Extract<TrainSpec, { kind: 'policy_update' }>> = {},
): Promise<Done> {
  const output = join(folder, name)
  const scorer = ({ base, adapters }: typeof roles.policy) => ({
    ...{ files: { base, adapters: [...adapters] }, calibration: null },
  })
  const spec: TrainSpec = {
    ...{ kind: 'policy_update', output, parent: from?.folder ?? null, data },
    reference: { base: roles.policy.base, adapters: roles.policy.adapters.slice(0, 1) },
    ...{ helpfulness: scorer(roles.helpfulness), safety: scorer(roles.safety) },
    options: PpoOptions.parse({
      ...{ prompts_per_round: 6, mini_batch_size: 12, samples_per_prompt: 2, max_new_tokens: 12 },
      ...options,
    }),
    ...place,
  }
  const rounds: Record<string, number>[] = []
  for await (const event of engine.train(spec))
    if (event.type === 'metrics') rounds.push(event.metrics)
  return { folder: output, rounds }
}
const adapterOf = ({ folder }: Done) => {
  const file = openSafetensors(join(folder, 'adapter_model.safetensors'))
  const names = file.names.filter((name) => name.includes('lora'))
  const hash = createHash('sha256')
  for (const name of names) hash.update(Buffer.from(file.read(name).data.buffer))
  const untouched = names
    .filter((name) => name.includes('lora_B'))
    .every((name) => file.read(name).data.every((x) => x === 0))
  return { hash: hash.digest('hex'), untouched }
}
const stateOf = ({ folder }: Done) =>
  JSON.parse(readFileSync(join(folder, 'trainer_state.json'), 'utf8')) as Record<string, number>

test('a new critic learns alone, whenever it is new, and weights that do not learn do not decay', async () => {
  const optimizer = { learning_rate: 1e-2, weight_decay: 0.1 }
  const first = await go('rloo', null, { method: 'rloo', optimizer })
  // the same round number as if PPO had been there before
  const second = await go('ppo', first, { method: 'ppo', optimizer })
  expect(adapterOf(second).hash).toBe(adapterOf(first).hash)
  expect(stateOf(second)).toMatchObject({ round: 2, critic_rounds: 1 })
  const third = await go('ppo-2', second, { method: 'ppo', optimizer })
  expect(adapterOf(third).hash).not.toBe(adapterOf(second).hash)
  // what a guard took back leaves no critic behind either
  const anew = await go('anew', null, { method: 'ppo', optimizer }, { rounds_before: 60 })
  expect(adapterOf(anew).untouched).toBe(true)
  expect(stateOf(anew)).toMatchObject({ round: 61, critic_rounds: 1 })
}, 60_000)

test('what rejection sampling has kept outlives rounds of another method, and is measured by what now counts', async () => {
  const best = { method: 'rejection_sampling', reward_normalization: 'none' }
  const first = await go('best', null, { ...best, rounds: 2 })
  const second = await go('between', first, { method: 'rloo', reward_normalization: 'none' })
  // all twelve prompts have been asked, and of the six that are asked again some are no better now
  const third = await go('best-2', second, best)
  const [of] = third.rounds
  expect(of?.['rejection/kept']).toBe(12)
  expect(of?.['rejection/kept_earlier_share']).toBeGreaterThanOrEqual(0.5)
  const kept = (done: Done) =>
    readFileSync(join(done.folder, 'kept.jsonl'), 'utf8')
      .split('\n')
      .map((line) => JSON.parse(line) as { text: string; reward: number; round: number })
  const scaled = await go('scaled', third, { ...best, reward_normalization: 'reference' })
  const before = new Map(kept(third).map(({ text, reward }) => [text, reward]))
  const again = kept(scaled).filter(({ round }) => round < 4)
  expect(again.length).toBeGreaterThan(5)
  for (const { text, reward } of again) expect(reward).not.toBeCloseTo(before.get(text) ?? NaN, 3)
}, 60_000)

test('a change of how many prompts a round has asks none again before all have been asked', async () => {
  const first = await go('four', null, { method: 'rloo', prompts_per_round: 4 })
  const second = await go('eight', first, { method: 'rloo', prompts_per_round: 8 })
  expect(second.rounds[0]?.['episode']).toBe(24)
  expect(stateOf(second)).toMatchObject({ asked: 12 })
}, 60_000)

test('few prompts are asked again and again for the scales of rewards', async () => {
  const few = join(folder, 'few.jsonl')
  const [one, two] = prompts('train', 1, 2).map(({ messages }) => JSON.stringify({ messages }))
  await writeFile(few, `${one ?? ''}\n${two ?? ''}`)
  const scaleOf = async (seed: number) => {
    const done = await go(`few-${seed}`, null, { prompts_per_round: 2, seed }, { data: few })
    type Scales = Record<string, { mean: number; std: number }>
    const { scales } = stateOf(done) as unknown as { scales: Scales }
    return scales['helpfulness'] ?? { mean: NaN, std: NaN }
  }
  // of 256 answers two draws agree (a deviation within some 6 %), of two answers they do not
  const [first, second] = [await scaleOf(1), await scaleOf(2)]
  expect(Math.abs(Math.log(first.std / second.std))).toBeLessThan(0.25)
  expect(Math.abs(first.mean - second.mean)).toBeLessThan(0.5 * first.std)
}, 60_000)
