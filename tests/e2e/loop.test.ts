import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { z } from 'zod'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Engine } from '../../src/engine/engine.ts'
import { spawnEngine } from '../../src/engine/process/spawn.ts'
import { starterRoles } from '../starter-roles.ts'
import { createLocalJudge } from '../../src/judging/local-judge.ts'
import { alignByAiFeedback } from '../../src/rlaif/loop.ts'
import { AXES } from '../../src/schemas/feedback.ts'
import { RlaifOptions } from '../../src/schemas/rlaif.ts'
import { PpoOptions } from '../../src/schemas/policy-options.ts'
import { RewardModelOptions, SftOptions } from '../../src/schemas/training-options.ts'
import type { TrainSpec } from '../../src/schemas/training.ts'
import { keepEngines } from '../../src/services/engines.ts'
import { evaluateStarter } from '../../src/services/loop-evaluation.ts'
import { recordedParts } from '../../src/services/loop-parts.ts'
import { recordRun } from '../../src/services/runs.ts'
import { createServices } from '../../src/services/services.ts'
import { sftDialogues } from '../../src/starter/corpus.ts'
import { compareGraded } from '../../src/starter/evaluate.ts'
import type { Graded } from '../../src/starter/evaluate.ts'
import { prompts } from '../../src/starter/world.ts'
import { openStore } from '../../src/store/store.ts'
import { hashFolder } from '../../src/weights/atomic.ts'
import { openSafetensors } from '../../src/weights/safetensors.ts'

let engine: Engine
const folder = mkdtempSync(join(tmpdir(), 'libra-loop-'))
const roles = starterRoles()
const asked = prompts('train', 1)
  .slice(0, 64)
  .map(({ id, messages }) => ({ id, messages }))

beforeAll(async () => {
  engine = await spawnEngine()
})
afterAll(async () => {
  await engine.close()
  rmSync(folder, { recursive: true })
})

test('a branch that is measured on fewer prompts than what it left is measured on the same before and after', async () => {
  const { policy: sft } = roles
  const evaluate = (
    count: number,
    known?: Graded[],
    signal: AbortSignal = new AbortController().signal,
  ) => {
    const options = RlaifOptions.parse({ evaluation_prompts: count, ppo: { max_new_tokens: 4 } })
    return evaluateStarter(engine, { sft, policy: sft }, options, {
      progress: () => {},
      known,
      signal,
    })
  }
  const left = (await evaluate(6)).graded
  const { graded, figures } = await evaluate(3, left?.before)
  expect(graded?.before).toEqual(left?.before.slice(0, 3))
  expect(figures.map(({ before, difference }) => [before?.n, difference.value])).toEqual(
    figures.map(({ before }) => [before?.n, 0]),
  )
  expect(figures[0]?.before?.n).toBe(3)
  await expect(evaluate(3, undefined, AbortSignal.abort())).rejects.toMatchObject({
    code: 'cancelled',
  })
  expect(() => compareGraded(left?.before ?? [], graded?.after ?? [], 1)).toThrow('same prompts')
})

test('the whole loop, small: lineage recorded, the base untouched, no tensor left behind', async () => {
  const dataDir = join(folder, 'data')
  const store = await openStore(dataDir)
  const startTraining = () => spawnEngine({ training: true })
  const services = await createServices({ store, serving: engine, startTraining, dataDir })
  const before = await hashFolder(roles.base.base)
  const options = RlaifOptions.parse({
    dialogues: 64,
    pairs: 40,
    reward_model: { batch_size: 16 },
    ppo: { rounds: 2, prompts_per_round: 16, mini_batch_size: 8 },
    guard: { every: 1, prompts: 8 },
  })
  const { lend, close } = keepEngines(services)
  const { runId } = await recordRun(store, { kind: 'rlaif', config: {}, seed: 1 }, async (loop) => {
    const judge = createLocalJudge(engine, roles.judge, 'j', { by: 'score' })
    const result = await alignByAiFeedback(
      {
        ...{ serving: engine, folder: join(folder, 'loop'), judge: () => judge },
        ...{ progress: () => {}, signal: loop.signal },
        parts: await recordedParts(services, loop, { seed: 1, lend }),
        audit: { judge, prompts: asked },
      },
      {
        ...{ base: roles.base.base, twinBase: roles.twin.base },
        ...{ dialogues: sftDialogues(1, 64), prompts: asked },
      },
      [options],
    )
    expect(result.rounds).toHaveLength(2)
    expect(result.rounds[0]?.['val/ratio']).toBeCloseTo(1, 2) // before the first update policy and rollout agree
    expect(result.rounds[0]?.['objective/kl']).toBeCloseTo(0, 3) // the policy starts at the reference
    const looks = result.guard?.decisions ?? []
    expect(looks).toHaveLength(2)
    for (const { opinions } of looks)
      for (const axis of AXES) expect(opinions?.twins[axis]).not.toBeNull()
    return { policy: result.policy }
  })
  await close()
  const parts = await store.partsOf(runId)
  expect(parts.map(({ part, kind }) => [part, kind])).toEqual([
    ['sft', 'sft'],
    ['1/label', 'label'],
    ['1/reward-helpfulness', 'reward_model'],
    ['1/reward-safety', 'reward_model'],
    ['1/reward-twin-helpfulness', 'reward_model'],
    ['1/reward-twin-safety', 'reward_model'],
    ['1/ppo-1', 'policy_update'],
    ['1/ppo-2', 'policy_update'],
  ])
  expect(parts.every(({ state }) => state === 'succeeded')).toBe(true)
  expect(await hashFolder(roles.base.base)).toBe(before)
  await store.close()
})

test('all weights instead of adapters: every kind of run, the start untouched', async () => {
  const start = { base: roles.base.base, adapters: [] }
  const before = await hashFolder(start.base)
  const write = async (name: string, rows: readonly unknown[]): Promise<string> => {
    const path = join(folder, name)
    await writeFile(path, rows.map((row) => JSON.stringify(row)).join('\n'))
    return path
  }
  const metrics = async (spec: TrainSpec): Promise<Record<string, number>[]> => {
    const all = []
    for await (const event of engine.train(spec))
      if (event.type === 'metrics') all.push(event.metrics)
    return all
  }
  const common = { lora: null, batch_size: 16, epochs: 4, optimizer: { learning_rate: 1e-3 } }
  const sft = join(folder, 'full-sft')
  const losses = await metrics({
    kind: 'sft',
    output: sft,
    model: start,
    data: await write('full-dialogues.jsonl', sftDialogues(1, 32)),
    options: SftOptions.parse(common),
  })
  expect(losses.at(-1)?.['loss']).toBeLessThan((losses[0]?.['loss'] ?? 0) - 0.05)
  const pairs = asked.slice(0, 16).map(({ messages: prompt }) => ({
    ...{ axis: 'safety', prompt, chosen: 'good', rejected: 'bad', chosen_safe: true },
    rejected_safe: false,
  }))
  const reward = join(folder, 'full-reward')
  const fitted = await metrics({
    kind: 'reward_model',
    output: reward,
    model: { base: sft, adapters: [] },
    data: await write('full-pairs.jsonl', pairs),
    options: RewardModelOptions.parse({ axis: 'safety', ...common }),
  })
  expect(fitted.at(-1)?.['accuracy']).toBe(1)
  const scorer = { files: { base: reward, adapters: [] }, calibration: null }
  const spec: Extract<TrainSpec, { kind: 'policy_update' }> = {
    ...{ kind: 'policy_update', output: join(folder, 'full-long'), parent: null },
    ...{ reference: { base: sft, adapters: [] }, helpfulness: scorer, safety: scorer },
    data: await write('full-prompts.jsonl', asked),
    options: PpoOptions.parse({
      ...{ lora: null, rounds: 2, total_rounds: 2, prompts_per_round: 16, mini_batch_size: 8 },
      ...{ critic_warmup_rounds: 0, optimizer: { learning_rate: 1e-4 } },
    }),
  }
  const rounds = await metrics(spec)
  expect(rounds[0]?.['objective/kl']).toBeCloseTo(0, 4)
  expect(rounds[1]?.['objective/kl']).not.toBe(0)
  const one = { ...spec.options, rounds: 1 }
  const first = join(folder, 'full-first')
  const second = join(folder, 'full-second')
  await metrics({ ...spec, output: first, options: one })
  await metrics({ ...spec, output: second, parent: first, options: one })
  const weights = (name: string) => readFileSync(join(folder, name, 'model.safetensors'))
  expect(weights('full-second').equals(weights('full-long'))).toBe(true)
  expect(await hashFolder(start.base)).toBe(before)
}, 60_000)

const steered = {
  ...{ kl_target: 0.01, kl_horizon: 40, combiner: 'lagrangian', safety_limit: 3 },
  ...{ reward_normalization: 'running', reward_clip: 2, epochs: 2, target_kl: 0.02 },
}
test.each<[string, z.input<typeof PpoOptions>, string[]]>([
  ['ppo', {}, []],
  [
    'steered',
    { ...steered, kl_in: 'loss', kl_estimator: 'k2' } as object,
    ['lagrangian/multiplier'],
  ],
  ['rloo', { method: 'rloo', samples_per_prompt: 2, prompts_per_round: 8 }, []],
])(
  'two rounds of %s called one by one equal one run of two, bit for bit',
  async (name, more, steers) => {
    const data = join(folder, 'prompts.jsonl')
    await writeFile(data, asked.map((row) => JSON.stringify(row)).join('\n'))
    const files = ({ base, adapters }: typeof roles.policy) => ({ base, adapters: [...adapters] })
    const options = PpoOptions.parse({
      ...{ rounds: 2, total_rounds: 2, prompts_per_round: 16, mini_batch_size: 8 },
      ...{ critic_warmup_rounds: 0, ...more },
    })
    const spec: Extract<TrainSpec, { kind: 'policy_update' }> = {
      kind: 'policy_update',
      output: join(folder, `${name}-long`),
      reference: { base: roles.policy.base, adapters: roles.policy.adapters.slice(0, 1) },
      parent: null,
      data,
      helpfulness: { files: files(roles.helpfulness), calibration: null },
      safety: { files: files(roles.safety), calibration: null },
      options,
    }
    const run = async (s: TrainSpec): Promise<Record<string, number>[]> => {
      const rounds: Record<string, number>[] = []
      for await (const event of engine.train(s)) {
        expect(event.type).not.toBe('warning')
        if (event.type === 'metrics') rounds.push(event.metrics)
      }
      return rounds
    }
    const rounds = await run(spec)
    for (const steer of steers.concat(steers.length > 0 ? ['policy/kl_coef'] : []))
      expect(rounds[1]?.[steer], steer).not.toBe(rounds[0]?.[steer])
    for (const round of rounds) {
      const phases = ['sample', 'measure', 'score', 'learn'].map(
        (of) => round[`time/${of}_s`] ?? NaN,
      )
      const sum = phases.reduce((a, b) => a + b, 0)
      expect(sum).toBeGreaterThan(0.95 * (round['time/round_s'] ?? NaN))
      expect(sum).toBeLessThanOrEqual(round['time/round_s'] ?? NaN)
    }
    const one = { ...options, rounds: 1 }
    const [first, second] = [join(folder, `${name}-first`), join(folder, `${name}-second`)]
    await run({ ...spec, output: first, options: one })
    const memory = (await engine.status()).numTensors
    await run({ ...spec, output: second, parent: first, options: one })
    expect((await engine.status()).numTensors - memory).toBeLessThanOrEqual(8) // constants and masks that a new shape adds
    for (const file of ['adapter_model.safetensors', 'optimizer.safetensors', 'trainer_state.json'])
      expect(
        readFileSync(join(second, file)).equals(readFileSync(join(spec.output, file))),
        file,
      ).toBe(true)
    const changed = openSafetensors(join(spec.output, 'adapter_model.safetensors'))
    expect(
      changed.names.some(
        (name) => name.endsWith('lora_B.weight') && changed.read(name).data.some((x) => x !== 0),
      ),
    ).toBe(true)
  },
)

test('rloo with one answer to a prompt is refused', async () => {
  const spec = {
    ...{ kind: 'policy_update' as const, output: join(folder, 'no'), parent: null, data: 'none' },
    reference: { base: roles.policy.base, adapters: [] },
    helpfulness: { files: { base: 'none', adapters: [] }, calibration: null },
    safety: { files: { base: 'none', adapters: [] }, calibration: null },
    options: PpoOptions.parse({ method: 'rloo' }),
  }
  const run = async (): Promise<void> => {
    for await (const event of engine.train(spec)) expect(event).toBeUndefined()
  }
  await expect(run()).rejects.toMatchObject({ code: 'conflicting_options' })
})
