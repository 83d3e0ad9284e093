import type { Branch } from '../../evaluation/combine.ts'
import type { PpoOptions } from '../../schemas/policy-options.ts'
import type { RolloutRow } from '../../schemas/training.ts'
import type { Control } from './control.ts'
import { klEstimate } from './rewards.ts'
import type { Rollout } from './rollout.ts'
import type { Scored } from './scored.ts'
import { momentsOf, spreadOf } from './scorers.ts'

export const rolloutRows = (rollouts: readonly Rollout[], scored: Scored): RolloutRow[] =>
  rollouts.map(({ prompt, text, ended }, i) => ({
    ...{ prompt, response: text, ended },
    helpfulness: scored.helpfulness[i] ?? NaN,
    safety: scored.safety[i] ?? NaN,
    reward: scored.rewards[i] ?? NaN,
  }))

/** Of several updates the mean of what each told; nothing of none. */
export const meanOf = (told: readonly Record<string, number>[]): Record<string, number> =>
  Object.fromEntries(
    Object.keys(told[0] ?? {}).map((name) => [
      name,
      told.reduce((sum, each) => sum + (each[name] ?? NaN), 0) / told.length,
    ]),
  )

/** The share of answers whose reward came by each branch that the combiner took. */
function branchShares(branches: readonly Branch[]): Record<string, number> {
  const share = (branch: Branch): number =>
    branches.filter((taken) => taken === branch).length / branches.length
  return { 'gate/safety_share': share('safety'), 'gate/helpfulness_share': share('helpfulness') }
}

/** TRL's metric names; docs/metrics.md defines each. */
export function rolloutMetrics(
  rollouts: readonly Rollout[],
  scored: Scored,
  rows: readonly { returns: Float64Array; oldValues: Float64Array }[],
  options: PpoOptions,
  control: Control,
): Record<string, number> {
  const n = rollouts.length
  const mean = (f: (r: Rollout, i: number) => number): number =>
    rollouts.reduce((sum, r, i) => sum + f(r, i), 0) / n
  const sumKl = (
    { logprobs, referenceLogprobs }: Rollout,
    estimator: PpoOptions['kl_estimator'],
  ): number =>
    logprobs.reduce(
      (sum, logprob, t) => sum + klEstimate(logprob, referenceLogprobs[t] ?? 0, estimator),
      0,
    )
  const kl = mean((r) => sumKl(r, 'k1'))
  const penalty =
    options.kl_in === 'reward' ? -control.kl_coef * mean((r) => sumKl(r, options.kl_estimator)) : 0
  const scores = mean((_, i) => scored.rewards[i] ?? 0)
  const returns = rows.flatMap((row) => [...row.returns])
  const errors = rows.flatMap((row) => [...row.returns].map((r, t) => r - (row.oldValues[t] ?? 0)))
  return {
    'objective/kl': kl,
    'objective/entropy': mean(({ entropy, responseIds }) => entropy * responseIds.length),
    'objective/non_score_reward': penalty,
    'objective/scores': scores,
    'objective/rlhf_reward': scores + penalty,
    'objective/helpfulness': mean((_, i) => scored.helpfulness[i] ?? 0),
    'objective/safety': mean((_, i) => scored.safety[i] ?? 0),
    'objective/scores_std': spreadOf(scored.rewards).std, // 0 where all are equal: a collapse looks like one
    'policy/entropy_avg': mean(({ entropy }) => entropy),
    'policy/kl_coef': control.kl_coef,
    ...branchShares(scored.branches),
    ...(scored.inverted !== null && { 'gate/inversions': scored.inverted }),
    ...(options.combiner === 'lagrangian' && { 'lagrangian/multiplier': control.multiplier }),
    'val/num_eos_tokens': rollouts.filter(({ ended }) => ended).length,
    ...(options.method === 'ppo' && {
      'val/explained_variance': 1 - momentsOf(errors).std ** 2 / momentsOf(returns).std ** 2,
    }),
    'response/length': mean(({ responseIds }) => responseIds.length),
  }
}
