import type { PpoOptions } from '../../schemas/policy-options.ts'
import type { AdamW } from '../optimizer.ts'
import type { Trainee } from '../trainee.ts'
import { bestUpdate, keepBest } from './best.ts'
import type { Kept } from './best.ts'
import { learningRows } from './learning-rows.ts'
import { pairUpdate } from './pairs.ts'
import type { Prompt } from './prompts.ts'
import type { Rollout } from './rollout.ts'
import { ppoUpdate } from './update.ts'
import type { PpoRow } from './update.ts'

type Lesson = {
  rewards: ArrayLike<number>
  kept: Kept
  round: number
  /** rounds that the critic has learned in */
  criticRounds: number
  options: PpoOptions
  lr: number
  klCoef: number
  bad: { count: number }
}

/** What the method of the options makes of a round's answers: `rows` are those of PPO and RLOO, none of the others. */
export function learn(
  trainee: Pick<Trainee, 'model' | 'trainable'>,
  optimizer: AdamW,
  { rollouts, prompts }: { rollouts: readonly Rollout[]; prompts: readonly Prompt[] },
  { rewards, kept, round, criticRounds, options, lr, klCoef, bad }: Lesson,
): { rows: PpoRow[]; update: Record<string, number> } {
  const { method, samples_per_prompt: k, seed } = options
  const warmup = method === 'ppo' && criticRounds < options.critic_warmup_rounds
  const state = { key: [seed, 2, round], warmup, klCoef, bad }
  switch (method) {
    case 'dpo':
      return {
        rows: [],
        update: pairUpdate(trainee, optimizer, rollouts, rewards, options, lr, state),
      }
    case 'rejection_sampling':
      return {
        rows: [],
        update: {
          ...keepBest(kept, rollouts, rewards, prompts, k, round),
          ...bestUpdate(trainee, optimizer, kept, options, lr, state),
        },
      }
  }
  const { rows, unit } = learningRows(rollouts, rewards, options, klCoef)
  const { model, trainable } = trainee
  const inLoss = { ...state, klCoef: klCoef / unit }
  return { rows, update: ppoUpdate(model, trainable, optimizer, rows, options, lr, inLoss) }
}
