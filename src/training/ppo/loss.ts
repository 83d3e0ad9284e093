import type { Row } from './advantages.ts'

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
