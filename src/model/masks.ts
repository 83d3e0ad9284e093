import { tf } from '../tensor/backend.ts'
import type { Tensor } from '../tensor/backend.ts'
import { floats } from '../tensor/ops.ts'

/** Added to a score that must not count. Finite, so that a row of nothing but these gives no NaN. */
const MASKED = -1e9

/** Shapes recur: lengths are padded to multiples of eight. */
const CACHED_MASKS = 64
/** Floats; a larger mask is made for its pass alone. */
const LARGEST_CACHED = 2 ** 20
const causal = new Map<string, Tensor>()

/** [1, 1, G·T, T]: token t of each of the G heads of a group sees keys 0…t. Cached per shape. */
export function causalMask(T: number, G: number): Tensor {
  const key = `${T}x${G}`
  let mask = causal.get(key)
  if (mask === undefined) {
    const values = new Float32Array(G * T * T)
    for (let row = 0; row < G * T; row++)
      values.fill(MASKED, row * T + (row % T) + 1, (row + 1) * T)
    if (values.length > LARGEST_CACHED) return floats(values, [1, 1, G * T, T])
    const [oldest] = causal
    if (causal.size >= CACHED_MASKS && oldest !== undefined) {
      oldest[1].dispose()
      causal.delete(oldest[0])
    }
    mask = tf.keep(floats(values, [1, 1, G * T, T]))
    causal.set(key, mask)
  }
  return mask
}

/** How many masks live for the whole process: leak tests subtract them. */
export const cachedMasks = (): number => causal.size

/**
 * [B, 1, 1, S]: for one new token per row, keys below `lengths[b]` (the prompt) and from `prompt` on
 * (what was generated) count; the padding between them does not.
 */
export function decodeMask(lengths: ArrayLike<number>, prompt: number, S: number): Tensor {
  const B = lengths.length
  const values = new Float32Array(B * S)
  for (let b = 0; b < B; b++)
    values.fill(MASKED, b * S + (lengths[b] ?? 0), b * S + Math.min(prompt, S))
  return floats(values, [B, 1, 1, S])
}
