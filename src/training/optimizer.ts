import { scoped, tf } from '../tensor/backend.ts'
import type { Tensor } from '../tensor/backend.ts'
import { fused } from '../tensor/fused.ts'
import { concat, floats, halfSquares, read, reshape, split } from '../tensor/ops.ts'
import type { Gradients } from '../model/llama.ts'
import type { OptimizerOptions } from '../schemas/training-options.ts'

/** The weights that a run trains, by name. `set` takes ownership and disposes the old value. */
export type Parameters = {
  names: readonly string[]
  get(name: string): Tensor
  set(name: string, value: Tensor): void
}

export type OptimizerState = {
  step: number
  tensors: Record<string, { shape: number[]; data: Float32Array }>
}

export type AdamW = {
  /** One update, on request without weight decay. Gradients that are not finite leave everything as it was. */
  step(
    gradients: Gradients,
    learningRate: number,
    decays?: boolean,
  ): { gradNorm: number; applied: boolean }
  state(): OptimizerState
  load(state: OptimizerState): void
  dispose(): void
}

/**
 * AdamW with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2, as torch.optim.AdamW) after
 * clipping the global norm. Moments are keyed by parameter name; on the device they lie in one flat
 * vector, so that a step costs a few large kernels instead of many small ones. Vectors (norms, biases)
 * are not decayed.
 */
export function createAdamW(parameters: Parameters, options: OptimizerOptions): AdamW {
  const { beta1, beta2, epsilon, weight_decay: decay, max_grad_norm: maxNorm } = options
  const shapes = parameters.names.map((name) => parameters.get(name).shape)
  const sizes = parameters.names.map((name) => parameters.get(name).size)
  const total = sizes.reduce((a, b) => a + b, 0)
  const decayed = new Float32Array(total)
  let offset = 0
  shapes.forEach((shape, i) => {
    const size = sizes[i] ?? 0
    if (shape.length > 1) decayed.fill(1, offset, offset + size)
    offset += size
  })
  const decayMask = tf.keep(floats(decayed, [total]))
  let m = tf.keep(tf.zeros([total]) as Tensor)
  let v = tf.keep(tf.zeros([total]) as Tensor)
  let count = 0

  const flatten = (get: (name: string) => Tensor): Tensor =>
    concat(
      parameters.names.map((name) => reshape(get(name), [-1])),
      0,
    )
  const gradientOf = (gradients: Gradients, name: string): Tensor =>
    gradients.get(name) ?? tf.zerosLike(parameters.get(name))

  return {
    step(gradients, learningRate, decays = true) {
      const flat = tf.tidy(() => flatten((name) => gradientOf(gradients, name)))
      const gradNorm = Math.sqrt(tf.tidy(() => 2 * (read(halfSquares(flat))[0] ?? NaN)))
      if (!Number.isFinite(gradNorm)) {
        flat.dispose()
        return { gradNorm, applied: false }
      }
      count++
      const step = {
        clip: Math.min(1, maxNorm / (gradNorm + 1e-6)), // matches torch.nn.utils.clip_grad_norm_
        rate: learningRate / (1 - beta1 ** count),
        rootCorrection2: 1 / Math.sqrt(1 - beta2 ** count),
        decay: decays ? learningRate * decay : 0,
      }
      const next = scoped(() => {
        const p = flatten((name) => parameters.get(name))
        const now = { p, g: flat, m, v, decayed: decayMask }
        const after = fused.adamW(now, { beta1, beta2, epsilon }, step)
        const values = split(after.p, sizes).map((t, i) => reshape(t, shapes[i] ?? []))
        return { m: after.m, v: after.v, values }
      })
      tf.dispose([flat, m, v])
      m = tf.keep(next.m)
      v = tf.keep(next.v)
      parameters.names.forEach((name, i) => {
        const value = next.values[i]
        if (value !== undefined) parameters.set(name, tf.keep(value))
      })
      return { gradNorm, applied: true }
    },
    state() {
      const tensors: OptimizerState['tensors'] = {}
      const moments = { m: read(m), v: read(v) }
      for (const [key, values] of Object.entries(moments)) {
        let at = 0
        parameters.names.forEach((name, i) => {
          const size = sizes[i] ?? 0
          tensors[`${key}.${name}`] = { shape: shapes[i] ?? [], data: values.slice(at, at + size) }
          at += size
        })
      }
      return { step: count, tensors }
    },
    load(state) {
      const gather = (key: string): Tensor => {
        const values = new Float32Array(total)
        let at = 0
        parameters.names.forEach((name, i) => {
          const entry = state.tensors[`${key}.${name}`]
          if (entry === undefined || entry.data.length !== sizes[i])
            throw new Error(`optimizer state lacks ${key}.${name} or has another size`)
          values.set(entry.data, at)
          at += sizes[i] ?? 0
        })
        return tf.keep(floats(values, [total]))
      }
      tf.dispose([m, v])
      m = gather('m')
      v = gather('v')
      count = state.step
    },
    dispose: () => tf.dispose([m, v, decayMask]),
  }
}

/** Learning rate of a step (0-based) of `total`: linear warm-up, then the schedule; cosine ends at 10 %. */
export function learningRateAt(step: number, total: number, options: OptimizerOptions): number {
  const { learning_rate: peak, schedule, warmup_fraction: fraction } = options
  const warmup = fraction === 0 ? 0 : Math.max(1, Math.round(fraction * total))
  if (step < warmup) return (peak * (step + 1)) / warmup
  const progress = Math.min(1, (step - warmup) / Math.max(1, total - warmup))
  switch (schedule) {
    case 'constant':
      return peak
    case 'linear':
      return peak * (1 - progress)
    case 'cosine':
      return peak * (0.1 + 0.9 * 0.5 * (1 + Math.cos(Math.PI * progress)))
  }
}
