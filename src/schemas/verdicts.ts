import { z } from 'zod'
import { AuditFigure } from './audit.ts'
import { PromptInput, SafeText } from './chat.ts'
import { Axis } from './feedback.ts'
import { list } from './http.ts'
import { asking, Criterion, JudgeSettings, JudgeUsage } from './judging.ts'

export const Comparison = z.strictObject({
  axis: Axis.default('helpfulness'),
  prompt: PromptInput,
  a: SafeText,
  b: SafeText,
})
export const ScoredAnswer = z.strictObject({
  axis: Axis.default('helpfulness'),
  prompt: PromptInput,
  answer: SafeText,
})
export const JudgeRequest = z.strictObject({
  comparisons: z.array(Comparison).min(1).max(256).optional(),
  answers: z
    .array(ScoredAnswer)
    .min(1)
    .max(256)
    .optional()
    .describe('instead of comparisons: single answers, scored from 1 to 10'),
  rubric: z
    .array(Criterion)
    .min(1)
    .max(20)
    .optional()
    .describe('what answers are scored by, each by itself; default: the axis as a whole'),
  absolute: z
    .boolean()
    .default(false)
    .describe(
      'also whether each answer of a comparison is safe by itself, as labels for the auxiliary loss; of single answers that instead of a score',
    ),
  judge: z
    .string()
    .default('default')
    .describe('profile; several joined by + are a panel, whose mean is the label'),
  seed: z.int().min(0).default(0).describe('of orders and principles that are drawn'),
  ...asking,
})

/** Whether an answer is safe by itself, or why nobody knows. */
const Safety = z.union([
  z.object({ ok: z.literal(true), safe: z.boolean(), probability: z.number() }),
  z.object({ ok: z.literal(false), failure: z.string(), message: z.string() }),
])
export const JudgeReply = z.object({
  object: z.literal('list'),
  judge: z.string(),
  prompt_version: z.string(),
  data: z.array(
    z.union([
      z.object({
        index: z.int(),
        ok: z.literal(true),
        probability: z.number().describe('P(a is better), over the orders that were asked'),
        orders: z
          .array(z.number().nullable())
          .length(2)
          .describe('P(a is better), a shown first and second; null: not asked'),
        consistent: z.boolean().nullable().describe('null: one order was asked'),
        strength: z.string(),
        soft: z.boolean().describe('from log-probabilities; else from plain words'),
        cached: z.boolean().describe('known from before: it cost nothing'),
        scores: z
          .array(z.number())
          .length(2)
          .optional()
          .describe('of a and b, from 1 to 10, where each was scored by itself'),
        rationales: z
          .array(z.string().nullable())
          .length(2)
          .optional()
          .describe('what the judge wrote before each order’s verdict'),
        principle: z.string().optional().describe('id of the one that was drawn'),
        safe: z
          .object({ a: Safety, b: Safety })
          .optional()
          .describe('where `absolute` was asked for'),
        disagreement: z
          .number()
          .optional()
          .describe('of a panel: standard deviation of its judges’ P(a is better)'),
        panel: z
          .array(
            z.object({
              judge: z.string(),
              probability: z.number().nullable(),
              failure: z.string().nullable(),
            }),
          )
          .optional(),
      }),
      z.object({
        index: z.int(),
        ok: z.literal(true),
        score: z
          .number()
          .describe('Σ i·P(i) over 1 to 10; by a rubric the weighted mean of its criteria'),
        criteria: z.array(
          z.object({
            name: z.string(),
            weight: z.number(),
            score: z.number(),
            probabilities: z.array(z.number()).length(10).describe('P(1) … P(10)'),
            rationale: z.string().optional().describe('what the judge wrote before'),
          }),
        ),
        soft: z.boolean(),
        cached: z.boolean(),
        disagreement: z.number().optional().describe('of a panel: standard deviation'),
      }),
      z.object({
        index: z.int(),
        ok: z.literal(true),
        safe: z.boolean(),
        probability: z.number().describe('of being safe'),
      }),
      z.object({
        index: z.int(),
        ok: z.literal(false),
        failure: z.string(),
        message: z.string(),
      }),
    ]),
  ),
  usage: JudgeUsage,
})
export const JudgeProfile = z.strictObject({
  id: z.string().regex(/^[\w.-]{1,60}$/),
  kind: z.enum(['local', 'openai']),
  model: z.string().min(1).describe('a model of the catalogue, or the name at the server'),
  base_url: z.url().optional().describe('of a judge on a server: http or https'),
  api_key_env: z
    .string()
    .regex(/^[A-Z][A-Z0-9_]*$/)
    .optional()
    .describe(
      'name of the environment variable that holds the key; the key itself is never stored',
    ),
  settings: JudgeSettings.prefault({}).describe('how it is asked'),
})
export const JudgeProfileReply = z.object({
  id: z.string(),
  object: z.literal('judge'),
  kind: z.enum(['local', 'openai']),
  model: z.string(),
  base_url: z.string().nullable(),
  api_key_env: z.string().nullable(),
  settings: JudgeSettings,
})
export const JudgeProfileList = list(JudgeProfileReply)

export const AuditReply = z.object({
  id: z.string(),
  object: z.literal('audit'),
  judge: z.string(),
  version: z.string().describe('what answered: a hash of weights, or a model at an address'),
  prompt_version: z.string(),
  axis: Axis,
  data_hash: z.string(),
  run: z.string().nullable(),
  figures: z.array(AuditFigure),
  objections: z.array(z.string()).describe('why the judge may not label; empty: it may'),
  created_at: z.int(),
})
export const AuditList = list(AuditReply)
