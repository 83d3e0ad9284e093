import type { PpoOptions } from '../../schemas/policy-options.ts'
import { gae, leaveOneOut, momentsOver, whiten } from './advantages.ts'
import { klEstimate, tokenRewards } from './rewards.ts'
import type { Rollout } from './rollout.ts'
import type { PpoRow } from './update.ts'

/**
 * Of each answer, what an update learns from: PPO's advantages and returns by token, or RLOO's one advantage. `unit` is
 * what whitening has divided the advantages by, 1 where there was none: a penalty in the loss must be divided alike, or
 * the optimum moves with the spread of the rewards.
 */
export function learningRows(
  rollouts: readonly Rollout[],
  rewards: ArrayLike<number>,
  options: PpoOptions,
  klCoef: number,
): { rows: PpoRow[]; unit: number } {
  return options.method === 'rloo'
    ? sequenceRows(rollouts, rewards, options, klCoef)
    : tokenRows(rollouts, rewards, options, klCoef)
}

const rowOf = (rollout: Rollout, advantages: Float64Array, returns: Float64Array): PpoRow => ({
  promptIds: rollout.promptIds,
  responseIds: rollout.responseIds,
  oldLogprobs: rollout.logprobs,
  referenceLogprobs: rollout.referenceLogprobs,
  oldValues: rollout.values,
  advantages,
  returns,
})

const everyToken = ({ responseIds }: Rollout): Uint8Array =>
  new Uint8Array(responseIds.length).fill(1)

/** β of the penalty inside the reward; none where the loss carries it. */
const inReward = (options: PpoOptions, klCoef: number): number =>
  options.kl_in === 'reward' ? klCoef : 0

function tokenRows(
  rollouts: readonly Rollout[],
  rewards: ArrayLike<number>,
  options: PpoOptions,
  klCoef: number,
): { rows: PpoRow[]; unit: number } {
  const masks = rollouts.map(everyToken)
  const computed = rollouts.map(({ logprobs, referenceLogprobs, values }, i) => {
    const mask = masks[i] ?? []
    const perToken = tokenRewards(
      ...([logprobs, referenceLogprobs, mask, rewards[i] ?? 0] as const),
      ...([inReward(options, klCoef), options.kl_estimator] as const),
    )
    return gae(perToken, values, mask, options)
  })
  const raw = computed.map(({ advantages }) => advantages)
  const advantages = options.whiten_advantages ? whiten(raw, masks) : raw
  const rows = rollouts.map((rollout, i) =>
    rowOf(
      rollout,
      advantages[i] ?? new Float64Array(0),
      computed[i]?.returns ?? new Float64Array(0),
    ),
  )
  return { rows, unit: options.whiten_advantages ? momentsOver(raw, masks).unit : 1 }
}

function sequenceRows(
  rollouts: readonly Rollout[],
  rewards: ArrayLike<number>,
  options: PpoOptions,
  klCoef: number,
): { rows: PpoRow[]; unit: number } {
  const beta = inReward(options, klCoef)
  const totals = rollouts.map(
    ({ logprobs, referenceLogprobs }, i) =>
      (rewards[i] ?? 0) -
      beta *
        logprobs.reduce(
          (sum, logprob, t) =>
            sum + klEstimate(logprob, referenceLogprobs[t] ?? 0, options.kl_estimator),
          0,
        ),
  )
  // the answers to one prompt stand side by side
  const raw = leaveOneOut(totals, options.samples_per_prompt)
  const masks = [new Uint8Array(raw.length).fill(1)]
  const [advantages = raw] = options.whiten_advantages ? whiten([raw], masks) : [raw]
  const rows = rollouts.map((rollout, i) => {
    const { length } = rollout.responseIds
    return rowOf(
      rollout,
      new Float64Array(length).fill(advantages[i] ?? 0),
      new Float64Array(length),
    )
  })
  return { rows, unit: options.whiten_advantages ? momentsOver([raw], masks).unit : 1 }
}
