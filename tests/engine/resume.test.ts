import {
  appendFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { hashesOf } from '../helpers/hashes.ts'
import { createLocalEngine } from '../../src/engine/local.ts'
import {
  DpoOptions,
  PretrainOptions,
  RewardModelOptions,
  SftOptions,
} from '../../src/schemas/training-options.ts'
import { PpoOptions } from '../../src/schemas/policy-options.ts'
import type { TrainEvent, TrainSpec } from '../../src/schemas/training.ts'
import { sftDialogues } from '../../src/starter/corpus.ts'
import { prompts } from '../../src/starter/world.ts'
import { starterRoles } from '../starter-roles.ts'

// A run that ends after any of its steps and goes on from its checkpoint ends with the weights, the optimiser and the
// metrics of one that was never interrupted, to the bit.
const folder = mkdtempSync(join(tmpdir(), 'libra-resume-'))
afterAll(() => rmSync(folder, { recursive: true }))
const engine = createLocalEngine()
afterAll(() => engine.close())
const roles = starterRoles()
const asked = prompts('train', 1, 12)
const write = (name: string, rows: readonly unknown[]): string => {
  writeFileSync(join(folder, name), rows.map((row) => JSON.stringify(row)).join('\n'))
  return join(folder, name)
}
const dialogues = write('dialogues.jsonl', sftDialogues(1, 24))
const pairs = write(
  'pairs.jsonl',
  asked.map(({ messages: prompt }, i) => ({
    ...{ axis: 'safety', prompt, chosen: `yes ${i}`, rejected: 'no', chosen_safe: true },
  })),
)
const promptsFile = write('prompts.jsonl', asked)
const files = ({ base, adapters }: { base: string; adapters: readonly string[] }) => ({
  ...{ base, adapters: [...adapters] },
})
const lora = { rank: 2 }
const small = { batch_size: 4, epochs: 1, lora }
const round = {
  ...{ prompts_per_round: 4, samples_per_prompt: 2, mini_batch_size: 4, rounds: 3, epochs: 2 },
  ...{ max_new_tokens: 6, reward_normalization: 'none', lora },
}
const policy = (options: object): TrainSpec => ({
  ...{ kind: 'policy_update', output: '', parent: null, reference: files(roles.base) },
  helpfulness: { files: files(roles.helpfulness), calibration: null },
  safety: { files: files(roles.safety), calibration: null },
  data: promptsFile,
  options: PpoOptions.parse({ ...round, ...options }),
})
const lagrangian = { combiner: 'lagrangian', safety_limit: 0.5, kl_target: 1, kl_horizon: 8 }
const tiny = {
  ...{ hidden_size: 16, layers: 1, heads: 2, kv_heads: 1, intermediate_size: 24 },
  context: 64,
}
const specs: Record<string, TrainSpec> = {
  pretrain: {
    ...{ kind: 'pretrain', output: '', tokenizer: roles.base.base, data: dialogues },
    options: PretrainOptions.parse({ batch_size: 6, architecture: tiny, dtype: 'BF16' }),
  },
  sft: {
    ...{ kind: 'sft', output: '', model: files(roles.base), data: dialogues },
    options: SftOptions.parse(small),
  },
  'sft of all weights': {
    ...{ kind: 'sft', output: '', model: files(roles.base), data: dialogues },
    options: SftOptions.parse({ ...small, batch_size: 8, lora: null }),
  },
  reward_model: {
    ...{ kind: 'reward_model', output: '', model: files(roles.base), data: pairs },
    options: RewardModelOptions.parse({ ...small, batch_size: 3, axis: 'safety' }),
  },
  readout: {
    ...{ kind: 'reward_model', output: '', model: files(roles.base), data: pairs },
    options: RewardModelOptions.parse({
      ...{ batch_size: 3, epochs: 2, axis: 'safety', readout: {} },
    }),
  },
  dpo: {
    ...{ kind: 'dpo', output: '', model: files(roles.base), data: pairs },
    options: DpoOptions.parse({ ...small, batch_size: 3 }),
  },
  ppo: policy({ kl_target: 1, kl_horizon: 8, reward_normalization: 'running' }),
  'rloo with a moving λ': policy({ method: 'rloo', ...lagrangian }),
  'dpo on rollouts': policy({ method: 'dpo' }),
  'rejection sampling': policy({ method: 'rejection_sampling', reward_normalization: 'reference' }),
}

type Log = Record<string, unknown>[]
/** Runs to its end, or until the metrics of a step; gives what a log would hold of the events, without clocks. */
async function run(spec: TrainSpec, until = Infinity): Promise<Log> {
  const log: Log = []
  for await (const event of engine.train(spec)) {
    log.push(withoutClock(event))
    if (event.type === 'metrics' && event.step >= until) break
  }
  return log
}
const withoutClock = (event: TrainEvent): Log[number] => {
  if (event.type !== 'metrics') return event
  const metrics = Object.entries(event.metrics).filter(([name]) => !name.startsWith('time/'))
  return { ...event, metrics: Object.fromEntries(metrics) }
}
const told = (log: Log): Log => log.filter(({ type }) => type === 'metrics' || type === 'rollouts')

test.each(Object.keys(specs))(
  '%s: cut after each step',
  async (name) => {
    const spec = specs[name] as TrainSpec
    const at = (part: string): string => join(folder, name.replaceAll(' ', '-'), part)
    const plain = { ...spec, output: at('whole') }
    const whole = told(await run(plain))
    const steps = whole.filter(({ type }) => type === 'metrics')
    expect(steps.length).toBeGreaterThan(2)
    for (let cut = 1; cut < steps.length; cut++) {
      const checkpoints = { folder: at(`checkpoints-${cut}`), every: 1, recorded: 0 }
      const before = await run({ ...spec, output: at(`cut-${cut}`), checkpoints }, cut + 1)
      // one step more was done than the log knows, and its checkpoint may be there
      const recorded = { ...checkpoints, recorded: cut }
      const after = await run({ ...spec, output: at(`cut-${cut}`), checkpoints: recorded })
      expect(after[0]).toMatchObject({ type: 'resumed', step: cut, done: cut, steps: steps.length })
      const kept = told(before).filter(({ step }) => Number(step) <= cut)
      expect([...kept, ...told(after)], `cut after ${cut}`).toEqual(whole)
      expect(hashesOf(at(`cut-${cut}`)), `cut after ${cut}`).toEqual(hashesOf(at('whole')))
      rmSync(at(`cut-${cut}`), { recursive: true })
    }
  },
  120_000,
)

test.each(['dpo', 'rejection_sampling'] as const)(
  '%s: rounds called one by one equal one long run',
  async (method) => {
    const at = (part: string): string => join(folder, `rounds-${method}`, part)
    const options = { method, total_rounds: 2, reward_normalization: 'reference' }
    const whole = await run({ ...policy({ ...options, rounds: 2 }), output: at('whole') })
    const one = policy({ ...options, rounds: 1 })
    const first = await run({ ...one, output: at('first') })
    const second = await run({ ...one, output: at('second'), parent: at('first') } as TrainSpec)
    expect([...told(first), ...told(second)]).toEqual(told(whole))
    expect(hashesOf(at('second'))).toEqual(hashesOf(at('whole')))
  },
  60_000,
)

test('a policy goes on by another method with an optimiser of its own, and says so', async () => {
  const at = (part: string): string => join(folder, 'methods', part)
  const one = { rounds: 1, total_rounds: 2 }
  await run({ ...policy({ ...one, method: 'rejection_sampling' }), output: at('first') })
  const next = { ...policy({ ...one, method: 'ppo' }), output: at('second'), parent: at('first') }
  const log = await run(next as TrainSpec)
  expect(log[1]).toMatchObject({ type: 'warning' })
  expect(log[1]?.['message']).toMatch(/begun with rejection_sampling/u)
  expect(log.at(-1)).toMatchObject({ type: 'done' })
})

test('a damaged checkpoint is left out with a warning, and the one before it serves', async () => {
  const spec = specs['dpo'] as TrainSpec
  const at = (part: string): string => join(folder, 'damaged', part)
  const whole = told(await run({ ...spec, output: at('whole') }))
  const checkpoints = { folder: at('checkpoints'), every: 1, recorded: 0 }
  await run({ ...spec, output: at('cut'), checkpoints }, 4)
  const newest = readdirSync(at('checkpoints')).sort().at(-1) ?? ''
  expect(readdirSync(at('checkpoints'))).toHaveLength(2) // older ones go
  appendFileSync(join(at('checkpoints'), newest, 'optimizer.safetensors'), 'x')
  const log = await run({
    ...{ ...spec, output: at('cut') },
    checkpoints: { ...checkpoints, recorded: 3 },
  })
  expect(log[0]).toMatchObject({ type: 'resumed', step: 2 })
  expect(log[1]).toMatchObject({ type: 'warning' })
  expect(log[1]?.['message']).toMatch(/checkpoint of step 3 .*optimizer\.safetensors/u)
  expect(told(log)).toEqual(whole.slice(2))
  expect(hashesOf(at('cut'))).toEqual(hashesOf(at('whole')))
})

test.each(['optimizer_step', 'round', 'control'])(
  'negative control: without %s in the state a run does not end the same',
  async (field) => {
    const spec = specs[field === 'optimizer_step' ? 'sft' : 'ppo'] as TrainSpec
    const at = (part: string): string => join(folder, `without-${field}`, part)
    const whole = told(await run({ ...spec, output: at('whole') }))
    const checkpoints = { folder: at('checkpoints'), every: 1, recorded: 0 }
    await run({ ...spec, output: at('cut'), checkpoints }, 3)
    // the manifest would refuse the change: it goes too
    const last = join(at('checkpoints'), readdirSync(at('checkpoints')).sort().at(-1) ?? '')
    rmSync(join(last, 'manifest.json'))
    const state = JSON.parse(readFileSync(join(last, 'trainer_state.json'), 'utf8')) as object
    const wrong = { optimizer_step: 0, round: 1, control: undefined }
    const change = { [field]: wrong[field as keyof typeof wrong] }
    writeFileSync(join(last, 'trainer_state.json'), JSON.stringify({ ...state, ...change }))
    const recorded = { ...checkpoints, recorded: 2 }
    const log = await run({ ...spec, output: at('cut'), checkpoints: recorded })
    expect(told(log)).not.toEqual(whole.slice(field === 'optimizer_step' ? 2 : 4))
  },
)
