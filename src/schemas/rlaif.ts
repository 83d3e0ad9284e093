import { z } from 'zod'
import { PpoOptions } from './policy-options.ts'
import { mixOf, RewardModelOptions, SftOptions } from './training-options.ts'

const { shape: reward } = RewardModelOptions
const { shape: ppo } = PpoOptions
/** 0 takes a source out that a change would else leave in. */
const mix = mixOf(z.number().min(0)).nullable().optional()
const count = (max: number) => z.int().min(1).max(max)

/** The guard against over-optimisation: looks by an audit judge between PPO rounds (docs/guard.md). */
export const GuardOptions = z.strictObject({
  every: count(100000).default(10).describe('rounds between two looks'),
  prompts: count(100000)
    .default(64)
    .describe('fresh prompts of a look: about 66 verdicts show a win rate of 35 %'),
  alpha: z
    .number()
    .gt(0)
    .lt(1)
    .default(0.05)
    .describe('chance of stopping a policy that is no worse, over all looks'),
  kl_budget: z
    .number()
    .positive()
    .default(30)
    .describe('nats of KL per answer to the SFT policy at which it stops in any case'),
})
export type GuardOptions = z.infer<typeof GuardOptions>

/** Options of the whole loop: supervised fine-tuning, judge labels, two reward models, PPO rounds, evaluation. */
export const RlaifOptions = z.strictObject({
  seed: z
    .int()
    .min(0)
    .max(2 ** 31 - 1)
    .default(1),
  iterations: count(1000)
    .default(1)
    .describe('times that the policy’s answers are labelled, reward models learn and it learns'),
  dialogues: count(1e6).default(1500).describe('SFT demonstrations'),
  pairs: count(1e6).default(2000).describe('judge-labelled pairs per axis and iteration'),
  replay: z
    .number()
    .min(0)
    .max(100)
    .default(1)
    .describe(
      'pairs of earlier iterations that reward models learn again, as a multiple of the new ones (Llama 2 keeps all of them)',
    ),
  evaluation_prompts: count(1e5)
    .optional()
    .describe(
      'held-out prompts answered before and after; default: 400, on the starter world, where gold costs nothing, 1,600',
    ),
  people: z
    .number()
    .min(0)
    .max(1)
    .default(0)
    .describe(
      'share of each iteration’s pairs that people label in place of the judge (docs/loops.md): 1 for all, 0.1 for an audit of the judge',
    ),
  mix: z
    .strictObject({ helpfulness: mix, safety: mix })
    .optional()
    .describe(
      'wanted shares by source of the pairs that the reward model of an axis learns from, new and learned again together, e.g. {"helpfulness": {"blind labelling": 0.5, "default": 0.5}}: a judge’s source is the name of its profile, `blind labelling` what people gave at /label; 0: none of it; null or nothing: all pairs as they are (docs/loops.md)',
    ),
  sft: SftOptions.prefault({}),
  reward_model: RewardModelOptions.omit({ axis: true })
    .extend({ epochs: reward.epochs.default(3), batch_size: reward.batch_size.default(32) })
    .prefault({}),
  counterfactuals: z
    .number()
    .min(0)
    .max(10)
    .default(0.6)
    .describe(
      'pairs of an answer and an idle edit of it that the helpfulness model learns too, as a share of its pairs (docs/decisions.md)',
    ),
  ppo: PpoOptions.extend({
    rounds: ppo.rounds.default(60),
    prompts_per_round: ppo.prompts_per_round.default(96),
    max_new_tokens: ppo.max_new_tokens.default(40),
    kl_coef: ppo.kl_coef.default(0.3),
  }).prefault({}),
  guard: GuardOptions.nullable().prefault({}).describe('null: all rounds, whatever comes of it'),
})
export type RlaifOptions = z.infer<typeof RlaifOptions>
