import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, test } from 'vitest'
import { createLocalEngine } from '../../src/engine/local.ts'
import type { ModelFiles } from '../../src/engine/engine.ts'
import { firstLayers, readoutFeatures } from '../../src/model/readout.ts'
import { disposeBase, loadBase } from '../../src/model/resident.ts'
import { hiddenStates } from '../../src/model/llama.ts'
import { packRows } from '../../src/model/batch.ts'
import type { Message } from '../../src/schemas/chat.ts'
import type { PreferenceRow } from '../../src/schemas/feedback.ts'
import { RewardModelOptions } from '../../src/schemas/training-options.ts'
import { tf } from '../../src/tensor/backend.ts'
import { read } from '../../src/tensor/ops.ts'
import { encodeChat, lastTokens } from '../../src/text/template.ts'
import { loadTokenizer } from '../../src/text/tokenizer.ts'
import { scoredSequence } from '../../src/training/data.ts'
import { createFeatures, readoutStep } from '../../src/training/readout.ts'
import { scoreSequences } from '../../src/training/reward-model.ts'
import { loadScorer } from '../../src/training/ppo/scorers.ts'
import { openSafetensors } from '../../src/weights/safetensors.ts'
import { starterRoles } from '../starter-roles.ts'

// A readout is held against transformers' hidden states and against what its definition says.
const folder = mkdtempSync(join(tmpdir(), 'libra-readout-'))
const engine = createLocalEngine()
afterAll(async () => {
  await engine.close()
  rmSync(folder, { recursive: true })
})
const { base } = starterRoles()
const LAYERS = 2

const ask = (text: string): Message[] => [{ role: 'user', content: text }]
const pairs: PreferenceRow[] = Array.from({ length: 24 }, (_, i) => ({
  ...{ axis: 'helpfulness', prompt: ask(`What is ${i} and ${i % 7}?`) },
  ...{ chosen: `It is ${i + (i % 7)}.`, rejected: i % 2 === 0 ? 'No.' : `I will not say ${i}.` },
}))
const conversations = pairs.flatMap(({ prompt, chosen, rejected }) =>
  [chosen, rejected].map((content) => [...prompt, { role: 'assistant' as const, content }]),
)
const data = join(folder, 'pairs.jsonl')
writeFileSync(data, pairs.map((pair) => JSON.stringify(pair)).join('\n'))

async function trained(name: string, more: object = {}): Promise<ModelFiles> {
  const output = join(folder, name)
  const options = RewardModelOptions.parse({
    ...{ axis: 'helpfulness', epochs: 20, batch_size: 8, readout: { layers: LAYERS } },
    ...more,
  })
  const model = { base: base.base, adapters: [] }
  for await (const event of engine.train({ kind: 'reward_model', output, model, data, options }))
    if (event.type === 'done') break
  return { base: base.base, adapters: [output] }
}
const logits = async (...models: ModelFiles[]): Promise<number[][]> =>
  (await engine.scoreAll({ models, conversations, onTooLong: 'error' })).map(({ scores }) =>
    scores.map(({ logit }) => logit),
  )

/** r = w·h_last + v·mean h of the answer, one sequence at a time, sums in plain loops. */
async function byHand({ adapters: [adapter = ''] }: ModelFiles): Promise<number[]> {
  const whole = await loadBase(base.base)
  const model = { ...whole, config: { ...whole.config, layers: LAYERS } }
  const tokenizer = await loadTokenizer(base.base)
  const tensors = openSafetensors(join(adapter, 'adapter_model.safetensors'))
  const [w, v] = ['score', 'score_mean'].map(
    (name) => tensors.read(`base_model.model.${name}.weight`).data,
  )
  tensors.close()
  const D = model.config.hiddenSize
  const scores = conversations.map((messages) => {
    const { ids, assistant } = encodeChat(tokenizer, messages)
    const [pack] = packRows([ids], Infinity)
    if (pack === undefined) throw new Error('no pass')
    const tensor = hiddenStates(model, pack)
    const h = read(tensor).slice()
    tensor.dispose()
    const mine = assistant.indexOf(1)
    let score = 0
    for (let j = 0; j < D; j++) {
      let sum = 0
      for (let t = mine; t < ids.length; t++) sum += h[t * D + j] ?? NaN
      score += (w?.[j] ?? NaN) * (h[(ids.length - 1) * D + j] ?? NaN)
      score += ((v?.[j] ?? NaN) * sum) / (ids.length - mine)
    }
    return score
  })
  disposeBase(whole)
  return scores
}

test('what is read is what transformers gives: fixtures/parity/readout/make.py', async () => {
  const parity = (name: string): string =>
    fileURLToPath(new URL(`../../fixtures/parity/${name}`, import.meta.url))
  const expected = JSON.parse(readFileSync(parity('readout/expected.json'), 'utf8')) as {
    ids: number[]
    answer: number
    layers: number
    features: number[]
  }[]
  const whole = await loadBase(parity('llama/lm_tied'))
  for (const { layers, features, ...row } of expected) {
    // beside another one that shares its beginning
    const other = { ids: [...row.ids.slice(0, -1), 3, 4], answer: row.answer }
    const [found = []] = readoutFeatures(firstLayers(whole, layers), [row, other])
    expect(found).toHaveLength(features.length)
    features.forEach((x, j) => expect(Math.abs((found[j] ?? NaN) - x)).toBeLessThan(1e-5))
  }
  disposeBase(whole)
})

test('a readout learns, and its scores are what its definition says: alone, beside another, in PPO', async () => {
  const one = await trained('one')
  const two = await trained('two', { seed: 2, epochs: 3 })
  const expected = [await byHand(one), await byHand(two)]
  const alone = [...(await logits(one)), ...(await logits(two))]
  const together = await logits(one, two)
  const scorer = await loadScorer({
    files: { base: one.base, adapters: [...one.adapters] },
    calibration: null,
  })
  const rows = pairs.flatMap(({ prompt, chosen, rejected }) =>
    [chosen, rejected].map((answer) =>
      scoredSequence(scorer.tokenizer, prompt, answer, scorer.window),
    ),
  )
  const inPpo = scoreSequences(scorer.model, rows, 256)
  scorer.dispose()
  expected[0]?.forEach((score, i) => {
    expect(Math.abs((inPpo[i] ?? NaN) - score)).toBeLessThan(1e-4)
    for (const found of [alone, together])
      for (const [k, wanted] of expected.entries())
        expect(Math.abs((found[k]?.[i] ?? NaN) - (wanted[i] ?? NaN))).toBeLessThan(1e-4)
  })
  const right = pairs.filter((_, i) => (alone[0]?.[2 * i] ?? NaN) > (alone[0]?.[2 * i + 1] ?? NaN))
  expect(right.length).toBe(pairs.length)
  // both heads say something, and the two models differ
  expect(Math.max(...(expected[0] ?? []))).toBeGreaterThan(0.5)
  expect(expected[0]?.[0]).not.toBeCloseTo(expected[1]?.[0] ?? NaN, 2)
})

test('an engine that reads anew ends with the same bits, and a score is replayed where it lay to the bit', async () => {
  const first = await trained('first', { epochs: 2 })
  const other = createLocalEngine()
  const again = join(folder, 'again')
  const options = RewardModelOptions.parse({
    ...{ axis: 'helpfulness', epochs: 2, batch_size: 8, readout: { layers: LAYERS } },
  })
  const model = { base: base.base, adapters: [] }
  const spec = { kind: 'reward_model' as const, output: again, model, data, options }
  for await (const event of other.train(spec)) if (event.type === 'done') break
  const file = (at: string): Buffer => readFileSync(join(at, 'adapter_model.safetensors'))
  expect(file(again).equals(file(first.adapters[0] ?? ''))).toBe(true)
  const [all] = await engine.scoreAll({ models: [first], conversations, onTooLong: 'error' })
  for (const i of [0, 7, 30]) {
    const { placed, logit } = all?.scores[i] ?? {}
    const one = conversations.slice(i, i + 1)
    const request = { models: [first], conversations: one, onTooLong: 'error' as const }
    const [replayed] = await engine.scoreAll({ ...request, ...(placed && { placed }) })
    expect(replayed?.scores[0]?.logit).toBe(logit)
  }
  await other.close()
})

test('gradients of both heads are those of finite differences', async () => {
  const whole = await loadBase(base.base)
  const tokenizer = await loadTokenizer(base.base)
  const D = whole.config.hiddenSize
  const heads = new Map(
    ['score.weight', 'score_mean.weight'].map((name, k) => [
      name,
      Float32Array.from({ length: D }, (_, j) => 0.05 * Math.sin(j + 3 * k)),
    ]),
  )
  const options = RewardModelOptions.parse({
    ...{ axis: 'helpfulness', margin: 'large', centering: 0.05, readout: {} },
  })
  const sequences = pairs.flatMap(({ prompt, chosen, rejected }) =>
    [chosen, rejected].map((answer) => scoredSequence(tokenizer, prompt, answer, 256)),
  )
  const soft = pairs.map((pair, i) => (i % 3 === 0 ? { ...pair, probability: 0.7 } : pair))
  const at = () => {
    const parameters = {
      names: [...heads.keys()],
      get: (name: string) => tf.tensor(heads.get(name) ?? [], [1, D]) as never,
      set: () => {},
    }
    const trunk = { layers: LAYERS, trunk: 'x', features }
    return readoutStep(
      ...([{ model: whole, parameters }, trunk, sequences, soft, options] as const),
    )([0, 3, 5, 8])
  }
  const features = createFeatures()
  const { gradients } = at()
  for (const [name, values] of heads) {
    const gradient = read(gradients.get(name) ?? (tf.scalar(NaN) as never))
    for (const j of [0, 1, 7, D - 1]) {
      const before = values[j] ?? NaN
      const loss = (step: number): number => {
        values[j] = before + step
        return at().metrics['loss'] ?? NaN
      }
      const slope = (loss(1e-2) - loss(-1e-2)) / 2e-2
      values[j] = before
      expect(Math.abs((gradient[j] ?? NaN) - slope)).toBeLessThan(1e-4 + 1e-3 * Math.abs(slope))
    }
  }
  disposeBase(whole)
})

test('what was read once is not read again, and what is too much leaves', () => {
  const make = (n: number) => () => (made.push(n), [new Float32Array(100)])
  const made: number[] = []
  const features = createFeatures(1000)
  for (const n of [1, 2, 1, 3, 1, 2]) features.of(`${n}`, make(n))
  expect(made).toEqual([1, 2, 3, 2]) // 400 bytes each: the third drove out the second, which had not been used for longest
})

test('the mean is of the answer: not of the prompt, and of what is left of it when it is cut', async () => {
  const tokenizer = await loadTokenizer(base.base)
  const chat = encodeChat(tokenizer, [
    ...ask('One?'),
    { role: 'assistant', content: 'First.' },
    ...ask('Two?'),
    { role: 'assistant', content: 'The second answer.' },
  ])
  const { ids, answer } = lastTokens(chat, 1000)
  expect(ids).toEqual(chat.ids)
  expect(tokenizer.decode(ids.slice(answer))).toContain('The second answer.')
  expect(tokenizer.decode(ids.slice(answer))).not.toContain('Two')
  expect(lastTokens(chat, 2)).toEqual({ ids: chat.ids.slice(-2), answer: 0 })
  const question = encodeChat(tokenizer, ask('One?'))
  expect(lastTokens(question, 1000).answer).toBe(question.ids.length)
  // a dialogue without an answer is read by its last token
  const whole = await loadBase(base.base)
  const model = firstLayers(whole, LAYERS)
  const D = model.config.hiddenSize
  const [x = new Float32Array()] = readoutFeatures(model, [lastTokens(question, 1000)])
  expect(x.slice(0, D)).toEqual(x.slice(D))
  disposeBase(whole)
})

test('what a readout cannot do is refused by name', async () => {
  const one = await trained('parent', { epochs: 1 })
  await expect(
    engine.merge({ model: one, output: join(folder, 'whole'), dtype: 'F32', shardBytes: 1e9 }),
  ).rejects.toThrow(expect.objectContaining({ code: 'unsupported_architecture' }))
  const on = async (more: object): Promise<void> => {
    const options = RewardModelOptions.parse({ axis: 'helpfulness', ...more })
    const model = { base: one.base, adapters: [...one.adapters] }
    const output = join(folder, 'never')
    for await (const _ of engine.train({ kind: 'reward_model', output, model, data, options }))
      void _
  }
  await expect(on({})).rejects.toThrow(expect.objectContaining({ code: 'incompatible_parent' }))
  await expect(trained('deep', { readout: { layers: 99 } })).rejects.toThrow(
    /readout.layers: .* not 99/,
  )
  await expect(trained('all', { lora: null })).rejects.toThrow(
    expect.objectContaining({ code: 'conflicting_options' }),
  )
})
