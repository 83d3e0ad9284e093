import { z } from 'zod'
import { SafeText } from './chat.ts'
import { CheckReply } from './checks.ts'
import { Axis } from './feedback.ts'
import { MODEL_KINDS, ROLE_NAMES } from './model.ts'
import { RUN_KINDS, RUN_STATES } from './run.ts'
import { Dtype } from './training-options.ts'

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
  part: z.string().nullable().describe('its name among the parts of its parent'),
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
