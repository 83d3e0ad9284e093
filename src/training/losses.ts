import type { Strength } from '../schemas/feedback.ts'

/**
 * Losses on a handful of numbers per row, with their gradients, in double precision. The model turns
 * these gradients into weight gradients; nothing here knows a tensor.
 */

/** log σ(x) without overflow. */
export const logSigmoid = (x: number): number =>
  x >= 0 ? -Math.log1p(Math.exp(-x)) : x - Math.log1p(Math.exp(x))
export const sigmoid = (x: number): number =>
  x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x))

/** Llama 2, table 27: the margin m(r) in raw logits by strength of preference. */
export const MARGINS = {
  none: { significantly_better: 0, better: 0, slightly_better: 0, negligibly_better: 0 },
  small: { significantly_better: 1, better: 2 / 3, slightly_better: 1 / 3, negligibly_better: 0 },
  large: { significantly_better: 3, better: 2, slightly_better: 1, negligibly_better: 0 },
} as const satisfies Record<string, Record<Strength, number>>

export type PairLoss = { loss: number; dChosen: number; dRejected: number }

/**
 * Bradley–Terry with a margin and a soft label (Llama 2, eq. 2; science: margin with a soft label):
 * L = −p·log σ(Δ − m) − (1 − p)·log σ(−Δ − m), Δ = r_chosen − r_rejected; p = 1 is the hard label.
 */
export function bradleyTerry(
  chosen: number,
  rejected: number,
  margin = 0,
  probability = 1,
): PairLoss {
  const delta = chosen - rejected
  const forward = probability === 0 ? 0 : -probability * logSigmoid(delta - margin)
  const reverse = probability === 1 ? 0 : -(1 - probability) * logSigmoid(-delta - margin)
  const d = -probability * sigmoid(margin - delta) + (1 - probability) * sigmoid(margin + delta)
  return { loss: forward + reverse, dChosen: d, dRejected: -d }
}

/** Binary cross-entropy of an absolute label: −log σ(±r), + for safe (Llama 2, appendix A.3.3). */
export function absoluteSafety(logit: number, safe: boolean): { loss: number; d: number } {
  const sign = safe ? 1 : -1
  return { loss: -logSigmoid(sign * logit), d: -sign * sigmoid(-sign * logit) }
}

/** (r_chosen + r_rejected)²: keeps the mean reward of a pair at 0 (Eisenstein et al. 2023, eq. 2). */
export function centering(chosen: number, rejected: number): PairLoss {
  const sum = chosen + rejected
  return { loss: sum * sum, dChosen: 2 * sum, dRejected: 2 * sum }
}

/**
 * DPO (Rafailov et al. 2023, eq. 7) with a soft label: x = β·(chosen − rejected), of each answer log π − log π_ref, and
 * L = −q·log σ(x) − (1 − q)·log σ(−x), q = p·(1 − ε) + (1 − p)·ε. p: P(chosen is better), 1 the hard label; ε: the share
 * of labels taken to be turned round (Mitchell 2023; TRL's label_smoothing). Gradients with respect to the two log-ratios.
 */
export function dpo(
  chosen: number,
  rejected: number,
  beta: number,
  probability = 1,
  smoothing = 0,
): PairLoss {
  const q = probability * (1 - smoothing) + (1 - probability) * smoothing
  const { loss, dChosen, dRejected } = bradleyTerry(beta * chosen, beta * rejected, 0, q)
  return { loss, dChosen: beta * dChosen, dRejected: beta * dRejected }
}
