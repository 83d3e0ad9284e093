import { z } from 'zod'
import { PpoOptions, RewardModelOptions, SftOptions } from './training.ts'

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
  sft: SftOptions.prefault({ epochs: 2, batch_size: 64 }),
  reward_model: RewardModelOptions.omit({ axis: true }).prefault({ epochs: 3, batch_size: 32 }),
  ppo: PpoOptions.prefault({
    ...{ rounds: 60, prompts_per_round: 96, max_new_tokens: 40, epochs: 2, kl_coef: 0.5 },
  }),
})
export type RlaifOptions = z.infer<typeof RlaifOptions>
