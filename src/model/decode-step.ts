import { intVector, tf } from '../tensor/backend.ts'
import type { Tensor } from '../tensor/backend.ts'
import { cachedAttention, chooseToken, native } from '../tensor/fused.ts'
import type { Fused } from '../tensor/fused.ts'
import type { Recorder } from '../tensor/graph.ts'
import {
  addInts,
  asInts,
  concat,
  floats,
  gatherRows,
  ints,
  pad,
  reshape,
  reshapeTo,
  slice,
  writeRows,
} from '../tensor/ops.ts'
import { attendCached } from './cached.ts'
import type { KeyValues, Remember } from './cached.ts'
import { logits } from './heads.ts'
import { block, lastNorm, weight } from './llama.ts'
import type { Llama } from './llama.ts'
import { decodeMasks } from './masks.ts'
import { choose } from './sampling.ts'
import type { Choice, Warp } from './sampling.ts'

export const keysOf = (layer: number): string => `keys.${layer}`
export const valuesOf = (layer: number): string => `values.${layer}`
const CHOICES: readonly Choice[] = ['greedy', 'sampled', 'warped']

/**
 * Records one decode step of B rows and what resizes its cache. Fed: `rows` [B, 3], each a token, its position (also
 * its slot) and a uniform. Fetched: one of CHOICES, [B, 2], a token and its log-probability for each row.
 */
export function recordStep(model: Llama, recorder: Recorder, ops: Fused): void {
  const { layers, heads: H, kvHeads: K, headDim: E, vocabularySize: V } = model.config
  const [B, S] = [2, 8] // examples; both stay open in the graph
  const fed = (name: string, example: Tensor): Tensor => {
    recorder.input(name, example)
    return example
  }
  const held = (name: string, example: Tensor): Tensor => {
    recorder.variable(name, example)
    return example
  }
  const angles = held('angles', floats(zeros(S * E), [S, E]))
  const slots = held('slots', floats(zeros(S), [S]))
  const firsts = held('firsts', ints([0, ...range(B * K - 1).map((i) => i + 1)], [B * K]))
  const shape = held('shape', ints([B, K, S, E], [4]))
  const cache = range(layers).map((layer) => ({
    k: held(keysOf(layer), floats(zeros(B * K * S * E), [B * K * S, E])),
    v: held(valuesOf(layer), floats(zeros(B * K * S * E), [B * K * S, E])),
  }))
  const warp: Warp = {
    inverseTemperature: held('inverseTemperature', tf.scalar(1)),
    topP: held('topP', tf.scalar(1)),
    topK: held('topK', tf.scalar(V, 'int32')),
  }

  // one upload a step
  const rows = fed('rows', floats(zeros(B * 3), [B, 3]))
  const column = (i: number): Tensor => slice(rows, [0, i], [-1, 1])
  const position = column(1)
  const attendNatively = (layer: number, q: Tensor, k: Tensor, v: Tensor) => {
    const { k: keys, v: values } = cache[layer] ?? { k, v }
    const turns = model.config.rotary[layer] === true ? angles : null
    const window = model.config.sliding[layer] === true ? (model.config.slidingWindow ?? 0) : 0
    const shape = { heads: H, kvHeads: K, width: E, window, angles: turns }
    return { context: cachedAttention(shape, q, k, v, { keys, values, position }) }
  }
  const attend =
    ops === native
      ? attendNatively
      : attendComposed(model, position, { angles, slots, firsts, shape, cache })
  const ids = reshape(asInts(column(0)), [B])
  let x = gatherRows(weight(model, 'model.embed_tokens.weight'), ids)
  for (let layer = 0; layer < layers; layer++) x = block(model, layer, x, attend, { ops }).y
  const next = logits(model, lastNorm(model, x, ops).y, null, ops)
  recorder.output('logits', next)
  for (const how of CHOICES)
    recorder.output(
      how,
      ops === native && how !== 'warped'
        ? chooseToken(next, rows, warp.inverseTemperature, how === 'greedy')
        : choose(next, column(2), warp, how),
    )

  // another cache: some rows of the old one, with more slots
  const old = fed('old', ints([B * K, S, E], [3]))
  const kept = fed('kept', ints(range(B * K), [B * K]))
  const more = fed('more', ints(zeros(6), [3, 2]))
  const resized = (all: Tensor): Tensor =>
    reshape(pad(gatherRows(reshapeTo(all, old), kept), more), [B * K * S, E])
  recorder.assign('resize', {
    ...{ angles, slots, firsts, shape },
    ...Object.fromEntries(
      cache.flatMap(({ k, v }, layer) => [
        [keysOf(layer), resized(k)],
        [valuesOf(layer), resized(v)],
      ]),
    ),
  })
  recorder.assign('warp', { ...warp })
}

/** What a session holds of its rows: see `recordStep`. */
type Held = Record<'angles' | 'slots' | 'firsts' | 'shape', Tensor> & { cache: KeyValues[] }

function attendComposed(model: Llama, position: Tensor, held: Held) {
  const { heads: H, kvHeads: K, headDim: E } = model.config
  const [B = 1] = position.shape
  const half = (i: number): Tensor => slice(held.angles, [0, (i * E) / 2], [-1, E / 2])
  const [cos, sin] = [concat([half(0), half(0)], 1), concat([half(1), half(1)], 1)]
  const slot = asInts(position)
  const table = (heads: number) => {
    const index = reshape(addInts(slot, intVector(zeros(heads))), [B * heads])
    return { cos: gatherRows(cos, index), sin: gatherRows(sin, index) }
  }
  const at = reshape(addInts(slot, reshape(held.firsts, [B, K])), [B * K])
  const remember: Remember = (layer, own) => {
    const past = held.cache[layer] ?? own
    const grown = (all: Tensor, mine: Tensor): Tensor =>
      reshapeTo(writeRows(all, at, reshape(mine, [B * K, E])), held.shape)
    return { k: grown(past.k, own.k), v: grown(past.v, own.v) }
  }
  const masks = decodeMasks(model.config, position, held.slots)
  return attendCached(model, [B, 1], { q: table(H), k: table(K) }, masks, remember)
}

export const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i)
const zeros = (n: number): number[] => new Array<number>(n).fill(0)
