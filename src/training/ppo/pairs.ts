import { permutation } from '../../random.ts'
import type { PpoOptions } from '../../schemas/policy-options.ts'
import { dpoLoss } from '../dpo.ts'
import type { AdamW } from '../optimizer.ts'
import { guardedStep } from '../tokens.ts'
import type { Sequence } from '../tokens.ts'
import type { Trainee } from '../trainee.ts'
import { meanOf } from './measures.ts'
import type { Rollout } from './rollout.ts'
import type { UpdateState } from './update.ts'

/** A sampled answer as an example: its own tokens count. */
export const answered = ({
  promptIds,
  responseIds,
}: Pick<Rollout, 'promptIds' | 'responseIds'>): Sequence => ({
  ids: [...promptIds, ...responseIds],
  counts: [...promptIds.map(() => 0), ...responseIds.map(() => 1)],
})

/** Of the k answers to each prompt, which stand side by side, the places of the best and the worst; none where all are worth the same. */
export function bestAndWorst(
  rewards: ArrayLike<number>,
  k: number,
): { best: number; worst: number }[] {
  return Array.from({ length: rewards.length / k }, (_, group) => {
    let [best, worst] = [group * k, group * k]
    for (let i = group * k; i < (group + 1) * k; i++) {
      if ((rewards[i] ?? NaN) > (rewards[best] ?? NaN)) best = i
      if ((rewards[i] ?? NaN) < (rewards[worst] ?? NaN)) worst = i
    }
    return { best, worst }
  }).filter(({ best, worst }) => best !== worst)
}

/**
 * DPO on a round's own answers: of each prompt the best by the combined reward against the worst, β the round's kl_coef.
 * The reference's log-probabilities are those that the round has measured.
 */
export function pairUpdate(
  { model, trainable }: Pick<Trainee, 'model' | 'trainable'>,
  optimizer: AdamW,
  rollouts: readonly Rollout[],
  rewards: ArrayLike<number>,
  options: PpoOptions,
  learningRate: number,
  { key, klCoef, bad }: UpdateState,
): Record<string, number> {
  // equal answers may be scored apart by a rounding: they are no pair
  const pairs = bestAndWorst(rewards, options.samples_per_prompt).filter(
    ({ best, worst }) => rollouts[best]?.responseIds.join() !== rollouts[worst]?.responseIds.join(),
  )
  const chosen = pairs.flatMap(({ best, worst }) => [best, worst]).map((at) => rollouts[at])
  const of = chosen.filter((rollout) => rollout !== undefined)
  const sequences = of.map(answered)
  const reference = {
    sums: Float64Array.from(of, (r) => r.referenceLogprobs.reduce((a, b) => a + b, 0)),
    counts: Int32Array.from(of, ({ responseIds }) => responseIds.length),
  }
  const loss = {
    ...{ beta: klCoef, label_smoothing: 0, length_normalization: false },
    ...{ micro_batch_tokens: options.micro_batch_tokens, temperature: options.temperature },
  }
  const told: Record<string, number>[] = []
  for (let epoch = 0; epoch < options.epochs && pairs.length > 0; epoch++) {
    const order = Array.from(permutation(pairs.length, ...key, 43, epoch))
    for (let start = 0; start < order.length; start += options.mini_batch_size) {
      const rows = order.slice(start, start + options.mini_batch_size)
      const { gradients, metrics } = dpoLoss(
        ...([model, sequences, reference, [], rows, loss, trainable] as const),
      )
      told.push({ ...metrics, grad_norm: guardedStep(optimizer, gradients, learningRate, bad) })
    }
  }
  return { 'dpo/pairs': pairs.length, 'policy/updates': told.length, ...meanOf(told) }
}
