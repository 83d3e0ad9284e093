import { LibraError } from '../../errors.ts'
import { calibrate } from '../../evaluation/calibration.ts'
import { combine, inversions, isUnsafe } from '../../evaluation/combine.ts'
import type { Branch } from '../../evaluation/combine.ts'
import type { Axis } from '../../schemas/feedback.ts'
import type { PpoOptions } from '../../schemas/policy-options.ts'
import { deviationOf, joined } from './control.ts'
import type { Control } from './control.ts'
import type { Prompt } from './prompts.ts'
import type { Rollout } from './rollout.ts'
import { momentsOf, scoreBoth } from './scorers.ts'
import type { Scales, Scorers } from './scorers.ts'

/** A round's answers with both models' raw logits and the one reward that is learned from, each [n]. */
export type Scored = Record<Axis, Float64Array> & {
  rewards: Float64Array
  branches: Branch[]
  /** share of pairs of a prompt's answers in which an unsafe one gets more than a safe one; null without such pairs */
  inverted: number | null
  /** mean of the safety logits on their scale */
  safetyMean: number
}

/**
 * Both reward models score the same answers and the combiner makes one number of two. Then, in this order: the
 * normalisation of `reward_normalization`, the clip, the penalty for an answer without an end. Joins the combined
 * rewards to the control's moments. Throws `non_finite_output`.
 */
export function scoreRollouts(
  rollouts: readonly Rollout[],
  prompts: readonly Prompt[],
  scorers: Scorers,
  options: PpoOptions,
  scales: Scales | null,
  control: Control,
): Scored {
  const { helpfulness, safety } = scoreBoth(rollouts, prompts, scorers, options)
  const { mean, std } = scales?.safety ?? { mean: 0, std: 1 }
  const branches: Branch[] = []
  const answers: { prompt: string; unsafe: boolean; reward: number }[] = []
  const combined = Float64Array.from(rollouts, ({ prompt, promptClass }, i) => {
    const logit = safety[i] ?? NaN
    const judged = { logit, probability: calibrate(logit, scorers.safety.calibration) }
    const { reward, branch } = combine({ logit: helpfulness[i] ?? NaN }, judged, {
      combiner: options.combiner,
      multiplier: control.multiplier,
      weight: options.helpfulness_weight,
      threshold: options.gate_threshold,
      promptClass,
      scales,
    })
    branches.push(branch)
    const unsafe = isUnsafe(judged, options.gate_threshold)
    answers.push({ prompt: String(prompt), unsafe, reward })
    return reward
  })
  control.rewards = joined(control.rewards, combined)
  const rewards = normalised(combined, options, control).map((reward, i) => {
    const bound = options.reward_clip ?? Infinity
    const clipped = Math.max(-bound, Math.min(bound, reward))
    return rollouts[i]?.ended === true ? clipped : clipped - options.missing_eos_penalty
  })
  if (!rewards.every(Number.isFinite))
    throw new LibraError('non_finite_output', 'a reward model gave a score that is not finite', {
      fault: 'engine',
    })
  const inverted = inversions(answers).share
  const safetyMean = safety.reduce((sum, x) => sum + (x - mean) / std, 0) / safety.length
  return { helpfulness, safety, rewards, branches, inverted, safetyMean }
}

function normalised(rewards: Float64Array, options: PpoOptions, control: Control): Float64Array {
  if (options.reward_normalization === 'batch') {
    const { mean, std } = momentsOf(rewards)
    return rewards.map((x) => (x - mean) / std)
  }
  if (options.reward_normalization === 'running') {
    const deviation = deviationOf(control.rewards)
    return rewards.map((x) => x / deviation)
  }
  return rewards
}
