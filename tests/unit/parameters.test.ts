import { expect, test } from 'vitest'
import type { Llama } from '../../src/model/llama.ts'
import { adapterParameters, allParameters } from '../../src/training/parameters.ts'

// The norm of the gradients is a sum of floats in the order of the names: were it the order in which a model was made
// or its file is laid out, a run that goes on from a checkpoint would differ in the last bit, on some processors at
// some steps only.
const weights = ['model.norm.weight', 'model.embed_tokens.weight', 'model.layers.0.o_proj.weight']
const modelOf = (names: readonly string[]): Llama =>
  ({ weights: new Map(names.map((name) => [name, null])) }) as unknown as Llama

test('parameters come in one order, however the model was made', () => {
  const made = allParameters(modelOf(weights)).names
  const read = allParameters(modelOf(weights.toReversed())).names
  expect(made).toEqual(read)
  expect(made.toSorted()).toEqual(weights.toSorted())
})

test('so do an adapter’s and its heads', () => {
  const named = (modules: readonly string[], heads: readonly string[]): readonly string[] => {
    const adapter = new Map(modules.map((module) => [module, null]))
    return adapterParameters(modelOf(weights), adapter as never, heads).names
  }
  const modules = ['model.layers.1.q_proj', 'model.layers.0.v_proj']
  const heads = ['score.weight', 'adapted.weight']
  expect(named(modules, heads)).toEqual(named(modules.toReversed(), heads.toReversed()))
  expect(named(modules, heads)).toHaveLength(6)
})
