import { z } from 'zod'
import { PpoOptions, RewardModelOptions, SftOptions } from './training.ts'

const { shape: reward } = RewardModelOptions
const { shape: ppo } = PpoOptions
const count = (max: number) => z.int().min(1).max(max)

/** Options of the whole loop: supervised fine-tuning, judge labels, two reward models, PPO rounds, evaluation. */
export const RlaifOptions = z.strictObject({
  seed: z
    .int()
    .min(0)
    .max(2 ** 31 - 1)
    .default(1),
  dialogues: count(1e6).default(1500).describe('SFT demonstrations'),
  pairs: count(1e6).default(2000).describe('judge-labelled pairs per axis'),
  evaluation_prompts: count(1e5)
    .default(400)
    .describe('held-out prompts answered before and after'),
  sft: SftOptions.prefault({}),
  reward_model: RewardModelOptions.omit({ axis: true })
    .extend({ epochs: reward.epochs.default(3), batch_size: reward.batch_size.default(32) })
    .prefault({}),
  counterfactuals: z
    .number()
    .min(0)
    .max(10)
    .default(0.3)
    .describe(
      'pairs of an answer and an idle edit of it that the helpfulness model learns too, as a share of its pairs (docs/decisions.md)',
    ),
  ppo: PpoOptions.extend({
    rounds: ppo.rounds.default(60),
    prompts_per_round: ppo.prompts_per_round.default(96),
    max_new_tokens: ppo.max_new_tokens.default(40),
    kl_coef: ppo.kl_coef.default(0.3),
  }).prefault({}),
})
export type RlaifOptions = z.infer<typeof RlaifOptions>
