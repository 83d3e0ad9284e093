import { z } from 'zod'
import { LooseMessages } from './chat.ts'
import { Axis } from './feedback.ts'
import { list, usage } from './http.ts'
import { RUN_STATES } from './run.ts'
import { Score } from './scoring.ts'

/** OpenAI's shapes. Unknown keys are ignored here, as its clients expect. */

/** Answers that one request samples. */
const MOST_ANSWERS = 64

export const ChatRequest = z
  .object({
    model: z.string().default('policy'),
    messages: LooseMessages,
    max_completion_tokens: z.int().min(1).max(4096).nullish(),
    max_tokens: z.int().min(1).max(4096).default(64),
    temperature: z.number().min(0).max(2).default(1),
    top_p: z.number().gt(0).max(1).default(1),
    n: z.int().min(1).max(MOST_ANSWERS).default(1),
    best_of: z
      .int()
      .min(1)
      .max(MOST_ANSWERS)
      .nullish()
      .describe(
        'Libra’s: sample so many answers, score them by both reward models and return the n best, best first; not streamed, not at temperature 0',
      ),
    seed: z
      .int()
      .min(0)
      .max(2 ** 31 - 1)
      .default(0),
    stop: z.union([z.string(), z.array(z.string()).max(4)]).default([]),
    logprobs: z.boolean().default(false),
    stream: z.boolean().default(false),
    stream_options: z.object({ include_usage: z.boolean().default(false) }).nullish(),
  })
  .superRefine(({ best_of: bestOf, n, stream, temperature }, context) => {
    const refuse = (message: string): void =>
      context.addIssue({ code: 'custom', path: ['best_of'], message })
    if (bestOf === undefined || bestOf === null) return
    if (bestOf < n) refuse(`must be at least n = ${n}, got ${bestOf}`)
    if (bestOf > 1 && stream)
      refuse('can’t be streamed: which answers are best is known when all are whole')
    if (bestOf > 1 && temperature === 0)
      refuse('chooses nothing at temperature 0, where all answers are the same')
  })

export const ChatReply = z.object({
  id: z.string(),
  object: z.literal('chat.completion'),
  created: z.int(),
  model: z.string(),
  system_fingerprint: z.string().nullable(),
  choices: z.array(
    z.object({
      index: z.int(),
      message: z.object({
        role: z.literal('assistant'),
        content: z.string(),
        refusal: z.null(),
      }),
      finish_reason: z.enum(['stop', 'length']),
      score: Score.optional().describe('Libra’s, with `best_of`: as `/v1/score` gives it'),
      logprobs: z
        .object({
          content: z.array(
            z.object({
              token: z.string(),
              logprob: z.number(),
              bytes: z.array(z.int()),
              top_logprobs: z.array(z.unknown()),
            }),
          ),
          refusal: z.null(),
        })
        .nullable(),
    }),
  ),
  best_of: z
    .object({
      sampled: z.int(),
      distinct: z.int().describe('different texts among those that were sampled'),
      kl_bound: z
        .number()
        .describe(
          'nats, of the n returned answers as a set to n plain samples at the same temperature and top_p; for n = 1 ln N − (N − 1)/N. An upper bound: duplicates and ties make it less',
        ),
    })
    .optional()
    .describe('Libra’s, with `best_of`'),
  usage: usage.describe('with `best_of` of all answers that were sampled'),
})

export const FileReply = z.object({
  id: z.string(),
  object: z.literal('file'),
  bytes: z.int(),
  created_at: z.int().describe('seconds since 1970'),
  filename: z.string(),
  purpose: z.string(),
  status: z.literal('processed'),
})
export const FileList = list(FileReply)

const auto = z.union([z.literal('auto'), z.number().positive()]).optional()
const Hyperparameters = z.object({
  n_epochs: auto,
  batch_size: auto,
  learning_rate_multiplier: auto,
})
export const JOB_METHODS = ['supervised', 'reward_model', 'dpo', 'reinforcement'] as const
/** OpenAI's body; unknown keys are ignored, as its clients expect. `reward_model` is Libra's own method. */
export const JobRequest = z.object({
  model: z.string().min(1),
  training_file: z.string().min(1),
  seed: z.int().min(0).nullish(),
  suffix: z.string().nullish(),
  hyperparameters: Hyperparameters.nullish(),
  method: z
    .object({
      type: z.enum(JOB_METHODS),
      supervised: z.object({ hyperparameters: Hyperparameters.nullish() }).nullish(),
      dpo: z
        .object({ hyperparameters: Hyperparameters.extend({ beta: auto }).nullish() })
        .nullish(),
      reward_model: z.object({ axis: Axis, hyperparameters: Hyperparameters.nullish() }).nullish(),
    })
    .default({ type: 'supervised' }),
})
export const JobReply = z.object({
  id: z.string(),
  object: z.literal('fine_tuning.job'),
  created_at: z.int(),
  finished_at: z.int().nullable(),
  model: z.string(),
  fine_tuned_model: z.string().nullable(),
  status: z.enum(['validating_files', ...RUN_STATES]),
  training_file: z.string(),
  seed: z.int(),
  trained_tokens: z.int().nullable(),
  error: z.object({ code: z.string(), message: z.string() }).nullable(),
  method: z.object({ type: z.string() }),
})
export const JobList = list(JobReply)
export const JobEventList = list(
  z.object({
    id: z.string(),
    object: z.literal('fine_tuning.job.event'),
    created_at: z.int(),
    level: z.literal('info'),
    message: z.string(),
    type: z.enum(['message', 'metrics']),
    data: z.record(z.string(), z.unknown()),
  }),
)
