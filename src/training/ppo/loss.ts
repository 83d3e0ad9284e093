import type { PpoOptions } from '../../schemas/policy-options.ts'
import type { Row } from './advantages.ts'
import { klEstimate } from './rewards.ts'

/**
 * PPO's two losses over the counted tokens, averaged over tokens of the whole mini-batch, with their
 * gradients with respect to the new log-probabilities and values. Rows are right-padded responses [B][R].
 */
export type PolicyLoss = {
  loss: number
  grad: Row[]
  clipFraction: number
  approxKl: number
  ratio: number
}

/** Beyond this a log-ratio says only "very different": exp would overflow. veRL clamps alike. */
const MAX_LOG_RATIO = 20

/**
 * L = mean max(−A·ρ, −A·clip(ρ, 1 − ε, 1 + ε)), ρ = exp(log π − log π_old) (Schulman et al. 2017, eq. 7);
 * approxKl = ½·mean((log π − log π_old)²). `tokens` is the divisor: counted tokens of the mini-batch.
 */
export function policyLoss(
  logprobs: readonly ArrayLike<number>[],
  oldLogprobs: readonly ArrayLike<number>[],
  advantages: readonly ArrayLike<number>[],
  masks: readonly ArrayLike<number>[],
  clipRange: number,
  tokens = countTokens(masks),
): PolicyLoss {
  let loss = 0
  let clipped = 0
  let kl = 0
  let ratios = 0
  const grad = logprobs.map((row, i) => {
    const g = new Float64Array(row.length)
    for (let t = 0; t < row.length; t++) {
      if (!masks[i]?.[t]) continue
      const difference = (row[t] ?? 0) - (oldLogprobs[i]?.[t] ?? 0)
      const ratio = Math.exp(Math.max(-MAX_LOG_RATIO, Math.min(MAX_LOG_RATIO, difference)))
      const advantage = advantages[i]?.[t] ?? 0
      const plain = -advantage * ratio
      const bounded = -advantage * Math.max(1 - clipRange, Math.min(1 + clipRange, ratio))
      loss += Math.max(plain, bounded)
      if (bounded > plain) clipped++
      else g[t] = plain / tokens // ∂ρ/∂log π = ρ
      kl += 0.5 * difference ** 2
      ratios += ratio
    }
    return g
  })
  return {
    loss: loss / tokens,
    grad,
    clipFraction: clipped / tokens,
    approxKl: kl / tokens,
    ratio: ratios / tokens,
  }
}

/**
 * RLOO's loss with PPO's clip on the whole answer (TRL's RLOOTrainer): −mean_i min(ρ_i·A_i, clip(ρ_i, 1 ± ε)·A_i),
 * ρ_i = exp(Σ_t (log π_t − log π_old,t)). One advantage for each row; the mean is over `rows`, the mini-batch's.
 */
export function sequenceLoss(
  logprobs: readonly ArrayLike<number>[],
  oldLogprobs: readonly ArrayLike<number>[],
  advantages: readonly number[],
  masks: readonly ArrayLike<number>[],
  clipRange: number,
  rows = logprobs.length,
  tokens = countTokens(masks),
): PolicyLoss {
  const result = { loss: 0, clipFraction: 0, approxKl: 0, ratio: 0 }
  const grad = logprobs.map((row, i) => {
    let difference = 0
    for (let t = 0; t < row.length; t++) {
      if (!masks[i]?.[t]) continue
      const own = (row[t] ?? 0) - (oldLogprobs[i]?.[t] ?? 0)
      difference += own
      result.approxKl += (0.5 * own ** 2) / tokens
    }
    const ratio = Math.exp(Math.max(-MAX_LOG_RATIO, Math.min(MAX_LOG_RATIO, difference)))
    const advantage = advantages[i] ?? 0
    const plain = -advantage * ratio
    const bounded = -advantage * Math.max(1 - clipRange, Math.min(1 + clipRange, ratio))
    result.loss += Math.max(plain, bounded) / rows
    result.ratio += ratio / rows
    if (bounded > plain) result.clipFraction += 1 / rows
    const slope = bounded > plain ? 0 : plain / rows // ∂ρ/∂log π_t = ρ for every token of the answer
    return Float64Array.from(row, (_, t) => (masks[i]?.[t] ? slope : 0))
  })
  return { ...result, grad }
}

/**
 * β·Σ over the counted tokens of an estimate of KL(π‖π_ref), divided by `divisor`, as a loss with the sampled tokens held fixed:
 * k2's gradient is (log π − log π_ref), k3's 1 − π_ref/π, k1's 1, whose mean is zero: it holds nothing back.
 * The divisor is that of the policy's loss: tokens of the mini-batch, or answers.
 */
export function klLoss(
  logprobs: readonly ArrayLike<number>[],
  referenceLogprobs: readonly ArrayLike<number>[],
  masks: readonly ArrayLike<number>[],
  klCoef: number,
  estimator: PpoOptions['kl_estimator'],
  divisor = countTokens(masks),
): { loss: number; grad: Row[] } {
  let loss = 0
  const grad = logprobs.map((row, i) => {
    const g = new Float64Array(row.length)
    for (let t = 0; t < row.length; t++) {
      if (!masks[i]?.[t]) continue
      const [own, reference] = [row[t] ?? 0, referenceLogprobs[i]?.[t] ?? 0]
      loss += (klCoef * klEstimate(own, reference, estimator)) / divisor
      const slope = { k1: 1, k2: own - reference, k3: -Math.expm1(reference - own) }[estimator]
      g[t] = (klCoef * slope) / divisor
    }
    return g
  })
  return { loss, grad }
}

export type ValueLoss = { loss: number; grad: Row[]; clipFraction: number }

/** L = ½·mean max((V − R)², (clip(V, V_old ± ε) − R)²), the clipped value loss of PPO's own code. */
export function valueLoss(
  values: readonly ArrayLike<number>[],
  oldValues: readonly ArrayLike<number>[],
  returns: readonly ArrayLike<number>[],
  masks: readonly ArrayLike<number>[],
  clipRange: number,
  tokens = countTokens(masks),
): ValueLoss {
  let loss = 0
  let clippedCount = 0
  const grad = values.map((row, i) => {
    const g = new Float64Array(row.length)
    for (let t = 0; t < row.length; t++) {
      if (!masks[i]?.[t]) continue
      const value = row[t] ?? 0
      const old = oldValues[i]?.[t] ?? 0
      const target = returns[i]?.[t] ?? 0
      const bounded = Math.max(old - clipRange, Math.min(old + clipRange, value))
      const plainError = (value - target) ** 2
      const boundedError = (bounded - target) ** 2
      loss += 0.5 * Math.max(plainError, boundedError)
      if (boundedError > plainError) clippedCount++
      else g[t] = (value - target) / tokens
    }
    return g
  })
  return { loss: loss / tokens, grad, clipFraction: clippedCount / tokens }
}

export function countTokens(masks: readonly ArrayLike<number>[]): number {
  let n = 0
  for (const mask of masks) for (let t = 0; t < mask.length; t++) if (mask[t]) n++
  return Math.max(1, n)
}
