import { intScalar, scalar } from '../tensor/backend.ts'
import type { Tensor } from '../tensor/backend.ts'
import {
  addInts,
  argMax,
  asFloats,
  concat,
  countUpTo,
  cumulativeSum,
  less,
  log,
  maximum,
  minimum,
  mul,
  mulInts,
  pick,
  reshape,
  rowMax,
  softmax,
  sub,
  sum,
  topK,
} from '../tensor/ops.ts'

/** How tokens are chosen: the largest logit, one draw from all, or one from the top k and the nucleus. */
export type Choice = 'greedy' | 'sampled' | 'warped'

/** Scalars: 1/τ, p, and k int32 (the vocabulary's size: no limit). */
export type Warp = { inverseTemperature: Tensor; topP: Tensor; topK: Tensor }

const LARGEST_BELOW_ONE = 1 - 2 ** -24 // float32

/**
 * One token per row of logits [B, V] from one uniform per row [B, 1], by the inverse of the cumulative distribution.
 * Returns [B, 2]: the token, and its log-probability at temperature 1 without warping.
 */
export function choose(logits: Tensor, draws: Tensor, warp: Warp, how: Choice): Tensor {
  const token = pickToken(logits, draws, warp, how)
  return concat([asFloats(token), log(pick(softmax(logits), token))], 1)
}

/** → int32 [B, 1] */
function pickToken(logits: Tensor, draws: Tensor, warp: Warp, how: Choice): Tensor {
  const [B = 1, V = 1] = logits.shape
  if (how === 'greedy') return reshape(argMax(logits), [B, 1])
  const z = mul(logits, warp.inverseTemperature)
  if (how === 'sampled') return inverseInBlocks(softmax(z), draws, blockWidth(V))
  const [sorted, order] = topK(z, warp.topK)
  const p = softmax(sorted)
  // nucleus: a token stays while the mass before it is below p, so the first always stays
  const before = sub(cumulativeSum(p, 1), p)
  const { index } = inverse(mul(p, less(before, warp.topP)), (total) => mul(total, draws))
  return pick(order, index)
}

/** The divisor of V next to its root, from below. */
export function blockWidth(V: number): number {
  let width = Math.floor(Math.sqrt(V))
  while (V % width !== 0) width--
  return width
}

/** The first index whose cumulative sum exceeds a bound. weights [B, N] → int32 [B, 1] */
function inverse(
  weights: Tensor,
  boundOf: (total: Tensor) => Tensor,
): { index: Tensor; cumulative: Tensor; bound: Tensor } {
  const cumulative = cumulativeSum(weights, 1)
  const bound = boundOf(rowMax(cumulative))
  const [B = 1] = weights.shape
  return { index: reshape(countUpTo(cumulative, bound), [B, 1]), cumulative, bound }
}

/** The same over [B, V] in two stages, a block and then a token in it: a scan over V is slow. */
function inverseInBlocks(p: Tensor, draws: Tensor, width: number): Tensor {
  const [B = 1, V = 1] = p.shape
  const blocks = reshape(p, [B, V / width, width])
  const sums = sum(blocks, [2])
  const block = inverse(sums, (total) => mul(total, draws))
  const before = sub(pick(block.cumulative, block.index), pick(sums, block.index))
  const rest = sub(block.bound, before)
  const inside = reshape(pick(blocks, block.index), [B, width])
  // rounding may leave less than nothing or more than the block holds: both would hit a token of no mass
  const { index } = inverse(inside, (total) =>
    maximum(minimum(rest, mul(total, scalar(LARGEST_BELOW_ONE))), scalar(0)),
  )
  return addInts(mulInts(block.index, intScalar(width)), index)
}
