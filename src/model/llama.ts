import { dispose, scalar, scoped, tf } from '../tensor/backend.ts'
import type { Tensor } from '../tensor/backend.ts'
import {
  add,
  batchMatMul,
  gatherRows,
  ints,
  matMul,
  mean,
  mul,
  reshape,
  rsqrt,
  scale,
  scatterRows,
  sigmoid,
  softmax,
  square,
  sub,
  sum,
  transpose,
} from '../tensor/ops.ts'
import type { Decoders } from './decoder.ts'
import type { LlamaConfig } from '../weights/config.ts'
import { causalMasks } from './masks.ts'
import type { Masks } from './masks.ts'
import { rotate } from './rope.ts'
import type { Rope } from './rope.ts'

/**
 * A Llama, top to bottom: RMSNorm → attention (rotary, grouped queries) → RMSNorm → SwiGLU, with its
 * gradient written by hand beside each part. Shapes: B rows, T tokens, N = B·T, D hidden, H query
 * heads, K key-value heads, G = H/K, E head width, F feed-forward width, S keys seen.
 * Rows are padded on the right; the causal mask keeps the padding out of every real position.
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

/** x / rms(x) ∘ w; also returns 1/rms(x) [N,1] for the gradient. */
export function rmsNorm(
  x_ND: Tensor,
  w_D: Tensor,
  epsilon: number,
): { y: Tensor; inverse: Tensor } {
  const inverse = rsqrt(add(mean(square(x_ND), [1], true), scalar(epsilon)))
  return { y: mul(mul(x_ND, inverse), w_D), inverse }
}

/** dL/dx of rmsNorm: inverse·(g − x̂·mean(g∘x̂)), g = dy∘w, x̂ = x·inverse. */
function rmsNormBackward(
  dy: Tensor,
  x: Tensor,
  w_D: Tensor,
  inverse: Tensor,
  wantWeight: boolean,
): { dx: Tensor; dw: Tensor | null } {
  const normal = mul(x, inverse)
  const g = mul(dy, w_D)
  const dx = mul(sub(g, mul(normal, mean(mul(g, normal), [1], true))), inverse)
  return { dx, dw: wantWeight ? sum(mul(dy, normal), [0]) : null }
}

/** y = x·Wᵀ (+ bias) + scale·(x·Aᵀ)·Bᵀ */
function project(model: Llama, module: string, x: Tensor): Tensor {
  let y = matMul(x, weight(model, `${module}.weight`), false, true)
  const bias = model.weights.get(`${module}.bias`)
  if (bias !== undefined) y = add(y, bias)
  const pair = model.adapter?.get(module)
  if (pair === undefined) return y
  const update = matMul(matMul(x, pair.a, false, true), pair.b, false, true)
  return add(y, scale(update, pair.scale))
}

/** Qwen3's norm over each head of a projection [N, heads·E]; as it is where the model has none. */
function headNorm(model: Llama, module: string, x: Tensor): { y: Tensor; tape: NormTape | null } {
  if (!model.config.qkNorm) return { y: x, tape: null }
  const rows = reshape(x, [-1, model.config.headDim])
  const { y, inverse } = rmsNorm(
    rows,
    weight(model, `${module}.weight`),
    model.config.rmsNormEpsilon,
  )
  return { y: reshape(y, x.shape), tape: { x: rows, inverse } }
}

function projectBackward(
  model: Llama,
  module: string,
  dy: Tensor,
  x: Tensor,
  trainable: Trainable,
  gradients: Gradients,
): Tensor {
  let dx = matMul(dy, weight(model, `${module}.weight`))
  if (trainable === 'all') {
    gradients.set(`${module}.weight`, matMul(dy, x, true))
    if (model.weights.has(`${module}.bias`)) gradients.set(`${module}.bias`, sum(dy, [0]))
  }
  const pair = model.adapter?.get(module)
  if (pair === undefined) return dx
  const xa = matMul(x, pair.a, false, true)
  const dyb = scale(matMul(dy, pair.b), pair.scale)
  gradients.set(`${module}.lora_B.weight`, scale(matMul(dy, xa, true), pair.scale))
  gradients.set(`${module}.lora_A.weight`, matMul(dyb, x, true))
  dx = add(dx, matMul(dyb, pair.a))
  return dx
}

/** [N, heads·E] → [B, heads, T, E] */
const toHeads = (x: Tensor, B: number, T: number, heads: number, E: number): Tensor =>
  T === 1 ? reshape(x, [B, heads, 1, E]) : transpose(reshape(x, [B, T, heads, E]), [0, 2, 1, 3])
/** [B, heads, T, E] → [N, heads·E] */
const fromHeads = (x: Tensor, B: number, T: number, heads: number, E: number): Tensor =>
  reshape(T === 1 ? x : transpose(reshape(x, [B, heads, T, E]), [0, 2, 1, 3]), [B * T, heads * E])

// --- one block -------------------------------------------------------------------------------

type NormTape = { x: Tensor; inverse: Tensor }

/** What the gradient of a block needs of its forward pass. */
type BlockTape = {
  x: Tensor
  inverse1: Tensor
  h1: Tensor
  /** q/k norm: what goes into it and 1/rms, [N·H, E] and [N·K, E] */
  qNorm: NormTape | null
  kNorm: NormTape | null
  q: Tensor
  k: Tensor
  v: Tensor
  probabilities: Tensor
  context: Tensor
  middle: Tensor
  inverse2: Tensor
  h2: Tensor
  gate: Tensor
  up: Tensor
}
type Table = { cos: Tensor; sin: Tensor }
/** Rotary tables for queries and keys: the same one where all rows share their positions. */
export type Angles = { q: Table; k: Table }
/** Keys and values, [B, K, S, E] */
export type KeyValues = { k: Tensor; v: Tensor }
/** Takes a layer's keys and values of new tokens, gives those of all tokens that they may see. */
export type Remember = (layer: number, own: KeyValues) => KeyValues

export function block(
  model: Llama,
  layer: number,
  x: Tensor,
  B: number,
  T: number,
  angles: Angles,
  masks: Masks | null,
  remember: Remember | null = null,
): { y: Tensor; tape: BlockTape; keyValues: KeyValues } {
  const { heads: H, kvHeads: K, headDim: E, rmsNormEpsilon: epsilon } = model.config
  const G = H / K
  const name = `model.layers.${layer}`
  const mask = model.config.sliding[layer] === true ? masks?.sliding : masks?.full
  const n1 = rmsNorm(x, weight(model, `${name}.input_layernorm.weight`), epsilon)
  const projected = (module: string): Tensor => project(model, `${name}.self_attn.${module}`, n1.y)
  /** q/k norm where there is one, then the heads apart, then turned by their positions */
  const turned = (which: 'q' | 'k', count: number): { y: Tensor; tape: NormTape | null } => {
    const norm = headNorm(model, `${name}.self_attn.${which}_norm`, projected(`${which}_proj`))
    const y = toHeads(norm.y, B, T, count, E)
    if (model.config.rotary[layer] !== true) return { y, tape: norm.tape }
    const { cos, sin } = angles[which]
    return { y: rotate(y, cos, sin, model.rope.rotation), tape: norm.tape }
  }
  const { y: qTurned, tape: qNorm } = turned('q', H)
  const { y: kTurned, tape: kNorm } = turned('k', K)
  const q = reshape(scale(qTurned, 1 / Math.sqrt(E)), [B, K, G * T, E])
  const own = {
    k: reshape(kTurned, [B, K, T, E]),
    v: toHeads(projected('v_proj'), B, T, K, E),
  }
  const { k, v } = remember === null ? own : remember(layer, own)
  let scores = batchMatMul(q, k, false, true)
  if (mask != null) scores = add(scores, mask)
  const probabilities = softmax(scores)
  const context = fromHeads(batchMatMul(probabilities, v), B, T, H, E)
  const middle = add(x, project(model, `${name}.self_attn.o_proj`, context))
  const n2 = rmsNorm(middle, weight(model, `${name}.post_attention_layernorm.weight`), epsilon)
  const gate = project(model, `${name}.mlp.gate_proj`, n2.y)
  const up = project(model, `${name}.mlp.up_proj`, n2.y)
  const activated = mul(mul(gate, sigmoid(gate)), up)
  const y = add(middle, project(model, `${name}.mlp.down_proj`, activated))
  const tape = {
    x,
    inverse1: n1.inverse,
    h1: n1.y,
    qNorm,
    kNorm,
    q,
    k,
    v,
    probabilities,
    context,
    middle,
    inverse2: n2.inverse,
    h2: n2.y,
    gate,
    up,
  }
  return { y, tape, keyValues: { k, v } }
}

function blockBackward(
  model: Llama,
  layer: number,
  dy: Tensor,
  tape: BlockTape,
  B: number,
  T: number,
  angles: Angles,
  trainable: Trainable,
  gradients: Gradients,
): Tensor {
  const { heads: H, kvHeads: K, headDim: E } = model.config
  const G = H / K
  const name = `model.layers.${layer}`
  const back = (module: string, d: Tensor, x: Tensor): Tensor =>
    projectBackward(model, `${name}.${module}`, d, x, trainable, gradients)
  const norm = (module: string, d: Tensor, x: Tensor, inverse: Tensor): Tensor => {
    const w = weight(model, `${name}.${module}.weight`)
    const { dx, dw } = rmsNormBackward(d, x, w, inverse, trainable === 'all')
    if (dw !== null) gradients.set(`${name}.${module}.weight`, dw)
    return dx
  }
  // SwiGLU: a = silu(g)·u, silu'(g) = σ(g)·(1 + g·(1 − σ(g)))
  const s = sigmoid(tape.gate)
  const silu = mul(tape.gate, s)
  const da = back('mlp.down_proj', dy, mul(silu, tape.up))
  const slope = add(s, mul(silu, sub(scalar(1), s)))
  const dh2 = add(
    back('mlp.gate_proj', mul(mul(da, tape.up), slope), tape.h2),
    back('mlp.up_proj', mul(da, silu), tape.h2),
  )
  const dMiddle = add(dy, norm('post_attention_layernorm', dh2, tape.middle, tape.inverse2))
  // attention: P = softmax(qkᵀ), dS = P∘(dP − Σ dP∘P)
  const dContext = back('self_attn.o_proj', dMiddle, tape.context)
  const dOut = reshape(toHeads(dContext, B, T, H, E), [B, K, G * T, E])
  const dv = batchMatMul(tape.probabilities, dOut, true)
  const dP = batchMatMul(dOut, tape.v, false, true)
  const dS = mul(tape.probabilities, sub(dP, sum(mul(dP, tape.probabilities), [3], true)))
  const turnBack = (d: Tensor, which: 'q' | 'k', count: number): Tensor => {
    const { cos, sin } = angles[which]
    const turned =
      model.config.rotary[layer] === true ? rotate(d, cos, sin, model.rope.rotation, true) : d
    const dy = fromHeads(turned, B, T, count, E)
    const normTape = tape[`${which}Norm`]
    if (normTape === null) return dy
    const dx = norm(`self_attn.${which}_norm`, reshape(dy, [-1, E]), normTape.x, normTape.inverse)
    return reshape(dx, [B * T, count * E])
  }
  const dq = turnBack(scale(batchMatMul(dS, tape.k), 1 / Math.sqrt(E)), 'q', H)
  const dk = turnBack(batchMatMul(dS, tape.q, true), 'k', K)
  const dh1 = add(
    add(back('self_attn.q_proj', dq, tape.h1), back('self_attn.k_proj', dk, tape.h1)),
    back('self_attn.v_proj', fromHeads(dv, B, T, K, E), tape.h1),
  )
  return add(dMiddle, norm('input_layernorm', dh1, tape.x, tape.inverse1))
}

// --- the trunk -------------------------------------------------------------------------------

/** A forward pass whose gradient may be asked for. Dispose it with `disposeTape`. */
export type TrunkTape = {
  B: number
  T: number
  /** final hidden states after the last norm, [N, D] */
  hidden: Tensor
  ids: Tensor
  angles: Angles
  blocks: BlockTape[]
  last: Tensor
  inverse: Tensor
}

/** ids: B rows of T token ids, right-padded, flattened → hidden states [N, D] with what backward needs. */
export function forward(model: Llama, ids: Int32Array, B: number, T: number): TrunkTape {
  return scoped(() => {
    const idTensor = ints(ids, [B * T])
    const angles = positionAngles(model, T)
    const masks = causalMasks(model.config, T)
    let x = gatherRows(weight(model, 'model.embed_tokens.weight'), idTensor)
    const blocks: BlockTape[] = []
    for (let layer = 0; layer < model.config.layers; layer++) {
      const step = scoped(() => {
        const { y, tape } = block(model, layer, x, B, T, angles, masks)
        return { y, tape }
      })
      x = step.y
      blocks.push(step.tape)
    }
    const { y: hidden, inverse } = rmsNorm(
      x,
      weight(model, 'model.norm.weight'),
      model.config.rmsNormEpsilon,
    )
    return { B, T, hidden, ids: idTensor, angles, blocks, last: x, inverse }
  })
}

export function disposeTape(tape: TrunkTape): void {
  dispose(tape)
}

/** The same hidden states without a tape: memory of one block at a time. [N, D] */
export const hiddenStates = (model: Llama, ids: Int32Array, B: number, T: number): Tensor =>
  tf.tidy(() => trunk(model, ids, B, T, null))

/** As `hiddenStates`, with the keys and values of every layer. */
export function prefill(
  model: Llama,
  ids: Int32Array,
  B: number,
  T: number,
): { hidden: Tensor; cache: KeyValues[] } {
  return scoped(() => {
    const cache: KeyValues[] = []
    const hidden = trunk(model, ids, B, T, (keyValues) => cache.push(keyValues))
    return { hidden, cache }
  })
}

function trunk(
  model: Llama,
  ids: Int32Array,
  B: number,
  T: number,
  keep: ((keyValues: KeyValues) => void) | null,
): Tensor {
  const angles = positionAngles(model, T)
  const masks = causalMasks(model.config, T)
  let x = gatherRows(weight(model, 'model.embed_tokens.weight'), ints(ids, [B * T]))
  for (let layer = 0; layer < model.config.layers; layer++) {
    const previous = x
    const { y, keyValues } = scoped(() => {
      const { y, keyValues } = block(model, layer, previous, B, T, angles, masks)
      return { y, keyValues: keep === null ? null : keyValues }
    })
    if (keyValues !== null) keep?.(keyValues)
    previous.dispose()
    x = y
  }
  return rmsNorm(x, weight(model, 'model.norm.weight'), model.config.rmsNormEpsilon).y
}

/** dHidden [N, D] → gradients of the trainable weights, by name. */
export function backward(
  model: Llama,
  tape: TrunkTape,
  dHidden: Tensor,
  trainable: Trainable,
): Gradients {
  const gradients: Gradients = new Map()
  const { B, T, angles } = tape
  const w = weight(model, 'model.norm.weight')
  let d = tf.tidy(() => {
    const { dx, dw } = rmsNormBackward(dHidden, tape.last, w, tape.inverse, trainable === 'all')
    if (dw !== null) gradients.set('model.norm.weight', tf.keep(dw))
    return dx
  })
  for (let layer = model.config.layers - 1; layer >= 0; layer--) {
    const above = d
    const blockTape = tape.blocks[layer]
    if (blockTape === undefined) throw new Error(`no tape for layer ${layer}`)
    d = tf.tidy(() => {
      const own: Gradients = new Map()
      const dx = blockBackward(model, layer, above, blockTape, B, T, angles, trainable, own)
      for (const [key, value] of own) gradients.set(key, tf.keep(value))
      return dx
    })
    above.dispose()
  }
  if (trainable === 'all') {
    const [V = 0] = weight(model, 'model.embed_tokens.weight').shape
    gradients.set('model.embed_tokens.weight', scatterRows(d, tape.ids, V))
  }
  d.dispose()
  return gradients
}

function positionAngles(model: Llama, T: number): Angles {
  const E = model.config.headDim
  const { cos, sin } = model.rope.tables(Array.from({ length: T }, (_, t) => t))
  const table = { cos: reshape(cos, [1, T * E]), sin: reshape(sin, [1, T * E]) }
  return { q: table, k: table }
}
