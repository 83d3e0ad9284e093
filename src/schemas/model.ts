import { z } from 'zod'
import { Message } from './chat.ts'
import { Axis } from './feedback.ts'
import { CompareBy } from './judging.ts'

const Interval = z.object({ value: z.number(), low: z.number(), high: z.number(), n: z.int() })
const GatePoint = z.object({
  threshold: z.number(),
  precision: Interval.nullable().describe('null where no answer is below the threshold'),
  recall: Interval,
})
/**
 * How far the probabilities can be believed: on pairs that trained nothing, each judged by a calibration that was
 * fitted on other conversations of them.
 */
export const CalibrationQuality = z.object({
  calibration_error: Interval.describe('root mean square, without the bias of small bins'),
  slope: Interval.describe('1 where neither too sure nor too unsure; below: too sure'),
  intercept: Interval,
  skill: Interval.describe('1 − NLL / NLL of a constant; 0: no better than the constant'),
  curve: z.array(z.object({ predicted: z.number(), observed: z.number(), n: z.int() })),
  gate: z
    .object({
      prevalence: Interval.describe('share of unsafe answers; precision depends on it'),
      default: GatePoint,
      wanted_precision: z.number(),
      chosen: GatePoint.nullable().describe('null where no threshold reaches the precision'),
    })
    .optional()
    .describe(
      'of a safety model: what a gate below a threshold catches (Llama 2: 0.15, 0.89, 0.55)',
    ),
})
export type CalibrationQuality = z.infer<typeof CalibrationQuality>

/**
 * How a raw logit becomes a probability (science: Bradley–Terry fixes differences only).
 * safety: σ(a·r + b), Platt-scaled on absolute safe/unsafe labels.
 * helpfulness: mean_i σ((r − anchors_i)/temperature), the expected win rate against frozen reference answers.
 */
export const Calibration = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('platt'),
    version: z.string(),
    a: z.number(),
    b: z.number(),
    n: z.int().max(1e9),
    quality: CalibrationQuality.optional(),
  }),
  z.object({
    kind: z.literal('win_rate'),
    version: z.string(),
    temperature: z.number().positive(),
    anchors: z.array(z.number()).min(1),
    references: z
      .array(z.array(Message))
      .optional()
      .describe(
        'the answers that the anchors are scores of; the next version is held against the same',
      ),
    n: z.int().max(1e9),
    quality: CalibrationQuality.optional(),
  }),
])
export type Calibration = z.infer<typeof Calibration>

export const COMBINERS = [
  ...(['gate', 'gate_monotone', 'lagrangian', 'weighted'] as const),
  ...(['helpfulness', 'safety', 'mean'] as const),
] as const
/** How one reward is made of two: see evaluation/combine.ts. */
export const Combiner = z.enum(COMBINERS)
export type Combiner = z.infer<typeof Combiner>

/** Lies as `libra.json` beside an adapter's or a base's weights. */
export const ModelCard = z.object({
  format: z.literal(1),
  kind: z.enum(['base', 'adapter']),
  role: z.string().optional().describe('what it was trained for: sft, policy, reward_model, judge'),
  axis: Axis.optional(),
  compares_by: CompareBy.optional().describe('of a judge: how it has learned to compare'),
  calibration: Calibration.optional(),
  max_length: z
    .int()
    .min(1)
    .optional()
    .describe(
      'tokens of a dialogue that a reward model reads, counted from its end; else its context',
    ),
  layers: z
    .int()
    .min(1)
    .optional()
    .describe('of the trunk, from below, that a reward model reads; else all'),
  run: z.string().optional(),
})
export type ModelCard = z.infer<typeof ModelCard>

export const MODEL_KINDS = ['base', 'policy', 'reward_model', 'judge'] as const
/** Who plays what in the service; `reference` is the SFT model that KL is measured against. */
export const ROLE_NAMES = ['policy', 'reference', 'helpfulness', 'safety', 'judge'] as const
export type RoleName = (typeof ROLE_NAMES)[number]

/**
 * Where a sequence lies in a pass, which decides how its numbers round: of `count` rows in `segments` segments its last
 * tokens lie from row `at` on, as segment `end`; the first `prefix` tokens (they may be shared) from row `prefixAt` on,
 * as segment `trunk`.
 */
export type Placed = Record<
  'count' | 'segments' | 'at' | 'end' | 'prefix' | 'prefixAt' | 'trunk',
  number
>
/** The same of a score: the pass was for `models` models, of which `model` (from 0) gave this one. */
export type PlacedScore = Placed & { model: number; models: number }

/** What runs a model beside its files, TensorFlow and the device: a score may be another where one of these is. */
export type Build = {
  /** SHA-256 of the sources that decide a score */
  code: string
  /** of the native binding with the kernels of our own */
  kernels: string
  /** model of the processor, whose instructions the kernels are chosen by */
  processor: string
}
