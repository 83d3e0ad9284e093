import type { PpoOptions } from '../../schemas/policy-options.ts'

/** Count, mean and sum of squared deviations of what has been seen. */
export type Moments = { n: number; mean: number; m2: number }

/** What steers the rounds and goes from one to the next, in the checkpoint too. */
export type Control = {
  /** β of the next round */
  kl_coef: number
  /** λ of the Lagrangian in the next round */
  multiplier: number
  /** of the combined rewards of all rounds so far */
  rewards: Moments
}

/**
 * Control at the first of some rounds. `before`: what the rounds before left; of it goes on what steers itself, while a
 * coefficient that stays is what the options say now. Moments of rewards are those of one pair of reward models.
 */
export const startControl = (
  options: PpoOptions,
  before: Control | undefined,
  sameScorers: boolean,
): Control => {
  const fixed = options.safety_limit == null || options.combiner !== 'lagrangian'
  return {
    kl_coef: (options.kl_target == null ? null : before?.kl_coef) ?? options.kl_coef,
    multiplier: (fixed ? null : before?.multiplier) ?? options.lagrange_multiplier,
    rewards: (sameScorers ? before?.rewards : null) ?? { n: 0, mean: 0, m2: 0 },
  }
}

/**
 * β after a round of n answers with mean KL to the reference: β·(1 + clip(KL/target − 1, ±0.2)·min(1, n/horizon))
 * (Ziegler et al. 2019, section 2.2; a round longer than the horizon would else turn β negative).
 */
export function nextKlCoef(klCoef: number, kl: number, n: number, options: PpoOptions): number {
  if (options.kl_target == null) return klCoef
  const error = Math.max(-0.2, Math.min(0.2, kl / options.kl_target - 1))
  return klCoef * (1 + error * Math.min(1, n / options.kl_horizon))
}

/** Safe RLHF caps λ (PKU-Alignment's trainer: lambda_max 5). */
const MAX_MULTIPLIER = 5

/**
 * λ after a round with mean scaled safety s: one step of gradient ascent on ln λ for λ·(limit − s), that is
 * ln λ + α·λ·(limit − s) (Dai et al. 2023, eq. 11 and appendix B.3), at most 5.
 */
export function nextMultiplier(multiplier: number, safety: number, options: PpoOptions): number {
  if (options.safety_limit == null || options.combiner !== 'lagrangian') return multiplier
  const step = options.lagrange_learning_rate * multiplier * (options.safety_limit - safety)
  return Math.min(MAX_MULTIPLIER, multiplier * Math.exp(step))
}

/** Joins new values to moments (Chan et al. 1979). */
export function joined(before: Moments, values: ArrayLike<number>): Moments {
  const list = Array.from(values)
  if (list.length === 0) return before
  const mean = list.reduce((a, b) => a + b, 0) / list.length
  const m2 = list.reduce((a, b) => a + (b - mean) ** 2, 0)
  const n = before.n + list.length
  const shift = mean - before.mean
  return {
    n,
    mean: before.mean + (shift * list.length) / n,
    m2: before.m2 + m2 + (shift ** 2 * before.n * list.length) / n,
  }
}

export const deviationOf = ({ n, m2 }: Moments): number =>
  n > 1 && m2 > 0 ? Math.sqrt(m2 / (n - 1)) : 1
