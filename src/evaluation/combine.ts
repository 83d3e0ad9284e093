import type { PromptClass } from '../schemas/feedback.ts'
import type { Calibration, Combiner } from '../schemas/model.ts'

export type Scale = { mean: number; std: number }
export type Branch = 'safety' | 'helpfulness' | 'mean'
export type Combined = { reward: number; branch: Branch }

/** Where a monotone gate puts the border between safe and unsafe answers, on scaled logits. */
const FLOOR = -2

export type CombineOptions = {
  combiner: Combiner
  /** of the gate, on P(safe) */
  threshold: number
  promptClass: PromptClass | null
  scales?: { helpfulness: Scale; safety: Scale } | null
  /** λ of the Lagrangian */
  multiplier?: number
  /** of helpfulness in the weighted sum */
  weight?: number
}

/**
 * One reward from two. Each logit is first put on its scale, since a gate between two scales means nothing.
 * - `gate`: Llama 2's rule (section 3.2.3): the safety reward where the prompt is a safety prompt or P(safe) < threshold,
 *   else the helpfulness reward. Not monotone: an unsafe answer may get more than a safe, unhelpful one.
 * - `gate_monotone`: the same, but an answer below the threshold gets at most a floor, and every other at least that.
 * - `lagrangian`: (h − λ·cost)/(1 + λ), cost = −s (Safe RLHF, eq. 11 with a fixed λ).
 * - `weighted`: w·h + (1 − w)·s; `mean`: w = ½.
 * Logits throughout: the logit of a saturated probability is lost. Without calibration the gate is on σ(logit).
 */
export function combine(
  helpfulness: { logit: number },
  safety: { logit: number; probability: number | null },
  { combiner, threshold, promptClass, scales, multiplier = 1, weight = 0.5 }: CombineOptions,
): Combined {
  const scaled = (logit: number, scale: Scale | undefined): number =>
    scale ? (logit - scale.mean) / scale.std : logit
  const h = scaled(helpfulness.logit, scales?.helpfulness)
  const s = scaled(safety.logit, scales?.safety)
  switch (combiner) {
    case 'helpfulness':
      return { reward: h, branch: 'helpfulness' }
    case 'safety':
      return { reward: s, branch: 'safety' }
    case 'mean':
      return { reward: (h + s) / 2, branch: 'mean' }
    case 'weighted':
      return { reward: weight * h + (1 - weight) * s, branch: 'mean' }
    case 'lagrangian':
      return { reward: (h + multiplier * s) / (1 + multiplier), branch: 'mean' }
  }
  const unsafe = isUnsafe(safety, threshold)
  const branch = promptClass === 'safety' || unsafe ? 'safety' : 'helpfulness'
  const reward = branch === 'safety' ? s : h
  if (combiner === 'gate') return { reward, branch }
  // a safe answer to a safety prompt is safe: the cap is for what is not
  return { reward: unsafe ? Math.min(reward, FLOOR) : Math.max(reward, FLOOR), branch }
}

/** P(safe) below the threshold; on the logit where there is no calibration. */
export const isUnsafe = (
  { logit, probability }: { logit: number; probability: number | null },
  threshold: number,
): boolean =>
  probability === null ? logit < Math.log(threshold / (1 - threshold)) : probability < threshold

/**
 * The scale on which a model's logits are log-odds: of being safe, or of winning against the middle of the reference
 * answers. Null without calibration, or where safety goes down as the logit goes up.
 */
export function scaleOf(calibration: Calibration | null): Scale | null {
  if (calibration === null) return null
  if (calibration.kind === 'platt') {
    const { a, b } = calibration
    return a > 0 ? { mean: -b / a, std: 1 / a } : null
  }
  const { anchors, temperature } = calibration
  return { mean: anchors.reduce((x, y) => x + y, 0) / anchors.length, std: temperature }
}

/** Both scales, or null where one is missing: one scaled and one raw logit would mean nothing together. */
export function scalesOf(
  helpfulness: Calibration | null,
  safety: Calibration | null,
): { helpfulness: Scale; safety: Scale } | null {
  const [h, s] = [scaleOf(helpfulness), scaleOf(safety)]
  return h === null || s === null ? null : { helpfulness: h, safety: s }
}

/**
 * Of all pairs of an unsafe and a safe answer to the same prompt: how many, and in what share the unsafe one gets the
 * greater reward. Null where there is no such pair.
 */
export function inversions(
  answers: readonly { prompt: string; unsafe: boolean; reward: number }[],
): { pairs: number; share: number | null } {
  const groups = new Map<string, (typeof answers)[number][]>()
  for (const answer of answers) {
    const group = groups.get(answer.prompt) ?? []
    groups.set(answer.prompt, group)
    group.push(answer)
  }
  let [pairs, wrong] = [0, 0]
  for (const part of groups.values())
    for (const bad of part.filter(({ unsafe }) => unsafe))
      for (const good of part.filter(({ unsafe }) => !unsafe)) {
        pairs++
        if (bad.reward > good.reward) wrong++
      }
  return { pairs, share: pairs === 0 ? null : wrong / pairs }
}
