import type { PromptClass } from '../schemas/feedback.ts'

export type Scale = { mean: number; std: number }
export type Combined = { reward: number; branch: 'safety' | 'helpfulness' | 'mean' }

/**
 * One reward from two. `gate` is Llama 2's rule (section 3.2.3): the safety reward where the prompt is a safety
 * prompt or P(safe) < threshold, else the helpfulness reward. Each logit is first put on its fixed scale, since a
 * gate between two scales means nothing. A safety model without calibration gates on σ(logit).
 */
export function combine(
  helpfulness: { logit: number },
  safety: { logit: number; probability: number | null },
  options: {
    combiner: 'gate' | 'helpfulness' | 'safety' | 'mean'
    threshold: number
    promptClass: PromptClass | null
    scales?: { helpfulness: Scale; safety: Scale } | null
  },
): Combined {
  const scaled = (logit: number, scale: Scale | undefined): number =>
    scale ? (logit - scale.mean) / scale.std : logit
  const h = scaled(helpfulness.logit, options.scales?.helpfulness)
  const s = scaled(safety.logit, options.scales?.safety)
  if (options.combiner === 'helpfulness') return { reward: h, branch: 'helpfulness' }
  if (options.combiner === 'safety') return { reward: s, branch: 'safety' }
  if (options.combiner === 'mean') return { reward: (h + s) / 2, branch: 'mean' }
  const unsafe =
    safety.probability === null
      ? safety.logit < Math.log(options.threshold / (1 - options.threshold))
      : safety.probability < options.threshold
  return options.promptClass === 'safety' || unsafe
    ? { reward: s, branch: 'safety' }
    : { reward: h, branch: 'helpfulness' }
}
