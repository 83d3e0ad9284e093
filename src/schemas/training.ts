import { z } from 'zod'
import { LibraError } from '../errors.ts'
import { Axis } from './feedback.ts'
import { Calibration, Combiner } from './model.ts'

const count = (max: number) => z.int().min(1).max(max)

/** The optimiser. Defaults: AdamW as Llama 2 (β .9/.95, ε 1e-5, decay 0.1, clip 1.0). */
export const OptimizerOptions = z.strictObject({
  learning_rate: z.number().positive().max(1),
  schedule: z
    .enum(['constant', 'cosine', 'linear'])
    .default('cosine')
    .describe('cosine ends at 10 %'),
  warmup_fraction: z.number().min(0).max(1).default(0.03).describe('of all steps (Llama 2: 3 %)'),
  beta1: z.number().min(0).lt(1).default(0.9),
  beta2: z.number().min(0).lt(1).default(0.95),
  epsilon: z.number().positive().default(1e-5),
  weight_decay: z.number().min(0).max(10).default(0.1),
  max_grad_norm: z.number().positive().default(1),
})
export type OptimizerOptions = z.infer<typeof OptimizerOptions>

export const PROJECTIONS = [
  'q_proj',
  'k_proj',
  'v_proj',
  'o_proj',
  'gate_proj',
  'up_proj',
  'down_proj',
] as const

export const LoraOptions = z.strictObject({
  rank: count(1024).default(16).describe('r'),
  alpha: z.number().positive().default(32).describe('α; the update is scaled by α/r'),
  target_modules: z
    .array(z.enum(PROJECTIONS))
    .min(1)
    .default([...PROJECTIONS]),
  rank_pattern: z
    .partialRecord(z.enum(PROJECTIONS), count(1024))
    .default({})
    .describe('r of single projections'),
  alpha_pattern: z
    .partialRecord(z.enum(PROJECTIONS), z.number().positive())
    .default({})
    .describe('α of single projections'),
  use_rslora: z.boolean().default(false).describe('scale by α/√r instead (Kalajdzievski 2023)'),
})
export type LoraOptions = z.infer<typeof LoraOptions>

/** A Llama from nothing. */
export const Architecture = z.strictObject({
  hidden_size: count(16384),
  layers: count(256),
  heads: count(256),
  kv_heads: count(256),
  intermediate_size: count(65536),
  context: count(131072),
  rope_theta: z.number().positive().default(10000),
})
export type Architecture = z.infer<typeof Architecture>

const loop = {
  seed: z
    .int()
    .min(0)
    .max(2 ** 31 - 1)
    .default(0),
  epochs: z.number().positive().max(1000).default(1),
  batch_size: count(65536).describe('rows per optimiser step'),
  micro_batch_tokens: count(1e7).default(8192).describe('gradient accumulation: tokens per pass'),
}
/** Of runs of many steps. */
const resumable = {
  checkpoint_every: count(1e6)
    .default(50)
    .describe('steps between two checkpoints, from the last of which an interrupted run goes on'),
}
/** Of runs that learn from whole sequences. */
const checkpointing = {
  gradient_checkpointing: z
    .boolean()
    .default(false)
    .describe('computes each block again for its gradient: less memory, a third more time'),
}

export const Dtype = z
  .enum(['F32', 'BF16', 'F16'])
  .default('F32')
  .describe('of the weights on disk')

export const PretrainOptions = z.strictObject({
  ...loop,
  ...checkpointing,
  dtype: Dtype,
  architecture: Architecture,
  batch_size: count(65536).default(64),
  sequence_length: count(131072).default(128),
  optimizer: OptimizerOptions.prefault({ learning_rate: 3e-3 }),
})
export type PretrainOptions = z.infer<typeof PretrainOptions>

export const SftOptions = z.strictObject({
  ...loop,
  ...checkpointing,
  ...resumable,
  dtype: Dtype,
  epochs: loop.epochs.default(2),
  batch_size: count(65536).default(64),
  lora: LoraOptions.nullable().prefault({}).describe('null trains all weights'),
  optimizer: OptimizerOptions.prefault({ learning_rate: 1e-3 }),
})
export type SftOptions = z.infer<typeof SftOptions>

export const RewardModelOptions = z.strictObject({
  ...loop,
  ...checkpointing,
  ...resumable,
  axis: Axis,
  batch_size: count(65536).default(64).describe('pairs'),
  margin: z.enum(['none', 'small', 'large']).default('small').describe('Llama 2, table 27: m(r)'),
  margin_on_soft_labels: z
    .boolean()
    .default(false)
    .describe(
      'the margin on pairs with a soft label too: −p·log σ(Δ−m) − (1−p)·log σ(−Δ−m); off, as strength and probability of one judge are one opinion, which would count twice',
    ),
  auxiliary_weight: z
    .number()
    .min(0)
    .max(100)
    .default(1)
    .describe(
      'weight of binary cross-entropy on absolute safe/unsafe labels; only rows that carry them take part',
    ),
  centering: z
    .number()
    .min(0)
    .max(100)
    .default(0)
    .describe(
      'weight of (r_chosen + r_rejected)², which keeps rewards around 0 (Eisenstein et al. 2023; TRL suggests 0.01); not together with the auxiliary loss, which has a zero of its own',
    ),
  max_length: count(131072)
    .nullish()
    .describe('tokens of a dialogue that are read, counted from its end; default: the context'),
  lora: LoraOptions.nullable().prefault({}),
  optimizer: OptimizerOptions.prefault({ learning_rate: 1e-3 }),
})
export type RewardModelOptions = z.infer<typeof RewardModelOptions>

/** What options of a reward model can't stand together. Throws `conflicting_options`. */
export function checkRewardOptions(
  options: Pick<RewardModelOptions, 'axis' | 'centering' | 'auxiliary_weight'>,
): void {
  if (options.axis === 'safety' && options.centering > 0 && options.auxiliary_weight > 0)
    throw new LibraError(
      'conflicting_options',
      'centering: not together with the auxiliary loss of the safety model, which says where 0 is; set auxiliary_weight or centering to 0',
      { details: { field: 'centering' } },
    )
}

export const DpoOptions = z.strictObject({
  ...loop,
  ...checkpointing,
  ...resumable,
  axis: Axis.nullish().describe('pairs of this axis alone; default: all of the file'),
  batch_size: count(65536).default(64).describe('pairs (Rafailov et al. 2023: 64)'),
  beta: z.number().positive().default(0.1).describe('β (Rafailov et al. 2023: 0.1)'),
  label_smoothing: z
    .number()
    .min(0)
    .lt(0.5)
    .default(0)
    .describe('ε: the share of labels taken to be turned round (conservative DPO, Mitchell 2023)'),
  soft_labels: z
    .boolean()
    .default(true)
    .describe('learn a judge’s probability where a pair has one, else that chosen is better'),
  length_normalization: z
    .boolean()
    .default(false)
    .describe('log-probabilities per token instead of per answer, against long answers'),
  lora: LoraOptions.nullable().prefault({}),
  optimizer: OptimizerOptions.prefault({ learning_rate: 1e-3, weight_decay: 0 }),
})
export type DpoOptions = z.infer<typeof DpoOptions>

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
  epochs: count(100).default(1),
  mini_batch_size: count(65536).default(64),
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
    .describe('where −β·KL stands: in each token’s reward (Llama 2, TRL) or in the loss (GRPO)'),
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
  clip_range: z.number().positive().default(0.2).describe('ε'),
  value_clip_range: z.number().positive().default(0.2),
  vf_coef: z.number().min(0).default(0.1),
  gamma: z.number().min(0).max(1).default(1),
  lambda: z.number().min(0).max(1).default(0.95),
  whiten_advantages: z.boolean().default(true),
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
  critic_warmup_rounds: z.int().min(0).max(10000).default(1),
  lora: LoraOptions.nullable().prefault({}),
  optimizer: OptimizerOptions.prefault({
    learning_rate: 1e-3,
    schedule: 'linear',
    warmup_fraction: 0,
    weight_decay: 0,
  }),
})
export type PpoOptions = z.infer<typeof PpoOptions>

/** What the training engine gets. Paths are absolute; data files are JSON Lines of the rows in feedback.ts. */
const files = z.object({ base: z.string(), adapters: z.array(z.string()) })
/** How a run that ends before its time can go on. */
const CheckpointPlan = z.object({
  folder: z.string(),
  every: count(1e6).describe('steps or rounds'),
  recorded: z.int().min(0).describe('the last step that the run’s log holds'),
})
export type CheckpointPlan = z.infer<typeof CheckpointPlan>
const common = {
  output: z.string().describe('folder to write the checkpoint to; must not exist'),
  checkpoints: CheckpointPlan.nullish().describe('null: an interrupted run begins anew'),
}

export const TrainSpec = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('pretrain'),
    ...common,
    tokenizer: z.string().describe('folder'),
    data: z.string(),
    options: PretrainOptions,
  }),
  z.object({
    kind: z.literal('sft'),
    role: z.string().optional().describe('what the adapter is for: sft, judge, …'),
    ...common,
    model: files,
    data: z.string(),
    options: SftOptions,
  }),
  z.object({
    kind: z.literal('reward_model'),
    ...common,
    model: files,
    data: z.string(),
    options: RewardModelOptions,
  }),
  z.object({
    kind: z.literal('dpo'),
    ...common,
    model: files.describe('where the policy starts, and its reference'),
    data: z.string().describe('preference pairs'),
    options: DpoOptions,
  }),
  z.object({
    kind: z.literal('policy_update'),
    ...common,
    reference: files.describe('the SFT model'),
    parent: z
      .string()
      .nullable()
      .describe('checkpoint of the policy to continue from; null starts at the reference'),
    helpfulness: z.object({ files, calibration: Calibration.nullable() }),
    safety: z.object({ files, calibration: Calibration.nullable() }),
    data: z.string().describe('prompts'),
    options: PpoOptions,
  }),
])
export type TrainSpec = z.infer<typeof TrainSpec>

/** One answer of a round: its prompt by place in the file, the raw logits, the combined reward. */
export type RolloutRow = {
  prompt: number
  response: string
  ended: boolean
  helpfulness: number
  safety: number
  reward: number
}

export type TrainEvent =
  | { type: 'started'; steps: number; tokens: number | null }
  /** instead of `started`: goes on behind the checkpoint of `step`, with `done` of the run's `steps` done */
  | { type: 'resumed'; step: number; done: number; steps: number }
  | { type: 'metrics'; step: number; metrics: Record<string, number> }
  | {
      type: 'rollouts'
      step: number
      rows: RolloutRow[]
    }
  | { type: 'warning'; message: string }
  | { type: 'done'; output: string; summary: Record<string, number> }
