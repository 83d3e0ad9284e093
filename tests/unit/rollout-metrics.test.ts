import { expect, test } from 'vitest'
import { PpoOptions } from '../../src/schemas/policy-options.ts'
import { rolloutMetrics } from '../../src/training/ppo/measures.ts'
import type { Rollout } from '../../src/training/ppo/rollout.ts'
import type { Scored } from '../../src/training/ppo/scored.ts'

const control = { kl_coef: 0.5, multiplier: 1, rewards: { n: 0, mean: 0, m2: 0 } }
const rollout = (
  logprobs: readonly number[],
  reference: readonly number[],
  more: Partial<Rollout> = {},
): Rollout => ({
  ...{ prompt: 0, promptIds: [1], promptClass: null, text: '', ended: true, entropy: 2 },
  responseIds: logprobs.map((_, i) => i),
  logprobs: Float64Array.from(logprobs),
  referenceLogprobs: Float64Array.from(reference),
  values: new Float64Array(logprobs.length),
  ...more,
})
const scored = (rewards: readonly number[]): Scored => ({
  helpfulness: Float64Array.of(1, 3),
  safety: Float64Array.of(4, 6),
  rewards: Float64Array.from(rewards),
  branches: ['safety', 'helpfulness'],
  ...{ inverted: null, safetyMean: 0 },
})
// log-ratios: 1, −0.5 of the first answer, 0.25 of the second
const rollouts = [
  rollout([-1, -2], [-2, -1.5]),
  rollout([-0.5], [-0.75], { ended: false, entropy: 1 }),
]
const rows = [
  { returns: Float64Array.of(1, 2), oldValues: Float64Array.of(0.5, 2) },
  { returns: Float64Array.of(3), oldValues: Float64Array.of(3) },
]

test('what a round tells, by hand', () => {
  const options = PpoOptions.parse({ kl_estimator: 'k1' })
  const told = rolloutMetrics(rollouts, scored([2, -1]), rows, options, control)
  const kl = (1 - 0.5 + 0.25) / 2
  expect(told).toMatchObject({
    'objective/kl': kl,
    // the penalty lowers what is learned from
    'objective/non_score_reward': -0.5 * kl,
    'objective/scores': 0.5,
    'objective/rlhf_reward': 0.5 - 0.5 * kl,
    'objective/helpfulness': 2,
    'objective/safety': 5,
    // of whole answers, and of one token
    'objective/entropy': (2 * 2 + 1) / 2,
    'policy/entropy_avg': 1.5,
    'gate/safety_share': 0.5,
    'val/num_eos_tokens': 1,
    'response/length': 1.5,
  })
  expect(told['objective/scores_std']).toBeCloseTo(Math.sqrt(4.5), 12)
  // errors 0.5, 0, 0: variance 1/12; returns 1, 2, 3: variance 1
  expect(told['val/explained_variance']).toBeCloseTo(1 - 1 / 12, 12)
})

test('the penalty of another estimator, none in the reward, and rewards that are all alike', () => {
  const k2 = PpoOptions.parse({ kl_estimator: 'k2' })
  const penalty = (1 / 2 + 0.25 / 2 + 0.0625 / 2) / 2
  const told = rolloutMetrics(rollouts, scored([2, 2]), rows, k2, control)
  expect(told['objective/non_score_reward']).toBeCloseTo(-0.5 * penalty, 12)
  // a collapse looks like one
  expect(told['objective/scores_std']).toBe(0)
  const inLoss = PpoOptions.parse({ kl_in: 'loss', kl_estimator: 'k2' })
  const none = rolloutMetrics(rollouts, scored([2, 2]), rows, inLoss, control)
  expect(none['objective/non_score_reward']).toBe(0)
  expect(none['objective/rlhf_reward']).toBe(2)
})
