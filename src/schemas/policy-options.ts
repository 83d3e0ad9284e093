import { z } from 'zod'
import { LibraError } from '../errors.ts'
import { Combiner } from './model.ts'
import { count, LoraOptions, loop, OptimizerOptions } from './training-options.ts'

export const PpoOptions = z.strictObject({
  method: z
    .enum(['ppo', 'rloo', 'dpo', 'rejection_sampling'])
    .default('ppo')
    .describe(
      'ppo: advantages by token, with a critic; rloo: of several answers to a prompt each is held against the others, without one (Ahmadian et al. 2024); dpo: the best answer to a prompt against its worst, with kl_coef as its β (Rafailov et al. 2023); rejection_sampling: fine-tuning on the best answers of all rounds (Llama 2); docs/methods.md says when to take which',
    ),
  checkpoint_every: count(100000)
    .default(1)
    .describe('rounds between two checkpoints, from the last of which an interrupted run goes on'),
  seed: loop.seed,
  rounds: count(100000).default(1),
  total_rounds: count(100000)
    .nullish()
    .describe(
      'length of the learning-rate schedule, the same in every call that goes on; default: the rounds before and those of this call',
    ),
  prompts_per_round: count(65536).default(64),
  samples_per_prompt: count(1024).default(1),
  max_new_tokens: count(65536).default(24),
  temperature: z
    .number()
    .positive()
    .default(1)
    .describe('of rollouts; every log-probability is warped alike'),
  epochs: count(100)
    .default(1)
    .describe('over the answers of a round (Llama 2: one step per batch; TRL: 4)'),
  mini_batch_size: count(65536).default(64).describe('answers of an optimiser step (Llama 2: 64)'),
  micro_batch_tokens: loop.micro_batch_tokens,
  kl_coef: z
    .number()
    .min(0)
    .default(0.1)
    .describe('β; 0.1 suits rewards standardised once (Llama 2: 0.01)'),
  kl_estimator: z
    .enum(['k1', 'k2', 'k3'])
    .default('k1')
    .describe(
      'k1 in the reward meets π_ref·exp(r/β), k2 in the loss where answers have one token; the others do not',
    ),
  kl_in: z
    .enum(['reward', 'loss'])
    .default('reward')
    .describe(
      'where −β·KL stands: in each token’s reward (Llama 2, TRL) or in the loss (GRPO), there with k2 or k3 and in the unit of the advantages',
    ),
  kl_target: z
    .number()
    .positive()
    .nullish()
    .describe('mean KL per answer that β is steered to (Ziegler et al. 2019: 6); null: β stays'),
  kl_horizon: z
    .number()
    .positive()
    .default(10000)
    .describe('answers over which β moves (Ziegler et al. 2019: 10,000)'),
  target_kl: z
    .number()
    .positive()
    .nullish()
    .describe(
      'approximate KL to the round’s own policy at which its update ends (Spinning Up: 0.015); null: all epochs',
    ),
  entropy_coef: z
    .number()
    .min(0)
    .default(0)
    .describe('bonus for entropy, per token (Schulman et al. 2017: 0.01 on Atari; 0 in RLHF)'),
  clip_range: z
    .number()
    .positive()
    .default(0.2)
    .describe('ε of the policy’s ratio (Llama 2, Schulman et al. 2017: 0.2)'),
  value_clip_range: z
    .number()
    .positive()
    .default(0.2)
    .describe('how far the critic may move in a round (TRL’s cliprange_value: 0.2)'),
  vf_coef: z.number().min(0).default(0.1).describe('of the critic’s loss (TRL: 0.1)'),
  gamma: z.number().min(0).max(1).default(1).describe('of rewards to come (TRL: 1)'),
  lambda: z
    .number()
    .min(0)
    .max(1)
    .default(0.95)
    .describe('of the advantages (Schulman et al. 2016: 0.95, as TRL)'),
  whiten_advantages: z
    .boolean()
    .default(true)
    .describe('to mean 0 and deviation 1 over the tokens of a round (TRL)'),
  reward_normalization: z
    .enum(['reference', 'batch', 'running', 'none'])
    .default('reference')
    .describe(
      'reference: fixed mean and deviation per axis from the reference policy; batch: Llama 2 whitening, which moves the optimum; running: over the deviation of all rewards so far (Engstrom et al. 2020)',
    ),
  reward_clip: z
    .number()
    .positive()
    .nullish()
    .describe('bound on the normalised reward, before the penalty (Engstrom et al. 2020: 10)'),
  combiner: Combiner.default('gate').describe(
    'gate: Llama 2; gate_monotone: unsafe answers below all others; lagrangian: Safe RLHF, λ fixed or steered by safety_limit',
  ),
  lagrange_multiplier: z
    .number()
    .min(0)
    .max(100)
    .default(1)
    .describe('λ of the lagrangian, or where it starts (Safe RLHF: 1)'),
  safety_limit: z
    .number()
    .nullish()
    .describe(
      'mean scaled safety below which λ of the lagrangian rises, and above which it falls; null: λ stays',
    ),
  lagrange_learning_rate: z
    .number()
    .positive()
    .default(0.1)
    .describe('of ln λ (PKU-Alignment’s Safe RLHF: 0.1)'),
  helpfulness_weight: z.number().min(0).max(1).default(0.5).describe('of the weighted sum'),
  gate_threshold: z
    .number()
    .min(0)
    .max(1)
    .default(0.15)
    .describe('on the safety probability (Llama 2: 0.15)'),
  missing_eos_penalty: z
    .number()
    .min(0)
    .default(1)
    .describe('subtracted after the reward is standardised'),
  critic_warmup_rounds: z
    .int()
    .min(0)
    .max(10000)
    .default(1)
    .describe('rounds in which a new critic learns alone: it starts from zero'),
  lora: LoraOptions.nullable().prefault({}),
  optimizer: OptimizerOptions.prefault({
    learning_rate: 1e-3,
    schedule: 'linear',
    warmup_fraction: 0,
    weight_decay: 0,
  }),
})
export type PpoOptions = z.infer<typeof PpoOptions>

/**
 * What a method or combiner can't use would be written down and not be true. Throws `conflicting_options` naming the
 * field: after `at`, where the options stand in others, and with the iteration of a loop that a change begins with.
 */
export function checkPolicyOptions(
  options: PpoOptions,
  { at = '', iteration }: { at?: string; iteration?: number | undefined } = {},
): void {
  const { method, samples_per_prompt: samples, combiner, kl_coef: beta } = options
  const refuse = (name: string, why: string): never => {
    const field = `${at}${name}`
    const from = iteration === undefined ? '' : `, from iteration ${iteration} on`
    throw new LibraError('conflicting_options', `${field}${from}: ${why}`, { details: { field } })
  }
  if (options.safety_limit != null && combiner !== 'lagrangian')
    refuse(
      'safety_limit',
      `steers λ of the lagrangian, and ${combiner} has none; give combiner lagrangian, or leave it out`,
    )
  if (options.safety_limit != null && !(options.lagrange_multiplier > 0))
    refuse(
      'lagrange_multiplier',
      'is steered by factors, so that it can start from more than 0 alone',
    )
  if (
    method !== 'rejection_sampling' &&
    beta === 0 &&
    (method === 'dpo' || options.kl_target != null)
  )
    refuse(
      'kl_coef',
      method === 'dpo'
        ? 'is the β of dpo: with 0 nothing is learned'
        : 'is steered by factors, so that it can start from more than 0 alone',
    )
  if (['ppo', 'rloo'].includes(method) && options.kl_in === 'loss' && options.kl_estimator === 'k1')
    refuse(
      'kl_estimator',
      'k1 in the loss holds nothing back, as the mean of its gradient is zero; give k2 or k3',
    )
  if (method === 'ppo') return
  if (samples < 2)
    refuse(
      'samples_per_prompt',
      `${method} holds the answers to a prompt against each other; give 2 or more, not ${samples}`,
    )
  if (method === 'rloo') return
  const unused: Partial<Record<keyof PpoOptions, boolean>> = {
    kl_in: options.kl_in === 'loss',
    target_kl: options.target_kl != null,
    entropy_coef: options.entropy_coef > 0,
    kl_target: method === 'rejection_sampling' && options.kl_target != null,
  }
  for (const [field, given] of Object.entries(unused))
    if (given) refuse(field, `${method} has no use for it`)
  if (method === 'dpo') return
  if (['batch', 'running'].includes(options.reward_normalization))
    refuse(
      'reward_normalization',
      'rejection_sampling compares rewards of different rounds; give reference or none',
    )
  if (options.safety_limit != null)
    refuse(
      'safety_limit',
      'rejection_sampling compares rewards of different rounds, which a moving λ forbids',
    )
}
