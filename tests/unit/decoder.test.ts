import { afterAll, beforeAll, expect, test } from 'vitest'
import { createDecoders } from '../../src/model/decoder.ts'
import { generate } from '../../src/model/generate.ts'
import type { GenerateHooks, Sampled, Sampling } from '../../src/model/generate.ts'
import { logits } from '../../src/model/heads.ts'
import { onePack } from '../helpers/one-pack.ts'
import { sharpLlama } from '../helpers/sharp-llama.ts'
import { hiddenStates } from '../../src/model/llama.ts'
import type { Llama, LoraPair } from '../../src/model/llama.ts'
import { disposeBase, disposePairs, initialize, newAdapter } from '../../src/model/resident.ts'
import { blockWidth, choose } from '../../src/model/sampling.ts'
import { normal, uniform } from '../../src/random.ts'
import { LoraOptions } from '../../src/schemas/training-options.ts'
import { device, dispose, scoped, tf } from '../../src/tensor/backend.ts'
import { composed } from '../../src/tensor/composed.ts'
import { floats, ints, read, reshape, scale, writeRows } from '../../src/tensor/ops.ts'

const LORA = LoraOptions.parse({
  ...{ rank: 2, alpha: 4, target_modules: ['q_proj', 'v_proj', 'down_proj'] },
})

// The recorded graph with its cache against passes over the whole text with plain kernels and a sampler in float64.
const graphs = (): number =>
  (tf.backend() as unknown as { getNumOfSavedModels(): number }).getNumOfSavedModels()
const key = (row: number): number[] => [7, row]
const plain = (stops: number[] = []): GenerateHooks => ({ key, stopIds: new Set(stops) })
const prompts = [11, 3, 20, 7, 1, 16, 9].map((length, row) =>
  Array.from({ length }, (_, i) => (row * 31 + i * 17) % 98),
)

let model: Llama
let adapters: Map<string, LoraPair>[]
beforeAll(() => {
  model = sharpLlama(160)
  adapters = [1, 2].map((seed) => {
    const pairs = newAdapter(model, LORA, seed)
    let which = 0
    for (const pair of pairs.values()) {
      const { shape, size } = pair.b
      pair.b.dispose()
      which++
      const values = Float32Array.from({ length: size }, (_, i) => normal(seed, which, i) / 4)
      pair.b = tf.keep(floats(values, shape))
    }
    return pairs
  })
})
afterAll(() => {
  adapters.forEach(disposePairs)
  disposeBase(model)
  expect(graphs()).toBe(0)
})

/** The distribution of the next token in float64, from a pass over all of `ids`. */
function distribution(of: Llama, ids: number[]): Float64Array {
  const pack = onePack([ids])
  const hidden = hiddenStates(of, pack, { last: true })
  const z = logits(of, hidden, pack.ends)
  const values = Float64Array.from(read(z))
  dispose([hidden, z])
  return values
}
const softmax = (z: readonly number[]): number[] => {
  const top = Math.max(...z)
  const e = z.map((x) => Math.exp(x - top))
  const total = e.reduce((a, b) => a + b, 0)
  return e.map((x) => x / total)
}
/** Checks a sample token by token: each is what its uniform picks, given the tokens before it. */
function check(
  of: Llama,
  prompt: number[],
  row: number,
  sample: Sampled,
  { temperature, topK, topP }: Sampling,
  every = 1,
): void {
  sample.ids.forEach((token, t) => {
    if (t % every > 0) return
    const z = [...distribution(of, [...prompt, ...sample.ids.slice(0, t)])]
    const off = (sample.logprobs[t] ?? NaN) - Math.log(softmax(z)[token] ?? 0)
    expect(Math.abs(off)).toBeLessThan(1e-5)
    if (temperature === 0) return expect(z[token]).toBeGreaterThan(Math.max(...z) - 1e-5)
    const warped = topK > 0 || topP < 1
    const order = z.map((_, i) => i)
    if (warped) order.sort((a, b) => (z[b] ?? 0) - (z[a] ?? 0))
    const kept = order.slice(0, topK > 0 ? topK : 98)
    let p = softmax(kept.map((i) => (z[i] ?? 0) / temperature))
    let mass = 0
    p = p.map((x) => ((mass += x), mass - x < topP ? x : 0))
    const total = p.reduce((a, b) => a + b, 0)
    const at = kept.indexOf(token)
    const below = p.slice(0, at).reduce((a, b) => a + b, 0) / total
    const u = uniform(...key(row), t)
    expect(p[at], 'of the nucleus').toBeGreaterThan(0)
    expect(u).toBeGreaterThan(below - 1e-5)
    expect(u).toBeLessThan(below + (p[at] ?? 0) / total + 1e-5)
  })
}

test.each<[string, Partial<Sampling>]>([
  ['greedy', { temperature: 0 }],
  ['all tokens', {}],
  ['temperature', { temperature: 0.6 }],
  ['top k', { topK: 5 }],
  ['nucleus', { topP: 0.7 }],
  ['all three', { temperature: 1.4, topK: 20, topP: 0.9 }],
])('tokens and log-probabilities, %s, batches of 1, 3 and 7 rows', async (_, given) => {
  const sampling = { maxTokens: 6, temperature: 1, topP: 1, topK: 0, ...given }
  for (const B of [1, 3, 7]) {
    const samples = await generate(model, prompts.slice(0, B), sampling, plain())
    samples.forEach((sample, row) => {
      expect(sample.ids.length).toBe(6)
      check(model, prompts[row] ?? [], row, sample, sampling)
    })
  }
})

test.runIf(device === 'cpu')('what a GPU composes chooses the same tokens', async () => {
  const sampling = { maxTokens: 70, temperature: 1, topP: 1, topK: 0 }
  const decoders = createDecoders(composed)
  for (const adapter of [null, adapters[0] ?? null])
    for (const of of [sampling, { ...sampling, temperature: 0 }]) {
      const mine = await generate({ ...model, adapter }, prompts, of, plain())
      const its = await generate({ ...model, adapter, decoders }, prompts, of, plain())
      expect(its.map(({ ids }) => ids)).toEqual(mine.map(({ ids }) => ids))
    }
  decoders.dispose()
})

test('rows leave the batch, the cache grows, the context ends', async () => {
  const sampling = { maxTokens: 150, temperature: 1, topP: 1, topK: 0 }
  const until = [3, 90, 200, 1, 40, 200, 5] // tokens after which a row ends
  const hooks = {
    ...plain(),
    done: (row: number, ids: readonly number[]) => ids.length >= (until[row] ?? 0),
  }
  const samples = await generate(model, prompts, sampling, hooks)
  samples.forEach((sample, row) => {
    const { length } = prompts[row] ?? []
    expect(sample.ids.length).toBe(Math.min(until[row] ?? 0, 150, 160 - length))
    check(model, prompts[row] ?? [], row, sample, sampling, 7)
  })
}, 60_000)

test('the same alone, in a batch, and beside another generation', async () => {
  const sampling = { maxTokens: 30, temperature: 0, topP: 1, topK: 0 }
  const together = await generate(model, prompts, sampling, plain([5, 6, 7]))
  const yielding = { ...plain([5, 6, 7]), between: () => new Promise<void>(setImmediate) }
  const beside = await Promise.all([
    generate(model, prompts, sampling, yielding),
    ...prompts.map((prompt) => generate(model, [prompt], sampling, yielding)),
  ])
  expect(beside[0]).toEqual(together)
  together.forEach(({ ids, logprobs }, row) => {
    const [alone] = beside[row + 1] ?? []
    expect(alone?.ids).toEqual(ids)
    alone?.logprobs.forEach((logprob, t) => expect(logprob).toBeCloseTo(logprobs[t] ?? NaN, 5))
  })
})

test('an adapter, then another of its shape, then its training, then the base again', async () => {
  const sampling = { maxTokens: 5, temperature: 1, topP: 1, topK: 0 }
  const drawn: number[][] = []
  const draw = async (of: Llama): Promise<void> => {
    const samples = await generate(of, prompts.slice(0, 3), sampling, plain())
    samples.forEach((sample, row) => check(of, prompts[row] ?? [], row, sample, sampling))
    drawn.push(samples.flatMap(({ logprobs }) => logprobs))
  }
  for (const adapter of adapters) await draw({ ...model, adapter })
  const [pair] = adapters[1]?.values() ?? []
  if (pair === undefined) throw new Error('no pair')
  const before = pair.b
  pair.b = tf.keep(scale(before, -3))
  before.dispose()
  await draw({ ...model, adapter: adapters[1] ?? null })
  await draw(model)
  expect(new Set(drawn.map((x) => x.join())).size).toBe(4)
})

test.runIf(device === 'cpu')('the session shares the weights’ memory', async () => {
  const sampling = { maxTokens: 2, temperature: 0, topP: 1, topK: 0 }
  const draw = async () => (await generate(model, [[1, 2]], sampling, plain()))[0]?.logprobs[1]
  await draw()
  const norm = model.weights.get('model.norm.weight')
  if (norm === undefined) throw new Error('no weight')
  const kept = read(norm).slice()
  const write = (values: Float32Array): void =>
    scoped(() => {
      const rows = ints(
        Array.from(values, (_, i) => i),
        [values.length],
      )
      writeRows(reshape(norm, [values.length, 1]), rows, floats(values, [values.length, 1]))
    })
  write(new Float32Array(kept.length)) // behind the session's back
  expect(await draw()).toBeCloseTo(-Math.log(98), 5)
  write(kept)
})

test('a base that is disposed of in the middle leaves no graph', async () => {
  const before = graphs()
  const other = initialize(model.config, 4)
  const [sample] = await generate(
    other,
    [[1, 2, 3]],
    { maxTokens: 2, temperature: 0, topP: 1, topK: 0 },
    { ...plain(), between: () => other.decoders.dispose() },
  )
  expect(sample?.ids.length).toBe(2)
  expect(graphs()).toBe(before)
  disposeBase(other)
})

test('numbers that are not finite are an error, and the graph can be used again', async () => {
  const name = 'model.layers.1.mlp.up_proj.weight'
  const good = model.weights.get(name)
  if (good === undefined) throw new Error('no weight')
  const bad = tf.keep(scale(good, NaN))
  const broken = { ...model, weights: new Map([...model.weights, [name, bad]]) }
  for (const temperature of [0, 1])
    await expect(
      generate(broken, prompts, { maxTokens: 5, temperature, topP: 1, topK: 0 }, plain()),
    ).rejects.toMatchObject({ code: 'non_finite_output' })
  bad.dispose()
  const sampling = { maxTokens: 3, temperature: 0, topP: 1, topK: 0 }
  const [sample] = await generate(model, prompts.slice(0, 1), sampling, plain())
  if (sample !== undefined) check(model, prompts[0] ?? [], 0, sample, sampling)
})

test('a draw never falls on a token without mass', () => {
  const V = 49
  const draws = [1e-9, 0.25, 0.5, 0.75, 1 - 2 ** -24]
  for (const held of [[0], [48], [10, 30], [6, 7], [13, 14, 48]]) {
    const row = Array.from({ length: V }, (_, i) => (held.includes(i) ? i / 50 : -1e9))
    const result = tf.tidy(() =>
      choose(
        floats(
          draws.flatMap(() => row),
          [draws.length, V],
        ),
        floats(draws, [draws.length, 1]),
        { inverseTemperature: tf.scalar(1), topP: tf.scalar(1), topK: tf.scalar(V, 'int32') },
        'sampled',
      ),
    )
    const values = read(result)
    result.dispose()
    draws.forEach((_, b) => expect(held).toContain(values[2 * b]))
  }
})

test.each([
  [1, 1],
  [7, 1],
  [98, 7],
  [2048, 32],
  [128_256, 334],
])('a vocabulary of %i is cut into blocks of %i', (V, width) => {
  expect(blockWidth(V)).toBe(width)
})
