import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { createLocalEngine } from '../../src/engine/local.ts'
import { cachedMasks } from '../../src/model/masks.ts'
import { PretrainOptions, RewardModelOptions } from '../../src/schemas/training-options.ts'
import { DpoOptions, SftOptions } from '../../src/schemas/training-options.ts'
import { PpoOptions } from '../../src/schemas/policy-options.ts'
import type { TrainSpec } from '../../src/schemas/training.ts'
import { sftDialogues } from '../../src/starter/corpus.ts'
import { prompts } from '../../src/starter/world.ts'
import { cachedConstants, tf } from '../../src/tensor/backend.ts'
import { starterRoles } from '../starter-roles.ts'

// Every kind of call and every kind of run leaves as many tensors as it found. Constants and masks, made once per
// shape for the whole process, are counted apart.
const live = (): number => tf.memory().numTensors - cachedConstants() - cachedMasks()
const folder = mkdtempSync(join(tmpdir(), 'libra-leaks-'))
afterAll(() => rmSync(folder, { recursive: true }))

const engine = createLocalEngine()
const roles = starterRoles()
const asked = prompts('train', 1, 8)
const conversations = asked.map(({ messages }) => [
  ...messages,
  { role: 'assistant' as const, content: 'yes' },
])
const generation = {
  ...{ prompts: asked.map(({ messages }) => messages), n: 2, onTooLong: 'error' as const },
  sampling: { maxTokens: 6, temperature: 1, topP: 0.9, topK: 20, seed: 1, stop: ['zz'] },
}
const options = ['A', 'B']
const calls: [string, () => Promise<unknown>][] = [
  ['describe', () => engine.describe(roles.safety)],
  ['score', () => engine.score({ model: roles.safety, conversations, onTooLong: 'error' })],
  ['generate', () => engine.generate({ model: roles.policy, ...generation })],
  ['judge', () => engine.optionLogprobs({ model: roles.judge, prompts: conversations, options })],
  [
    'likelihoods',
    () =>
      engine.likelihoods({
        model: roles.policy,
        texts: [{ text: 'yes' }, { messages: conversations[0] ?? [], ended: true }],
      }),
  ],
  ['status', () => engine.status()],
  [
    'a refused call',
    () =>
      engine.score({ model: roles.policy, conversations, onTooLong: 'error' }).catch(() => null),
  ],
]

test.each(calls)('%s', async (_, call) => {
  await call() // loads the model
  const before = live()
  await call()
  expect(live()).toBe(before)
})

const write = (name: string, rows: readonly unknown[]): string => {
  writeFileSync(join(folder, name), rows.map((row) => JSON.stringify(row)).join('\n'))
  return join(folder, name)
}
const files = ({ base, adapters }: { base: string; adapters: readonly string[] }) => ({
  base,
  adapters: [...adapters],
})
const small = { batch_size: 4, epochs: 1 }
const pairs = asked.map(({ messages: prompt }) => ({
  ...{ axis: 'safety', prompt, chosen: 'a', rejected: 'b', chosen_safe: true },
}))
const architecture = {
  ...{ hidden_size: 8, layers: 1, heads: 2, kv_heads: 1, intermediate_size: 16, context: 64 },
}
const scorer = { files: files(roles.safety), calibration: null }
const runs = (lora: object | null): TrainSpec[] => [
  {
    ...{ kind: 'pretrain', output: join(folder, 'base'), tokenizer: roles.base.base },
    data: write('dialogues.jsonl', sftDialogues(1, 8)),
    options: PretrainOptions.parse({ ...small, architecture }),
  },
  {
    ...{ kind: 'sft', output: join(folder, 'sft'), model: files(roles.base) },
    data: write('dialogues.jsonl', sftDialogues(1, 8)),
    options: SftOptions.parse({ ...small, lora }),
  },
  {
    ...{ kind: 'reward_model', output: join(folder, 'reward'), model: files(roles.base) },
    data: write('pairs.jsonl', pairs),
    options: RewardModelOptions.parse({ ...small, axis: 'safety', lora }),
  },
  {
    ...{ kind: 'dpo', output: join(folder, 'dpo'), model: files(roles.base) },
    data: write('pairs.jsonl', pairs),
    options: DpoOptions.parse({ ...small, micro_batch_tokens: 64, lora }),
  },
  ...(['ppo', 'rloo', 'dpo', 'rejection_sampling'] as const).map((method): TrainSpec => ({
    ...{ kind: 'policy_update', output: join(folder, `policy-${method}`), parent: null },
    ...{ reference: files(roles.base), helpfulness: scorer, safety: scorer },
    data: write('prompts.jsonl', asked),
    options: PpoOptions.parse({
      ...{ method, prompts_per_round: 4, samples_per_prompt: 2, max_new_tokens: 6, rounds: 2 },
      lora,
    }),
  })),
]

test.each([
  ['adapters', { rank: 2 }],
  ['all weights', null],
])(
  'every kind of run, %s: to its end and left in the middle',
  async (_, lora) => {
    for (const spec of runs(lora)) {
      const before = live()
      for await (const event of engine.train(spec)) expect(event).toBeDefined()
      expect(live(), spec.kind).toBe(before)
      rmSync(spec.output, { recursive: true })
      for await (const event of engine.train(spec)) if (event.type === 'metrics') break
      expect(live(), `${spec.kind}, left`).toBe(before)
    }
  },
  60_000,
)

test('a readout: to its end, left in the middle, scored with, and refused as a parent', async () => {
  const output = join(folder, 'readout')
  const options = RewardModelOptions.parse({ ...small, epochs: 2, axis: 'safety', readout: {} })
  const model = files(roles.base)
  const data = write('pairs.jsonl', pairs)
  const spec: TrainSpec = { kind: 'reward_model', output, model, data, options }
  const before = live()
  for await (const event of engine.train(spec)) if (event.type === 'metrics') break
  expect(live(), 'left').toBe(before)
  for await (const event of engine.train(spec)) expect(event).toBeDefined()
  expect(live(), 'to its end').toBe(before)
  const made = { ...model, adapters: [...model.adapters, output] }
  const score = () => engine.score({ model: made, conversations, onTooLong: 'error' })
  await score() // loads the model
  const loaded = live()
  await score()
  expect(live(), 'scored').toBe(loaded)
  const again = { ...spec, model: made, output: join(folder, 'never') }
  await expect(engine.train(again)[Symbol.asyncIterator]().next()).rejects.toThrow(/is a readout/)
  expect(live(), 'refused').toBe(loaded)
})

test('closing the engine leaves nothing', async () => {
  await engine.close()
  expect(live()).toBe(0)
  const { getNumOfSavedModels: graphs } = tf.backend() as unknown as Record<string, () => number>
  expect(graphs?.call(tf.backend())).toBe(0)
})
