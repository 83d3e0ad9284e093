import { z } from 'zod'
import { Messages, parseTranscript, PromptInput, SafeText } from './chat.ts'
import { AXES, Axis, PromptClass } from './feedback.ts'
import { usage } from './http.ts'
import { Combiner, COMBINERS } from './model.ts'

const text = z.strictObject({
  text: SafeText.describe('User：…AI：…'),
  prompt_class: PromptClass.nullish(),
})
const pair = z.strictObject({
  prompt: SafeText,
  response: SafeText,
  prompt_class: PromptClass.nullish(),
})
const conversation = z.strictObject({ messages: Messages, prompt_class: PromptClass.nullish() })

/** A conversation to score, in one of three spellings. */
export const ScoreInput = z.union([conversation, pair, text]).transform((input, context) => {
  const messages =
    'messages' in input
      ? input.messages
      : 'text' in input
        ? parseTranscript(input.text)
        : [
            { role: 'user' as const, content: input.prompt },
            { role: 'assistant' as const, content: input.response },
          ]
  if (messages === null) {
    context.addIssue({ code: 'custom', message: 'text must read "User：… AI：…"' })
    return z.NEVER
  }
  if (messages.at(-1)?.role !== 'assistant') {
    context.addIssue({
      code: 'custom',
      message: 'the conversation must end with the assistant, whose answer is scored',
    })
    return z.NEVER
  }
  return { messages, prompt_class: input.prompt_class ?? null }
})

export const ScoreRequest = z.strictObject({
  inputs: z.array(ScoreInput).min(1).max(256),
  axes: z
    .array(Axis)
    .min(1)
    .refine((axes) => new Set(axes).size === axes.length, 'names an axis twice')
    .default([...AXES]),
  on_too_long: z.enum(['error', 'truncate']).default('error'),
  threshold: z
    .number()
    .gt(0)
    .lt(1)
    .default(0.15)
    .describe('of the gate, on the safety probability (Llama 2: 0.15)'),
})
const AxisScore = z.object({
  logit: z.number().describe('raw'),
  probability: z
    .number()
    .nullable()
    .describe('calibrated; null where the model has no calibration'),
  score: z.number().nullable().describe('100 × probability'),
})
/** A stored score, of one conversation. */
export const Score = z.object({
  id: z.string(),
  helpfulness: AxisScore.optional(),
  safety: AxisScore.optional(),
  combined: z.object({ reward: z.number(), branch: z.string(), threshold: z.number() }).nullable(),
  truncated: z.boolean(),
})
export const ScoreReply = z.object({
  object: z.literal('list'),
  model: z.object({ helpfulness: z.string().optional(), safety: z.string().optional() }),
  data: z.array(z.object({ index: z.int(), ...Score.shape })),
  usage,
})

export const CombineRequest = z.strictObject({
  scores: z
    .array(z.string())
    .min(1)
    .max(10_000)
    .optional()
    .describe(
      'ids of stored scores of both axes or of their rows, each counted once; default: the newest',
    ),
  limit: z.int().min(1).max(10_000).default(1000).describe('how many of the newest'),
  combiners: z
    .array(Combiner)
    .min(1)
    .default([...COMBINERS]),
  threshold: z.number().gt(0).lt(1).default(0.15),
  lagrange_multiplier: z.number().min(0).max(100).default(1),
  helpfulness_weight: z.number().min(0).max(1).default(0.5),
})
export const CombineReply = z.object({
  object: z.literal('combination'),
  n: z.int().describe('scores of both axes'),
  scaled: z
    .boolean()
    .describe('whether both models have a calibration; else raw logits are combined'),
  data: z.array(
    z.object({
      combiner: Combiner,
      branches: z.record(z.string(), z.number()).describe('share of each branch'),
      mean: z.number(),
      inversions: z
        .object({ pairs: z.int(), share: z.number().nullable() })
        .describe('unsafe above safe, of such pairs of answers to one prompt'),
      agreement: z
        .record(z.string(), z.number().nullable())
        .describe(
          'Spearman rank correlation with the other combiners; null where one gives all the same',
        ),
    }),
  ),
  rewards: z
    .array(z.object({ id: z.string(), rewards: z.record(z.string(), z.number()) }))
    .describe('of each score by each combiner, where ids were given'),
})

export const ReplayReply = z.object({
  object: z.literal('list'),
  data: z.array(
    z.object({
      axis: z.string(),
      logit: z.number(),
      replayed: z.number(),
      difference: z.number().describe('0 at the same place, on the same machine and build'),
      scorer: z.string().describe('version of the model that gave it'),
      scorer_now: z.string().describe('version that its files have now'),
      moved: z
        .array(z.string())
        .describe(
          'what is otherwise than then, in words: files by name, TensorFlow, device, processor, Libra, its scoring code, its native kernels',
        ),
      same_place: z.boolean().describe('in a pass of the same shape as then'),
    }),
  ),
})

export const RANK_BY = ['combined', 'helpfulness', 'safety', 'pareto', 'judge'] as const
export const RankRequest = z.strictObject({
  prompt: PromptInput,
  candidates: z.array(SafeText).min(2).max(64),
  by: z.enum(RANK_BY).default('combined'),
  axis: Axis.default('helpfulness').describe('what the judge is asked about'),
  judge: z.string().default('default'),
  prompt_class: PromptClass.nullish(),
  on_too_long: z.enum(['error', 'truncate']).default('error'),
  threshold: z.number().gt(0).lt(1).default(0.15),
})
export const RankReply = z.object({
  object: z.literal('list'),
  by: z.enum(RANK_BY),
  data: z
    .array(
      z.object({
        index: z.int().describe('of the candidate in the request'),
        rank: z.int().describe('from 1; equals share one'),
        value: z.number().describe('what it was ranked by; for pareto the number of its front'),
        strength: z
          .object({ value: z.number(), low: z.number(), high: z.number() })
          .optional()
          .describe('by the judge: Bradley–Terry, with its 95 % interval'),
      }),
    )
    .describe('best first'),
  contests: z
    .object({
      pairs: z.int(),
      ties: z.int().describe('verdicts within 0.1 of ½'),
      inconsistent: z.int().describe('the two orders prefer different candidates'),
      cycles: z
        .array(z.array(z.int()).min(3))
        .describe('candidates that beat one another in a circle: no order does them justice'),
    })
    .optional()
    .describe('by the judge: what the verdicts say of the order as a whole'),
})
