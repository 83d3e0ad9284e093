import { dispose, scoped, tf } from '../tensor/backend.ts'
import type { Tensor } from '../tensor/backend.ts'
import { fused } from '../tensor/fused.ts'
import type { AttentionTape, Fused } from '../tensor/fused.ts'
import { add, gatherRows, ints, matMul, reshape, scale, scatterRows, sum } from '../tensor/ops.ts'
import type { Decoders } from './decoder.ts'
import type { LlamaConfig } from '../weights/config.ts'
import type { Pack } from './batch.ts'
import type { Rope } from './rope.ts'

/**
 * A Llama, top to bottom: RMSNorm → attention (rotary, grouped queries) → RMSNorm → SwiGLU, with its
 * gradient written by hand beside each part. Shapes: B rows, T tokens, N = B·T, D hidden, H query
 * heads, K key-value heads, G = H/K, E head width, F feed-forward width, S keys seen.
 * Training and scoring read packs: N tokens of several sequences one after the other, without padding.
 */

/** One low-rank update: y += scale · (x·Aᵀ)·Bᵀ (Hu et al. 2021, eq. 3). A [r, in], B [out, r]. */
export type LoraPair = { a: Tensor; b: Tensor; scale: number }

export type Llama = {
  config: LlamaConfig
  /** by Hugging Face name */
  weights: ReadonlyMap<string, Tensor>
  /** by module name, e.g. `model.layers.0.self_attn.q_proj`; null: the adapter is off */
  adapter: ReadonlyMap<string, LoraPair> | null
  rope: Rope
  /** the graphs that sample from this base and from the adapters on it */
  decoders: Decoders
}

/** Which gradients a backward pass collects. */
export type Trainable = 'adapter' | 'all'
/** Gradients by weight name (`…weight`) or by `…lora_A.weight` / `…lora_B.weight`. */
export type Gradients = Map<string, Tensor>

export function weight(model: Llama, name: string): Tensor {
  const tensor = model.weights.get(name)
  if (tensor === undefined) throw new Error(`weight ${name} is not loaded`)
  return tensor
}

// --- parts -----------------------------------------------------------------------------------

/**
 * From so many rows on, merging a low-rank update into the weight for the pass costs less than its own two thin
 * products and the sum over all rows (measured on two cores at widths 256 and 768).
 */
const MERGE_FROM = 512

/** W + scale·B·A */
const merged = (w: Tensor, { a, b, scale: s }: LoraPair): Tensor => add(w, matMul(scale(b, s), a))

/** y = x·Wᵀ (+ bias) + scale·(x·Aᵀ)·Bᵀ */
function project(model: Llama, module: string, x: Tensor, ops: Fused): Tensor {
  const w = weight(model, `${module}.weight`)
  const pair = model.adapter?.get(module)
  const merges = pair !== undefined && (x.shape[0] ?? 0) >= MERGE_FROM
  let y = ops.linear(x, merges ? merged(w, pair) : w)
  const bias = model.weights.get(`${module}.bias`)
  if (bias !== undefined) y = add(y, bias)
  if (pair === undefined || merges) return y
  const update = ops.linear(ops.linear(x, pair.a), pair.b)
  return add(y, scale(update, pair.scale))
}

/** Sets the gradients of a projection's weights, and returns dx where it is wanted. */
function projectBackward(
  model: Llama,
  module: string,
  dy: Tensor,
  x: Tensor,
  { trainable, gradients, input }: Wanted,
): Tensor | null {
  const w = weight(model, `${module}.weight`)
  if (trainable === 'all') {
    gradients.set(`${module}.weight`, matMul(dy, x, true))
    if (model.weights.has(`${module}.bias`)) gradients.set(`${module}.bias`, sum(dy, [0]))
  }
  const pair = model.adapter?.get(module)
  if (pair === undefined) return input ? matMul(dy, w) : null
  const xa = matMul(x, pair.a, false, true)
  const dyb = matMul(dy, scale(pair.b, pair.scale))
  gradients.set(`${module}.lora_B.weight`, scale(matMul(dy, xa, true), pair.scale))
  gradients.set(`${module}.lora_A.weight`, matMul(dyb, x, true))
  if (!input) return null
  if ((x.shape[0] ?? 0) >= MERGE_FROM) return matMul(dy, merged(w, pair))
  return add(matMul(dy, w), matMul(dyb, pair.a))
}
/** `input`: whether the gradient of what went in is wanted too. */
type Wanted = { trainable: Trainable; gradients: Gradients; input: boolean }

// --- one block -------------------------------------------------------------------------------

type Attended = { context: Tensor }
type NormTape = { x: Tensor; inverse: Tensor }

/** Qwen3's norm over each head of a projection [N, heads·E]; as it is where the model has none. */
function headNorm(
  model: Llama,
  module: string,
  x: Tensor,
  ops: Fused,
): { y: Tensor; tape: NormTape | null } {
  if (!model.config.qkNorm) return { y: x, tape: null }
  const { headDim, rmsNormEpsilon } = model.config
  const rows = reshape(x, [-1, headDim])
  const { y, inverse } = ops.rmsNorm(rows, weight(model, `${module}.weight`), rmsNormEpsilon)
  return { y: reshape(y, x.shape), tape: { x: rows, inverse } }
}

/** What the gradient of a block needs of its forward pass. */
type BlockTape<A extends Attended> = {
  x: Tensor
  inverse1: Tensor
  h1: Tensor
  /** q/k norm: what goes into it and 1/rms, [N·H, E] and [N·K, E] */
  qNorm: NormTape | null
  kNorm: NormTape | null
  attention: A
  middle: Tensor
  inverse2: Tensor
  h2: Tensor
  gate: Tensor
  up: Tensor
}

/**
 * x [N, D] → y [N, D]; with `only` (row numbers) y has those rows alone, while all are attended to. A graph that is
 * recorded asks for the composed ops.
 */
export function block<A extends Attended>(
  model: Llama,
  layer: number,
  x: Tensor,
  attend: (layer: number, q: Tensor, k: Tensor, v: Tensor) => A,
  { only = null, ops = fused }: { only?: Tensor | null; ops?: Fused } = {},
): { y: Tensor; tape: BlockTape<A> } {
  const epsilon = model.config.rmsNormEpsilon
  const name = `model.layers.${layer}`
  const norm = (module: string, t: Tensor) =>
    ops.rmsNorm(t, weight(model, `${name}.${module}.weight`), epsilon)
  const own = (t: Tensor): Tensor => (only === null ? t : gatherRows(t, only))
  const { y: h1, inverse: inverse1 } = norm('input_layernorm', x)
  const projected = (which: 'q' | 'k' | 'v', t: Tensor): Tensor =>
    project(model, `${name}.self_attn.${which}_proj`, t, ops)
  const q = headNorm(model, `${name}.self_attn.q_norm`, projected('q', own(h1)), ops)
  const k = headNorm(model, `${name}.self_attn.k_norm`, projected('k', h1), ops)
  const attention = attend(layer, q.y, k.y, projected('v', h1))
  const middle = add(own(x), project(model, `${name}.self_attn.o_proj`, attention.context, ops))
  const { y: h2, inverse: inverse2 } = norm('post_attention_layernorm', middle)
  const gate = project(model, `${name}.mlp.gate_proj`, h2, ops)
  const up = project(model, `${name}.mlp.up_proj`, h2, ops)
  const y = add(middle, project(model, `${name}.mlp.down_proj`, ops.swiGlu(gate, up), ops))
  const tape = { x, inverse1, h1, qNorm: q.tape, kNorm: k.tape, attention }
  return { y, tape: { ...tape, middle, inverse2, h2, gate, up } }
}

/** dy → dx, or null where it is not wanted. */
function blockBackward(
  model: Llama,
  layer: number,
  dy: Tensor,
  tape: BlockTape<AttentionTape>,
  wanted: Wanted,
  only: Tensor | null,
): Tensor | null {
  const name = `model.layers.${layer}`
  const all = wanted.trainable === 'all'
  const inner = { ...wanted, input: true }
  const back = (module: string, d: Tensor, x: Tensor, w: Wanted): Tensor | null =>
    projectBackward(model, `${name}.${module}`, d, x, w)
  const norm = (module: string, d: Tensor, { x, inverse }: NormTape, skip: Tensor | null) => {
    const w = weight(model, `${name}.${module}.weight`)
    const { dx, dw } = fused.rmsNormGrad(d, x, w, inverse, { skip, weight: all })
    if (dw !== null) wanted.gradients.set(`${name}.${module}.weight`, dw)
    return dx
  }
  const activated = fused.swiGlu(tape.gate, tape.up)
  const da = some(back('mlp.down_proj', dy, activated, inner))
  const { dgate, dup } = fused.swiGluGrad(da, tape.gate, tape.up)
  const dh2 = add(
    some(back('mlp.gate_proj', dgate, tape.h2, inner)),
    some(back('mlp.up_proj', dup, tape.h2, inner)),
  )
  const dMiddle = norm(
    'post_attention_layernorm',
    dh2,
    { x: tape.middle, inverse: tape.inverse2 },
    dy,
  )
  const dContext = some(back('self_attn.o_proj', dMiddle, tape.attention.context, inner))
  const attended = fused.attentionGrad(dContext, tape.attention)
  const headNormBack = (which: 'q' | 'k', d: Tensor): Tensor => {
    const before = tape[`${which}Norm`]
    if (before === null) return d
    const rows = reshape(d, [-1, model.config.headDim])
    return reshape(norm(`self_attn.${which}_norm`, rows, before, null), d.shape)
  }
  const [dq, dk] = [headNormBack('q', attended.dq), headNormBack('k', attended.dk)]
  const { h1 } = tape
  const dhq = back('self_attn.q_proj', dq, only === null ? h1 : gatherRows(h1, only), wanted)
  const dhk = back('self_attn.k_proj', dk, h1, wanted)
  const dhv = back('self_attn.v_proj', attended.dv, h1, wanted)
  if (dhq === null || dhk === null || dhv === null) return null
  const N = h1.shape[0] ?? 0
  const whole = (d: Tensor): Tensor => (only === null ? d : scatterRows(d, only, N))
  const dh1 = add(add(dhk, dhv), whole(dhq))
  return norm('input_layernorm', dh1, { x: tape.x, inverse: tape.inverse1 }, whole(dMiddle))
}
function some(d: Tensor | null): Tensor {
  if (d === null) throw new Error('a gradient that is wanted was not computed')
  return d
}

// --- the trunk -------------------------------------------------------------------------------

export type ForwardOptions = {
  /** Hidden states of the last token of each segment alone: the last layer leaves out what only others need. */
  last?: boolean
  /** Keep each block's input alone and compute the block again for its gradient: less memory, a third more time. */
  checkpoint?: boolean
}

/** A forward pass whose gradient may be asked for. Dispose it with `disposeTape`. */
export type TrunkTape = {
  /** final hidden states after the last norm, [N, D]; with `last` [S, D] */
  hidden: Tensor
  ids: Tensor
  layout: Layout
  blocks: { x: Tensor; tape: BlockTape<AttentionTape> | null }[]
  end: Tensor
  inverse: Tensor
}
type Layout = {
  count: number
  segments: Tensor
  host: Int32Array
  angles: Tensor
  /** with `last`: the rows of the last layer */
  lasts: Tensor | null
}

function layoutOf(model: Llama, pack: Pack, last: boolean): Layout {
  const S = pack.segments.length / 4
  let positions = 1
  for (let s = 0; s < S; s++)
    positions = Math.max(
      positions,
      (pack.segments[4 * s + 1] ?? 0) + (pack.segments[4 * s + 3] ?? 0),
    )
  return {
    ...{ count: pack.count, host: pack.segments, segments: ints(pack.segments, [S, 4]) },
    angles: model.rope.angles(positions),
    lasts: last ? ints(pack.lasts, [S]) : null,
  }
}

const attendOver =
  (model: Llama, layout: Layout) =>
  (layer: number, q: Tensor, k: Tensor, v: Tensor): AttentionTape => {
    const { heads, kvHeads, headDim: width, layers, sliding, rotary, slidingWindow } = model.config
    const { count, host, segments } = layout
    return fused.attention(
      {
        ...{ heads, kvHeads, width, segments, rows: { count, segments: host } },
        angles: rotary[layer] === true ? layout.angles : null,
        window: sliding[layer] === true ? (slidingWindow ?? 0) : 0,
        last: layout.lasts !== null && layer === layers - 1,
      },
      ...([q, k, v] as const),
    )
  }
const onlyRows = (model: Llama, layout: Layout, layer: number): Tensor | null =>
  layer === model.config.layers - 1 ? layout.lasts : null

/** Hidden states of a pack's tokens with what backward needs. */
export function forward(model: Llama, pack: Pack, options: ForwardOptions = {}): TrunkTape {
  return scoped(() => {
    const ids = ints(pack.ids, [pack.count])
    const layout = layoutOf(model, pack, options.last === true)
    let x = gatherRows(weight(model, 'model.embed_tokens.weight'), ids)
    const blocks: TrunkTape['blocks'] = []
    for (let layer = 0; layer < model.config.layers; layer++) {
      const before = x
      const { y, tape } = scoped(() => {
        const only = onlyRows(model, layout, layer)
        const { y, tape } = block(model, layer, before, attendOver(model, layout), { only })
        return { y, tape: options.checkpoint === true ? null : tape }
      })
      blocks.push({ x: before, tape })
      x = y
    }
    const { y: hidden, inverse } = lastNorm(model, x)
    return { hidden, ids, layout, blocks, end: x, inverse }
  })
}
export const lastNorm = (
  model: Llama,
  x: Tensor,
  ops: Fused = fused,
): { y: Tensor; inverse: Tensor } =>
  ops.rmsNorm(x, weight(model, 'model.norm.weight'), model.config.rmsNormEpsilon)

export function disposeTape(tape: TrunkTape): void {
  dispose(tape)
}

/** The same hidden states without a tape: memory of one block at a time. */
export function hiddenStates(
  model: Llama,
  pack: Pack,
  options: Pick<ForwardOptions, 'last'> = {},
): Tensor {
  return tf.tidy(() => {
    const layout = layoutOf(model, pack, options.last === true)
    let x = gatherRows(weight(model, 'model.embed_tokens.weight'), ints(pack.ids, [pack.count]))
    for (let layer = 0; layer < model.config.layers; layer++) {
      const before = x
      const only = onlyRows(model, layout, layer)
      x = tf.tidy(() => block(model, layer, before, attendOver(model, layout), { only }).y)
      before.dispose()
    }
    return lastNorm(model, x).y
  })
}

/** dHidden → gradients of the trainable weights, by name. */
export function backward(
  model: Llama,
  tape: TrunkTape,
  dHidden: Tensor,
  trainable: Trainable,
): Gradients {
  const gradients: Gradients = new Map()
  const all = trainable === 'all'
  let d: Tensor | null = tf.tidy(() => {
    const w = weight(model, 'model.norm.weight')
    const options = { skip: null, weight: all }
    const { dx, dw } = fused.rmsNormGrad(dHidden, tape.end, w, tape.inverse, options)
    if (dw !== null) gradients.set('model.norm.weight', tf.keep(dw))
    return dx
  })
  const lowest = all ? -1 : lowestAdapted(model)
  for (let layer = model.config.layers - 1; layer >= lowest && layer >= 0 && d !== null; layer--) {
    const above: Tensor = d
    const only = onlyRows(model, tape.layout, layer)
    const { x, tape: kept } = tape.blocks[layer] ?? {}
    if (x === undefined) throw new Error(`no tape for layer ${layer}`)
    d = scoped(() => {
      const own: Gradients = new Map()
      const blockTape =
        kept ?? block(model, layer, x, attendOver(model, tape.layout), { only }).tape
      const wanted = { trainable, gradients: own, input: layer > lowest }
      const dx = blockBackward(model, layer, above, blockTape, wanted, only)
      for (const [key, value] of own) gradients.set(key, tf.keep(value))
      return dx
    })
    above.dispose()
  }
  if (all && d !== null) {
    const [V = 0] = weight(model, 'model.embed_tokens.weight').shape
    gradients.set('model.embed_tokens.weight', scatterRows(d, tape.ids, V))
  }
  d?.dispose()
  return gradients
}

/** The layer below which an adapter needs no gradient. */
function lowestAdapted(model: Llama): number {
  const layers = [...(model.adapter?.keys() ?? [])].map((module) => Number(module.split('.')[2]))
  return Math.min(model.config.layers, ...layers)
}
