import { scoped, tf } from '../tensor/backend.ts'
import type { Tensor } from '../tensor/backend.ts'
import {
  add,
  batchMatMul,
  gatherRows,
  ints,
  reshape,
  scale,
  softmax,
  transpose,
} from '../tensor/ops.ts'
import { block, lastNorm, weight } from './llama.ts'
import type { Llama } from './llama.ts'
import { causalMasks } from './masks.ts'
import type { Masks } from './masks.ts'
import { rotate } from './rope.ts'

/** Attention over padded rows whose keys and values are kept: what sampling reads. Shapes as in llama.ts. */

type Table = { cos: Tensor; sin: Tensor }
/** Rotary tables for queries and keys: the same one where all rows share their positions. */
export type Angles = { q: Table; k: Table }
/** Keys and values, [B, K, S, E] */
export type KeyValues = { k: Tensor; v: Tensor }
/** Takes a layer's keys and values of new tokens, gives those of all tokens that they may see. */
export type Remember = (layer: number, own: KeyValues) => KeyValues

/** [N, heads·E] → [B, heads, T, E] */
const toHeads = (x: Tensor, B: number, T: number, heads: number, E: number): Tensor =>
  T === 1 ? reshape(x, [B, heads, 1, E]) : transpose(reshape(x, [B, T, heads, E]), [0, 2, 1, 3])
/** [B, heads, T, E] → [N, heads·E] */
const fromHeads = (x: Tensor, B: number, T: number, heads: number, E: number): Tensor =>
  reshape(T === 1 ? x : transpose(reshape(x, [B, heads, T, E]), [0, 2, 1, 3]), [B * T, heads * E])

/** What `block` asks to attend: B rows of T new tokens. */
export const attendCached =
  (
    { config, rope }: Llama,
    [B, T]: readonly [number, number],
    angles: Angles,
    masks: Masks | null,
    remember: Remember | null = null,
  ) =>
  (
    layer: number,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
  ): { context: Tensor; keyValues: KeyValues } => {
    const { heads: H, kvHeads: K, headDim: E } = config
    const turned = (t: Tensor, heads: number, { cos, sin }: Table): Tensor => {
      const y = toHeads(t, B, T, heads, E)
      return config.rotary[layer] === true ? rotate(y, cos, sin, rope.rotation) : y
    }
    const q = scale(turned(queries, H, angles.q), 1 / Math.sqrt(E))
    const own = {
      k: reshape(turned(keys, K, angles.k), [B, K, T, E]),
      v: toHeads(values, B, T, K, E),
    }
    const { k, v } = remember === null ? own : remember(layer, own)
    let scores = batchMatMul(reshape(q, [B, K, (H / K) * T, E]), k, false, true)
    const mask = config.sliding[layer] === true ? masks?.sliding : masks?.full
    if (mask != null) scores = add(scores, mask)
    return { context: fromHeads(batchMatMul(softmax(scores), v), B, T, H, E), keyValues: { k, v } }
  }

/** Hidden states of B right-padded rows of T tokens, [N, D], and the keys and values of every layer. */
export function prefill(
  model: Llama,
  ids: Int32Array,
  B: number,
  T: number,
): { hidden: Tensor; cache: KeyValues[] } {
  return scoped(() => {
    const E = model.config.headDim
    const { cos, sin } = model.rope.tables(Array.from({ length: T }, (_, t) => t))
    const table = { cos: reshape(cos, [1, T * E]), sin: reshape(sin, [1, T * E]) }
    const masks = causalMasks(model.config, T)
    const attend = attendCached(model, [B, T], { q: table, k: table }, masks)
    const cache: KeyValues[] = []
    let x = gatherRows(weight(model, 'model.embed_tokens.weight'), ints(ids, [B * T]))
    for (let layer = 0; layer < model.config.layers; layer++) {
      const before = x
      const { y, keyValues } = scoped(() => {
        const { y, tape } = block(model, layer, before, attend)
        return { y, keyValues: tape.attention.keyValues }
      })
      cache.push(keyValues)
      tf.dispose(before)
      x = y
    }
    return { hidden: lastNorm(model, x).y, cache }
  })
}
