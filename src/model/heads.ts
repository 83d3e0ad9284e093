import { scoped, tf } from '../tensor/backend.ts'
import type { Tensor } from '../tensor/backend.ts'
import { entropyGrad, entropyOf, fused } from '../tensor/fused.ts'
import type { Fused, LogProbTape } from '../tensor/fused.ts'
import {
  add,
  floats,
  gatherRows,
  ints,
  matMul,
  reshape,
  scale,
  scatterRows,
} from '../tensor/ops.ts'
import { weight } from './llama.ts'
import type { Gradients, Llama, Trainable } from './llama.ts'

/** Name of the vector that turns a hidden state into a score. */
export const SCORE_HEAD = 'score.weight'

/** Name of the matrix that turns hidden states into logits. */
export const unembedding = (model: Llama): string =>
  model.config.tieWordEmbeddings ? 'model.embed_tokens.weight' : 'lm_head.weight'

/** Next-token logits at the given rows of the hidden states (all rows when null). [M, V] */
export function logits(
  model: Llama,
  hidden_ND: Tensor,
  rows: Int32Array | null,
  ops: Fused = fused,
): Tensor {
  return tf.tidy(() => {
    const chosen = rows === null ? hidden_ND : gatherRows(hidden_ND, ints(rows, [rows.length]))
    return ops.linear(chosen, weight(model, unembedding(model)))
  })
}

export type LogprobTape = {
  logprobs: Tensor
  entropy: Tensor | null
  inner: LogProbTape
  hidden: Tensor
  rows: Tensor
}

/**
 * log π(target | prefix) = (z/τ)[target] − logsumexp(z/τ) at `rows` of the hidden states, and on
 * request the entropy of each distribution. rows, targets [M] → logprobs [M].
 */
export function tokenLogprobs(
  model: Llama,
  hidden_ND: Tensor,
  rows: Int32Array,
  targets: Int32Array,
  options: { temperature?: number; entropy?: boolean } = {},
): LogprobTape {
  const temperature = options.temperature ?? 1
  return scoped(() => {
    const rowTensor = ints(rows, [rows.length])
    const hidden = gatherRows(hidden_ND, rowTensor)
    const z = scale(matMul(hidden, weight(model, unembedding(model)), false, true), 1 / temperature)
    const inner = fused.logProb(z, ints(targets, [targets.length]))
    const entropy = options.entropy === true ? entropyOf(z) : null
    return { logprobs: inner.logprob, entropy, inner, hidden, rows: rowTensor }
  })
}

/**
 * Gradient of Σ d·logprob + dEntropy·Σ entropy: adds to `gradients` (when all weights train) and returns
 * dHidden [N, D]. ∂logprob/∂z = onehot − softmax, ∂entropy/∂z = −p·(log p + entropy), both scaled by 1/τ.
 */
export function tokenLogprobsBackward(
  model: Llama,
  tape: LogprobTape,
  dLogprobs: Float32Array,
  N: number,
  trainable: Trainable,
  gradients: Gradients,
  temperature = 1,
  dEntropy = 0,
): Tensor {
  return tf.tidy(() => {
    const d = floats(
      dLogprobs.map((x) => x / temperature),
      [dLogprobs.length],
    )
    const sampled = fused.logProbGrad(d, tape.inner)
    const dz =
      dEntropy === 0
        ? sampled
        : add(sampled, scale(entropyGrad(tape.inner.z), dEntropy / temperature))
    if (trainable === 'all') {
      const g = matMul(dz, tape.hidden, true)
      gradients.set(unembedding(model), tf.keep(g))
    }
    return scatterRows(matMul(dz, weight(model, unembedding(model))), tape.rows, N)
  })
}

/** A scalar head: hidden states at `rows` times a weight [1, D] (score or value). [M] */
export function scalarHead(
  model: Llama,
  name: string,
  hidden_ND: Tensor,
  rows: Int32Array,
): Tensor {
  return tf.tidy(() => {
    const chosen = gatherRows(hidden_ND, ints(rows, [rows.length]))
    return reshape(matMul(chosen, weight(model, name), false, true), [rows.length])
  })
}

/** Gradient of Σ d·head: sets the head's gradient and returns dHidden [N, D]. */
export function scalarHeadBackward(
  model: Llama,
  name: string,
  hidden_ND: Tensor,
  rows: Int32Array,
  d: Float32Array,
  gradients: Gradients,
): Tensor {
  return tf.tidy(() => {
    const rowTensor = ints(rows, [rows.length])
    const dTensor = floats(d, [rows.length, 1])
    const chosen = gatherRows(hidden_ND, rowTensor)
    gradients.set(name, tf.keep(matMul(dTensor, chosen, true)))
    return scatterRows(matMul(dTensor, weight(model, name)), rowTensor, hidden_ND.shape[0] ?? 0)
  })
}

/** Sums gradients by name into `total`, disposing what it replaces. */
export function accumulate(total: Gradients, part: Gradients): void {
  for (const [name, gradient] of part) {
    const before = total.get(name)
    if (before === undefined) total.set(name, gradient)
    else {
      total.set(name, tf.keep(add(before, gradient)))
      tf.dispose([before, gradient])
    }
  }
}

export function disposeGradients(gradients: Gradients): void {
  for (const gradient of gradients.values()) gradient.dispose()
  gradients.clear()
}
