import { z } from 'zod'
import { Axis } from './feedback.ts'

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
  }),
  z.object({
    kind: z.literal('win_rate'),
    version: z.string(),
    temperature: z.number().positive(),
    anchors: z.array(z.number()).min(1),
    n: z.int().max(1e9),
  }),
])
export type Calibration = z.infer<typeof Calibration>

/** Lies as `libra.json` beside an adapter's or a base's weights. */
export const ModelCard = z.object({
  format: z.literal(1),
  kind: z.enum(['base', 'adapter']),
  role: z.string().optional().describe('what it was trained for: sft, policy, reward_model, judge'),
  axis: Axis.optional(),
  calibration: Calibration.optional(),
  max_length: z
    .int()
    .min(1)
    .optional()
    .describe(
      'tokens of a dialogue that a reward model reads, counted from its end; else its context',
    ),
  run: z.string().optional(),
})
export type ModelCard = z.infer<typeof ModelCard>

export const MODEL_KINDS = ['base', 'policy', 'reward_model', 'judge'] as const
/** Who plays what in the service; `reference` is the SFT model that KL is measured against. */
export const ROLE_NAMES = ['policy', 'reference', 'helpfulness', 'safety', 'judge'] as const
export type RoleName = (typeof ROLE_NAMES)[number]
