import type { Tensor } from '../tensor/backend.ts'
import { fused } from '../tensor/fused.ts'
import type { AttentionTape, Fused } from '../tensor/fused.ts'
import {
  add,
  concat,
  gatherRows,
  matMul,
  reshape,
  scale,
  scatterRows,
  slice,
  sum,
} from '../tensor/ops.ts'
import type { Decoders } from './decoder.ts'
import type { LlamaConfig } from '../weights/config.ts'
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
  /** rows fall into equal parts, one after the other, each with an adapter of its own: see several.ts */
  parts?: readonly Llama['adapter'][]
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
  const [N = 0] = x.shape
  const pairs = (model.parts ?? [model.adapter]).map((adapter) => adapter?.get(module))
  const rows = N / pairs.length
  const part = (of: Tensor, i: number): Tensor =>
    pairs.length === 1 ? of : slice(of, [i * rows, 0], [rows, of.shape[1] ?? 0])
  const adapted = pairs.some((pair) => pair !== undefined)
  const merges = adapted && rows >= MERGE_FROM
  let y = merges
    ? concat(
        pairs.map((pair, i) => ops.linear(part(x, i), pair === undefined ? w : merged(w, pair))),
        0,
      )
    : ops.linear(x, w)
  const bias = model.weights.get(`${module}.bias`)
  if (bias !== undefined) y = add(y, bias)
  if (!adapted || merges) return y
  const updated = pairs.map((pair, i) => {
    if (pair === undefined) return part(y, i)
    const update = ops.linear(ops.linear(part(x, i), pair.a), pair.b)
    return add(part(y, i), scale(update, pair.scale))
  })
  return concat(updated, 0)
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
export type BlockTape<A extends Attended> = {
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
export function blockBackward(
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
