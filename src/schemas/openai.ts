import { z } from 'zod'
import { LooseMessages } from './chat.ts'
import { Axis } from './feedback.ts'
import { list, usage } from './http.ts'

/** OpenAI's shapes. Unknown keys are ignored here, as its clients expect. */

export const ChatRequest = z.object({
  model: z.string().default('policy'),
  messages: LooseMessages,
  max_completion_tokens: z.int().min(1).max(4096).nullish(),
  max_tokens: z.int().min(1).max(4096).default(64),
  temperature: z.number().min(0).max(2).default(1),
  top_p: z.number().gt(0).max(1).default(1),
  n: z.int().min(1).max(64).default(1),
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
  usage,
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
  status: z.enum([
    ...(['validating_files', 'queued', 'running', 'paused', 'waiting_for_labels'] as const),
    ...(['succeeded', 'failed', 'cancelled'] as const),
  ]),
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
