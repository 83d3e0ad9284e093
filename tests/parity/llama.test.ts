import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { generate } from '../../src/model/generate.ts'
import { logits, scalarHead, tokenLogprobs } from '../../src/model/heads.ts'
import { onePack } from '../helpers/one-pack.ts'
import { disposeTape, forward, hiddenStates } from '../../src/model/llama.ts'
import type { Llama } from '../../src/model/llama.ts'
import {
  disposeBase,
  disposePairs,
  loadAdapter,
  loadBase,
  mergeAdapter,
} from '../../src/model/resident.ts'
import { inverseFrequencies } from '../../src/model/rope.ts'
import { cachedConstants, dispose, tf } from '../../src/tensor/backend.ts'
import { cachedMasks } from '../../src/model/masks.ts'
import { read } from '../../src/tensor/ops.ts'

// Expected numbers are transformers': fixtures/parity/llama/make.py
const folder = (name: string): string =>
  fileURLToPath(new URL(`../../fixtures/parity/llama/${name}`, import.meta.url))
const expected = JSON.parse(readFileSync(folder('expected.json'), 'utf8')) as {
  lm_tied: { ids: number[]; logprobs: number[]; greedy8: number[] }[]
  lm_tied_long: { ids: number[]; last_logits8: number[] }
  lm_sharded: number[][]
  rm: number[]
  rm_plus_mini_adapter: number[]
  llama3_inv_freq: number[]
}
const live = (): number => tf.memory().numTensors - cachedConstants() - cachedMasks()
const near = (actual: ArrayLike<number>, wanted: readonly number[], tolerance: number): void => {
  expect(actual.length).toBe(wanted.length)
  wanted.forEach((value, i) =>
    expect(Math.abs((actual[i] ?? NaN) - value), `at ${i}`).toBeLessThan(tolerance),
  )
}
const scoresOf = (model: Llama, sequences: number[][]): Float32Array => {
  const pack = onePack(sequences)
  const hidden = hiddenStates(model, pack, { last: true })
  const head = scalarHead(model, 'score.weight', hidden, pack.ends)
  const scores = new Float32Array(sequences.length)
  read(head).forEach((score, i) => (scores[pack.rows[i] ?? -1] = score))
  dispose([hidden, head])
  return scores
}

test('log-probabilities, tied embeddings and llama3 rope scaling', async () => {
  const before = live()
  const model = await loadBase(folder('lm_tied'))
  near(inverseFrequencies(model.config), expected.llama3_inv_freq, 1e-7)
  for (const { ids, logprobs } of expected.lm_tied) {
    const tape = forward(model, onePack([ids]))
    const rows = Int32Array.from({ length: ids.length - 1 }, (_, i) => i)
    const head = tokenLogprobs(model, tape.hidden, rows, Int32Array.from(ids.slice(1)))
    near(read(head.logprobs), logprobs, 1e-5)
    disposeTape(tape)
    dispose(head)
  }
  const { ids, last_logits8 } = expected.lm_tied_long
  const hidden = hiddenStates(model, onePack([ids]))
  const z = logits(model, hidden, Int32Array.of(ids.length - 1))
  near(read(z).slice(0, 8), last_logits8, 1e-5)
  dispose([hidden, z])
  disposeBase(model)
  expect(live()).toBe(before)
})

test('greedy tokens with a cache, alone and padded in a batch', async () => {
  const model = await loadBase(folder('lm_tied'))
  const sampling = { maxTokens: 8, temperature: 0, topP: 1, topK: 0 }
  const hooks = { key: (row: number) => [row], stopIds: new Set<number>() }
  const prompts = expected.lm_tied.map(({ ids }) => ids.slice(0, -1))
  const together = await generate(model, prompts, sampling, hooks)
  expected.lm_tied.forEach(({ ids, greedy8 }, i) =>
    expect(together[i]?.ids).toEqual(greedy8.slice(ids.length - 1)),
  )
  for (const [i, prompt] of prompts.entries()) {
    const [alone] = await generate(model, [prompt], sampling, hooks)
    near(alone?.logprobs ?? [], together[i]?.logprobs ?? [], 1e-5)
  }
  disposeBase(model)
})

test('sampling: the same keys give the same tokens, other keys others; nothing leaks', async () => {
  const model = await loadBase(folder('lm_tied'))
  const before = live()
  const draw = async (seed: number, topP = 1, topK = 0) =>
    (
      await generate(
        model,
        [
          [1, 5],
          [1, 9, 10],
        ],
        { maxTokens: 20, temperature: 1, topP, topK },
        { key: (row) => [seed, row], stopIds: new Set([2]) },
      )
    ).map(({ ids }) => ids)
  expect(await draw(1)).toEqual(await draw(1))
  expect(await draw(1)).not.toEqual(await draw(2))
  // the nucleus of almost nothing and the top one are both greedy
  expect(await draw(1, 1e-6)).toEqual(await draw(2, 1, 1))
  expect(live()).toBe(before)
  disposeBase(model)
})

test('sharded weights, untied embeddings', async () => {
  const model = await loadBase(folder('lm_sharded'))
  expected.lm_tied.forEach(({ ids }, i) => {
    const hidden = hiddenStates(model, onePack([ids]))
    const z = logits(model, hidden, Int32Array.of(ids.length - 1))
    near(read(z).slice(0, 8), expected.lm_sharded[i] ?? [], 1e-5)
    dispose([hidden, z])
  })
  disposeBase(model)
})

test('reward scores, padded, with a PEFT adapter that brings its own head, merged and not', async () => {
  const base = await loadBase(folder('rm'))
  const sequences = expected.lm_tied.map(({ ids }) => ids)
  near(scoresOf(base, sequences), expected.rm, 1e-5)
  const { pairs, heads } = await loadAdapter(base, folder('mini'))
  const weights = new Map([...base.weights, ...heads])
  const unmerged = scoresOf({ ...base, weights, adapter: pairs }, sequences)
  near(unmerged, expected.rm_plus_mini_adapter, 1e-5)
  const merged = mergeAdapter({ ...base, weights }, pairs)
  near(scoresOf(merged, sequences), expected.rm_plus_mini_adapter, 1e-5)
  dispose(merged.owned)
  disposePairs(pairs)
  disposeBase(base)
})
