import { afterAll, beforeAll, expect, test } from 'vitest'
import { generate } from '../../src/model/generate.ts'
import type { GenerateHooks } from '../../src/model/generate.ts'
import { logits } from '../../src/model/heads.ts'
import { hiddenStates } from '../../src/model/llama.ts'
import type { Llama } from '../../src/model/llama.ts'
import { passesOf, readPrompts } from '../../src/model/prompts.ts'
import { disposeBase } from '../../src/model/resident.ts'
import { dispose, scoped } from '../../src/tensor/backend.ts'
import { read } from '../../src/tensor/ops.ts'
import { onePack } from '../helpers/one-pack.ts'
import { sharpLlama } from '../helpers/sharp-llama.ts'

let model: Llama
beforeAll(() => {
  model = sharpLlama(512)
})
afterAll(() => disposeBase(model))

const prompt = (length: number, salt: number): number[] =>
  Array.from({ length }, (_, i) => (salt * 31 + i * 17) % 98)
/** Short ones and long ones by turns, so that they are read in several passes. */
const mixed = Array.from({ length: 24 }, (_, i) => prompt(i % 3 === 0 ? 300 + i : 5 + i, i))

test('passes by hand: alike lengths together, far ones apart, every prompt once and in its order', () => {
  const of = (...lengths: number[]): number[][] => passesOf(lengths.map((n) => prompt(n, 1)))
  expect(of(7)).toEqual([[0]])
  expect(of(9, 3, 20, 16)).toEqual([[0, 1, 2, 3]])
  // one pass pads 16 short rows by 152 slots each, 2432 in all; a second pass costs 1024
  const sixteen = new Array<number>(16).fill(8)
  expect(of(160, ...sixteen)).toEqual([sixteen.map((_, i) => i + 1), [0]])
  // of six, 912 slots: less than a pass
  expect(of(160, ...sixteen.slice(0, 6))).toEqual([[0, 1, 2, 3, 4, 5, 6]])
  const passes = passesOf(mixed)
  expect(passes.length).toBeGreaterThan(1)
  expect(passes.flat().toSorted((a, b) => a - b)).toEqual(mixed.map((_, i) => i))
  for (const pass of passes) expect(pass).toEqual(pass.toSorted((a, b) => a - b))
})

test('what is read apart, and what is there several times, gives the logits of each prompt by itself', () => {
  const [first = [], second = []] = mixed
  const prompts = [...mixed, first, second, first]
  scoped(() => {
    const { next, cache, width } = readPrompts(model, prompts)
    const all = read(next)
    expect(next.shape).toEqual([prompts.length, 98])
    for (const { k, v } of cache)
      for (const each of [k, v]) expect(each.shape).toEqual([prompts.length, 2, width, 8])
    prompts.forEach((ids, row) => {
      const pack = onePack([ids])
      const hidden = hiddenStates(model, pack, { last: true })
      const z = logits(model, hidden, pack.ends)
      const expected = read(z)
      const got = all.slice(row * 98, (row + 1) * 98)
      const off = Math.max(...expected.map((x, i) => Math.abs(x - (got[i] ?? NaN))))
      expect(off, `row ${row}`).toBeLessThan(1e-4)
      dispose([hidden, z])
    })
    return null
  })
})

test.each([0, 1])(
  'in one batch or each by itself, at temperature %d: the same tokens',
  async (temperature) => {
    const [first = []] = mixed
    const prompts = [...mixed, first, first]
    const sampling = { maxTokens: 12, temperature, topP: 1, topK: 0 }
    const hooks = (row: number): GenerateHooks => ({
      key: (own) => [7, row + own],
      stopIds: new Set<number>(),
    })
    const together = await generate(model, prompts, sampling, hooks(0))
    for (const [row, ids] of prompts.entries()) {
      const [alone] = await generate(model, [ids], sampling, hooks(row))
      expect(together[row]?.ids, `row ${row}`).toEqual(alone?.ids)
      alone?.logprobs.forEach((logprob, t) =>
        expect(Math.abs(logprob - (together[row]?.logprobs[t] ?? NaN))).toBeLessThan(1e-4),
      )
    }
    // the same prompt under another key says other things, where anything is drawn
    const [last, other] = [together.at(-1)?.ids, together.at(-2)?.ids]
    if (temperature === 0) expect(last).toEqual(other)
    else expect(last).not.toEqual(other)
    expect(await generate(model, [], sampling, hooks(0))).toEqual([])
  },
)
