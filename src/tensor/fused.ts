import { device, execute, executeMany, floatList, nothing } from './backend.ts'
import type { OpAttribute, Tensor } from './backend.ts'
import { composed } from './composed.ts'
import { exp, floats, logSoftmax, matMul, mul, reshape, scale, sub, sum } from './ops.ts'

/**
 * Ops that TensorFlow lacks, each with its gradient: one pass over memory on the CPU (native/kernels.cc), composed of
 * TensorFlow's own ops on a GPU. Both compute the same to float32's rounding.
 */
export type Fused = {
  /** x / rms(x) ∘ w over the last axis, and 1/rms(x) [N]. */
  rmsNorm(x: Tensor, w: Tensor, epsilon: number): { y: Tensor; inverse: Tensor }
  /** dL/dx of rmsNorm plus `skip` (the residual's gradient), and dL/dw where it is wanted. */
  rmsNormGrad(
    dy: Tensor,
    x: Tensor,
    w: Tensor,
    inverse: Tensor,
    options: { skip: Tensor | null; weight: boolean },
  ): { dx: Tensor; dw: Tensor | null }
  /** silu(gate) ∘ up */
  swiGlu(gate: Tensor, up: Tensor): Tensor
  swiGluGrad(dy: Tensor, gate: Tensor, up: Tensor): { dgate: Tensor; dup: Tensor }
  /** x·wᵀ. x [M, K], w [N, K] → [M, N] */
  linear(x: Tensor, w: Tensor): Tensor
  attention(shape: AttentionShape, q: Tensor, k: Tensor, v: Tensor): AttentionTape
  attentionGrad(dContext: Tensor, tape: AttentionTape): { dq: Tensor; dk: Tensor; dv: Tensor }
  /** log softmax(z)[label] of each row, and what its gradient needs. z [M, V], labels int32 [M] */
  logProb(z: Tensor, labels: Tensor): LogProbTape
  /** Σ d·logprob → dz [M, V] = d·(onehot − softmax). d [M] */
  logProbGrad(d: Tensor, tape: LogProbTape): Tensor
  /** One AdamW update of flat vectors; `decayed` is 1 where weights decay. */
  adamW(
    now: { p: Tensor; g: Tensor; m: Tensor; v: Tensor; decayed: Tensor },
    options: { beta1: number; beta2: number; epsilon: number },
    step: { clip: number; rate: number; rootCorrection2: number; decay: number },
  ): { p: Tensor; m: Tensor; v: Tensor }
}

/**
 * Sequences one after the other, without padding. A segment is a run of rows that sees itself causally and before that
 * all of the segment that it continues: several answers to one prompt continue the prompt's rows.
 * segments: int32 [S, 4] of first row, length, the continued segment (−1: none), position of the first row.
 */
export type Rows = { count: number; segments: Int32Array }

export type AttentionShape = {
  heads: number
  kvHeads: number
  width: number
  rows: Rows
  /** the same numbers on the device */
  segments: Tensor
  /** cosines and sines by position, [positions, width]; null: heads are not turned */
  angles: Tensor | null
  /** keys that a query sees at most; 0: all */
  window: number
  /** queries are the last rows of the segments alone: q and context have one row per segment */
  last: boolean
}
export type AttentionTape = {
  shape: AttentionShape
  q: Tensor
  k: Tensor
  v: Tensor
  context: Tensor
  /** logsumexp of each query's scores; composed: the probabilities */
  rest: Tensor
}
export type LogProbTape = { logprob: Tensor; z: Tensor; labels: Tensor; rest: Tensor }

function outputs(name: string, options: OpAttribute[], inputs: Tensor[], count: number): Tensor[] {
  return executeMany(name, options, inputs, count)
}
function at(made: readonly Tensor[], i: number): Tensor {
  const tensor = made[i]
  if (tensor === undefined) throw new Error('kernel gave no output')
  return tensor
}

// --- on the CPU --------------------------------------------------------------------------------

const none = [floatList([])]
const options = new Map<string, OpAttribute[]>()
/** Attributes by value: they recur from step to step. */
function optionsOf(...values: number[]): OpAttribute[] {
  const key = values.join()
  const found = options.get(key) ?? [floatList(values)]
  options.set(key, found)
  return found
}
const FEW = 64
const attentionOptions = ({ heads, kvHeads, width, window, last }: AttentionShape): OpAttribute[] =>
  optionsOf(heads, kvHeads, width, window, last ? 1 : 0)

export const native: Fused = {
  rmsNorm(x, w, epsilon) {
    const made = outputs('LibraRmsNorm', optionsOf(epsilon), [x, w], 2)
    return { y: at(made, 0), inverse: at(made, 1) }
  },
  rmsNormGrad(dy, x, w, inverse, { skip, weight }) {
    const inputs = [dy, x, w, inverse, skip ?? nothing()]
    const made = outputs('LibraRmsNormGrad', optionsOf(weight ? 1 : 0), inputs, 2)
    return { dx: at(made, 0), dw: weight ? at(made, 1) : null }
  },
  swiGlu: (gate, up) => execute('LibraSwiGlu', none, gate, up),
  swiGluGrad(dy, gate, up) {
    const made = outputs('LibraSwiGluGrad', none, [dy, gate, up], 2)
    return { dgate: at(made, 0), dup: at(made, 1) }
  },
  // TensorFlow's own product packs the weight anew each time, which few rows do not pay back
  linear: (x, w) =>
    (x.shape[0] ?? 0) <= FEW ? execute('LibraLinear', none, x, w) : matMul(x, w, false, true),
  attention(shape, q, k, v) {
    const inputs = [q, k, v, shape.segments, shape.angles ?? nothing()]
    const made = outputs('LibraAttention', attentionOptions(shape), inputs, 2)
    return { shape, q, k, v, context: at(made, 0), rest: at(made, 1) }
  },
  attentionGrad(dContext, { shape, q, k, v, context, rest }) {
    const inputs = [q, k, v, shape.segments, shape.angles ?? nothing(), dContext, context, rest]
    const made = outputs('LibraAttentionGrad', attentionOptions(shape), inputs, 3)
    return { dq: at(made, 0), dk: at(made, 1), dv: at(made, 2) }
  },
  logProb(z, labels) {
    const made = outputs('LibraLogProb', none, [z, labels], 2)
    return { logprob: at(made, 0), z, labels, rest: at(made, 1) }
  },
  logProbGrad: (d, { z, labels, rest }) => execute('LibraLogProbGrad', none, z, labels, rest, d),
  adamW({ p, g, m, v, decayed }, { beta1, beta2, epsilon }, step) {
    const numbers = floats([step.clip, step.rate, step.rootCorrection2, step.decay], [4])
    const inputs = [p, g, m, v, decayed, numbers]
    const made = outputs('LibraAdamW', optionsOf(beta1, beta2, epsilon), inputs, 3)
    return { p: at(made, 0), m: at(made, 1), v: at(made, 2) }
  },
}

export const fused: Fused = device === 'cpu' ? native : composed

/** Entropy of softmax(z) of each row, [M]. */
export function entropyOf(z: Tensor): Tensor {
  const logp = logSoftmax(z)
  return scale(sum(mul(exp(logp), logp), [1]), -1)
}

/** ∂entropy/∂z of each row: −p·(log p + entropy), [M, V]. */
export function entropyGrad(z: Tensor): Tensor {
  const logp = logSoftmax(z)
  const p = exp(logp)
  const less = sum(mul(p, logp), [1]) // −entropy
  return mul(p, sub(reshape(less, [-1, 1]), logp))
}

/** One new token in each row of a cache on the CPU: its position [B, 1] is also its slot. */
export type Cached = { keys: Tensor; values: Tensor; position: Tensor }

/**
 * Attention of new tokens over a cache [B·K·S, E], into which their keys and values are written where it lies.
 * q [B, H·E], k and v [B, K·E] → [B, H·E]
 */
export function cachedAttention(
  shape: Pick<AttentionShape, 'heads' | 'kvHeads' | 'width' | 'window' | 'angles'>,
  q: Tensor,
  k: Tensor,
  v: Tensor,
  { keys, values, position }: Cached,
): Tensor {
  const { heads, kvHeads, width, window, angles } = shape
  const inputs = [q, k, v, keys, values, position, angles ?? nothing()]
  return execute('LibraCachedAttention', optionsOf(heads, kvHeads, width, window), ...inputs)
}

/** `choose` of the model room without top-k and nucleus. rows [B, 3]: the last column is the uniform → [B, 2] */
export const chooseToken = (
  logits: Tensor,
  rows: Tensor,
  inverseTemperature: Tensor,
  greedy: boolean,
): Tensor => execute('LibraChoose', optionsOf(greedy ? 1 : 0), logits, rows, inverseTemperature)
