import { scalar, tf } from '../tensor/backend.ts'
import type { Tensor } from '../tensor/backend.ts'
import { add, floats, minimum, reshape, scale, sub } from '../tensor/ops.ts'
import type { LlamaConfig } from '../weights/config.ts'

/** Added to a score that must not count. Finite, so that a row of nothing but these gives no NaN. */
const MASKED = -1e9

/** Shapes recur: lengths are padded to multiples of eight. */
const CACHED_MASKS = 64
/** Floats; a larger mask is made for its pass alone. */
const LARGEST_CACHED = 2 ** 20
const causal = new Map<string, Tensor>()

/** What is added to the scores of layers that see everything, and of those with a sliding window. */
export type Masks = { full: Tensor; sliding: Tensor | null }

/** Masks of rows from their beginning: see `causalMask`. They are cached or the caller's tidy frees them. */
export const causalMasks = ({ heads, kvHeads, slidingWindow }: LlamaConfig, T: number): Masks => ({
  full: causalMask(T, heads / kvHeads),
  sliding: slidingWindow === null ? null : causalMask(T, heads / kvHeads, slidingWindow),
})

/**
 * [1, 1, G·T, T]: token t of each of the G heads of a group sees keys 0…t, with a window W only keys
 * t − W + 1…t. Cached per shape.
 */
function causalMask(T: number, G: number, window = Infinity): Tensor {
  const W = window < T ? window : Infinity // shorter rows never meet the window
  const key = `${T}x${G}x${W}`
  let mask = causal.get(key)
  if (mask === undefined) {
    const values = new Float32Array(G * T * T)
    for (let row = 0; row < G * T; row++) {
      const t = row % T
      values.fill(MASKED, row * T + t + 1, (row + 1) * T)
      values.fill(MASKED, row * T, row * T + Math.max(0, t - W + 1))
    }
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
 * [B, 1, 1, S]: one new token per row at its position sees the keys in slots 0 to there, with a window W only those
 * from position − W + 1 on. position [B, 1], slots [S] = 0, 1, …
 */
export function decodeMasks(
  { slidingWindow }: LlamaConfig,
  position: Tensor,
  slots: Tensor,
): Masks {
  const [B = 1] = position.shape
  const age = sub(reshape(position, [B, 1, 1, 1]), slots)
  const where = (spare: Tensor): Tensor => scale(minimum(spare, scalar(0)), -MASKED)
  const full = where(age)
  if (slidingWindow === null) return { full, sliding: null }
  return { full, sliding: add(full, where(sub(scalar(slidingWindow - 1), age))) }
}
