import { z } from 'zod'
import { Messages, parseTranscript, PromptInput, SafeText } from './chat.ts'
import { AuditFigure } from './audit.ts'
import { CheckReply } from './checks.ts'
import { AXES, Axis, PromptClass } from './feedback.ts'
import { asking, Criterion, JudgeSettings, JudgeUsage } from './judging.ts'
import { Combiner, COMBINERS, MODEL_KINDS, ROLE_NAMES } from './model.ts'
import { RUN_KINDS, RUN_STATES } from './run.ts'
import { Dtype } from './training.ts'

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
  judge: z
    .string()
    .default('default')
    .describe('profile; several joined by + are a panel, whose mean is the label'),
  seed: z.int().min(0).default(0).describe('of orders and principles that are drawn'),
  ...asking,
})

// --- what comes back ---------------------------------------------------------------------------

export const list = <T extends z.ZodType>(item: T) =>
  z.object({
    object: z.literal('list'),
    data: z.array(item),
    first_id: z.string().nullish(),
    last_id: z.string().nullish(),
    has_more: z.boolean().optional(),
  })
export const usage = z.object({
  prompt_tokens: z.int(),
  completion_tokens: z.int().optional(),
  total_tokens: z.int(),
})
const AxisScore = z.object({
  logit: z.number().describe('raw'),
  probability: z
    .number()
    .nullable()
    .describe('calibrated; null where the model has no calibration'),
  score: z.number().nullable().describe('100 × probability'),
})
export const ScoreReply = z.object({
  object: z.literal('list'),
  model: z.object({ helpfulness: z.string().optional(), safety: z.string().optional() }),
  data: z.array(
    z.object({
      index: z.int(),
      id: z.string(),
      helpfulness: AxisScore.optional(),
      safety: AxisScore.optional(),
      combined: z
        .object({ reward: z.number(), branch: z.string(), threshold: z.number() })
        .nullable(),
      truncated: z.boolean(),
    }),
  ),
  usage,
})

export const CombineRequest = z.strictObject({
  scores: z
    .array(z.string())
    .min(1)
    .max(10_000)
    .optional()
    .describe('ids of stored scores of both axes; default: the newest'),
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
        .array(z.array(z.int()).length(3))
        .describe('candidates that beat one another in a circle: no order does them justice'),
    })
    .optional()
    .describe('by the judge: what the verdicts say of the order as a whole'),
})

export const Page = z.strictObject({
  limit: z.coerce.number().int().min(1).max(1000).default(20),
  after: z.string().optional().describe('id of the last item of the page before'),
})
export const RunReply = z.object({
  id: z.string(),
  object: z.literal('run'),
  kind: z.enum(RUN_KINDS),
  state: z.enum(RUN_STATES),
  parent: z.string().nullable(),
  config: z.record(z.string(), z.unknown()),
  seed: z.int(),
  data_hash: z.string().nullable(),
  parent_checkpoint: z.string().nullable(),
  output: z.string().nullable(),
  device: z.string().nullable(),
  code_version: z.string(),
  created_at: z.int().describe('milliseconds since 1970'),
  started_at: z.int().nullable(),
  ended_at: z.int().nullable(),
  error: z.object({ code: z.string(), message: z.string() }).nullable(),
  summary: z.record(z.string(), z.unknown()).nullable(),
  tags: z.array(z.string()),
  notes: z.string(),
})
export const RunList = list(RunReply)
const tag = z
  .string()
  .regex(/^[^\s,]{1,60}$/u)
  .describe('a word without spaces or commas')
export const RunQuery = Page.extend({
  kind: z.enum(RUN_KINDS).optional(),
  state: z.enum(RUN_STATES).optional(),
  parent: z.string().optional().describe('runs that are part of this one'),
  tag: tag.optional(),
  search: z
    .string()
    .max(200)
    .optional()
    .describe('words of the id, tags, notes or configuration, in any order'),
})
export const RunChange = z.strictObject({
  tags: z
    .array(tag)
    .max(50)
    .transform((tags) => [...new Set(tags)])
    .optional(),
  notes: SafeText.max(20_000).optional(),
})
export const METRIC_FORMATS = ['jsonl', 'csv', 'tensorboard'] as const
export const MetricsQuery = z.strictObject({ format: z.enum(METRIC_FORMATS).default('jsonl') })
export const CompareQuery = z.strictObject({
  runs: z
    .string()
    .transform((text) => text.split(',').filter((id) => id !== ''))
    .pipe(z.array(z.string()).min(2).max(8))
    .describe('ids with commas between them'),
})
export const RunComparison = z.object({
  object: z.literal('run_comparison'),
  runs: z.array(RunReply),
  configuration: z
    .array(z.object({ field: z.string(), values: z.array(z.unknown()) }))
    .describe('fields that are not the same in all runs; values in the order of the runs'),
  metrics: z
    .array(z.object({ metric: z.string(), values: z.array(z.number().nullable()) }))
    .describe('the last value of each'),
})

export const ModelReply = z.object({
  id: z.string(),
  object: z.literal('model'),
  created: z.int().describe('seconds since 1970'),
  owned_by: z.string(),
  kind: z.enum(MODEL_KINDS),
  axis: Axis.nullable(),
  run: z.string().nullable(),
})
export const ModelList = list(ModelReply)
export const ExportModel = z.strictObject({
  name: z
    .string()
    .regex(/^\w[\w.:-]{0,99}$/)
    .optional()
    .describe('folder under <data>/exports; default: the id of the model'),
  dtype: Dtype,
  max_shard_bytes: z
    .int()
    .min(1e6)
    .max(1e12)
    .default(5e9)
    .describe('weights above this are written in shards with an index'),
})
export const ExportReply = z.object({
  object: z.literal('model.export'),
  model: z.string(),
  path: z.string().describe('on the machine of the service'),
  architecture: z.string().describe('the class of transformers that loads it'),
  parameters: z.int(),
  bytes: z.int(),
})
export const ImportModel = z.strictObject({
  id: z.string().regex(/^[\w.:-]{1,100}$/),
  path: z.string().min(1).describe('folder inside LIBRA_MODELS_DIR'),
  kind: z.enum(MODEL_KINDS),
  on: z.string().optional().describe('an adapter: the model that it goes on'),
  axis: Axis.optional(),
})
export const RolesReply = z.object(
  Object.fromEntries(ROLE_NAMES.map((role) => [role, z.string()])) as Record<
    (typeof ROLE_NAMES)[number],
    z.ZodString
  >,
)
export const RolesRequest = z.strictObject(
  Object.fromEntries(ROLE_NAMES.map((role) => [role, z.string().optional()])) as Record<
    (typeof ROLE_NAMES)[number],
    z.ZodOptional<z.ZodString>
  >,
)

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
        rationales: z
          .array(z.string().nullable())
          .length(2)
          .optional()
          .describe('what the judge wrote before each order’s verdict'),
        principle: z.string().optional().describe('id of the one that was drawn'),
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
          }),
        ),
        soft: z.boolean(),
        cached: z.boolean(),
        disagreement: z.number().optional().describe('of a panel: standard deviation'),
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
  base_url: z.url().optional(),
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

export const CheckList = list(CheckReply)

/** RFC 9457, with OpenAI's `error` object in the same body. */
export const Problem = z.object({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  detail: z.string(),
  code: z.string().describe('stable, for programs'),
  error: z.object({
    message: z.string(),
    type: z.string(),
    code: z.string(),
    param: z.string().nullable(),
  }),
})
