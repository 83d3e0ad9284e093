import type { Row } from './advantages.ts'
import type { PpoOptions } from '../../schemas/policy-options.ts'

/**
 * Estimates of KL(π‖π_ref) per token from one sample (Schulman 2020), r = log π_ref − log π:
 * k1 = −r, k2 = ½r², k3 = exp(r) − 1 − r.
 */
export function klEstimate(
  logprob: number,
  referenceLogprob: number,
  estimator: PpoOptions['kl_estimator'],
): number {
  const r = referenceLogprob - logprob
  if (estimator === 'k1') return -r
  if (estimator === 'k2') return 0.5 * r * r
  return Math.expm1(r) - r
}

/**
 * Rewards of one response: −β·KL_t at every counted token, and the score of the whole answer at the last
 * one. logprobs, referenceLogprobs, mask [R] → rewards [R].
 */
export function tokenRewards(
  logprobs: ArrayLike<number>,
  referenceLogprobs: ArrayLike<number>,
  mask: ArrayLike<number>,
  score: number,
  klCoef: number,
  estimator: PpoOptions['kl_estimator'],
): Row {
  const rewards = new Float64Array(logprobs.length)
  let last = -1
  for (let t = 0; t < logprobs.length; t++) {
    if (!mask[t]) continue
    rewards[t] = -klCoef * klEstimate(logprobs[t] ?? 0, referenceLogprobs[t] ?? 0, estimator)
    last = t
  }
  if (last >= 0) rewards[last] = (rewards[last] ?? 0) + score
  return rewards
}
