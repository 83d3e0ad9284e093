import { z } from 'zod'
import { LibraError } from '../errors.ts'
import { Axis } from './feedback.ts'

export const count = (max: number) => z.int().min(1).max(max)

/** Wanted shares of pairs by their source; they need not sum to 1. */
export const mixOf = (share: z.ZodNumber) =>
  z
    .record(z.string().min(1).max(200), share.max(1e6))
    .refine((shares) => Object.values(shares).some((each) => each > 0), 'names no source')

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

export const loop = {
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
export const resumable = {
  checkpoint_every: count(1e6)
    .default(50)
    .describe('steps between two checkpoints, from the last of which an interrupted run goes on'),
}
/** Of runs that learn from whole sequences. */
export const checkpointing = {
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
  ...resumable,
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

export const ReadoutOptions = z.strictObject({
  layers: count(256)
    .nullish()
    .describe('of the trunk, from below, that are read; default: two thirds of them'),
})
export type ReadoutOptions = z.infer<typeof ReadoutOptions>

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
  readout: ReadoutOptions.nullable()
    .default(null)
    .describe(
      'in place of lora: the trunk stays as it is, and a head alone learns what its hidden states say (a linear probe); every text is read once, however many epochs',
    ),
  optimizer: OptimizerOptions.prefault({ learning_rate: 1e-3 }),
})
export type RewardModelOptions = z.infer<typeof RewardModelOptions>

/** What options of a reward model can't stand together. Throws `conflicting_options` naming the field, after `at`. */
export function checkRewardOptions(
  options: Pick<RewardModelOptions, 'axis' | 'centering' | 'auxiliary_weight' | 'readout' | 'lora'>,
  at = '',
): void {
  if (options.readout !== null && options.lora === null)
    throw new LibraError(
      'conflicting_options',
      `${at}readout: not together with lora: null, which trains all weights; a readout trains none of them`,
      { details: { field: `${at}readout` } },
    )
  if (options.axis === 'safety' && options.centering > 0 && options.auxiliary_weight > 0)
    throw new LibraError(
      'conflicting_options',
      `${at}centering: not together with the auxiliary loss of the safety model, which says where 0 is; set auxiliary_weight or centering to 0`,
      { details: { field: `${at}centering` } },
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
    .describe(
      'learn a judge’s probability where a pair has one, else that chosen is better; false leaves ties (½) out',
    ),
  length_normalization: z
    .boolean()
    .default(false)
    .describe('log-probabilities per token instead of per answer, against long answers'),
  lora: LoraOptions.nullable().prefault({}),
  optimizer: OptimizerOptions.prefault({ learning_rate: 1e-3, weight_decay: 0 }),
})
export type DpoOptions = z.infer<typeof DpoOptions>
