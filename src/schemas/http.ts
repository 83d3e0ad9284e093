import { z } from 'zod'
import { Messages, parseTranscript, SafeText } from './chat.ts'
import { AXES, Axis, PromptClass } from './feedback.ts'

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
    .default([...AXES]),
  on_too_long: z.enum(['error', 'truncate']).default('error'),
  threshold: z
    .number()
    .gt(0)
    .lt(1)
    .default(0.15)
    .describe('of the gate, on the safety probability (Llama 2: 0.15)'),
})

export const JudgeRequest = z.strictObject({
  comparisons: z
    .array(
      z.strictObject({
        axis: Axis.default('helpfulness'),
        prompt: Messages,
        a: SafeText,
        b: SafeText,
      }),
    )
    .min(1)
    .max(256),
})

export const ChatRequest = z.object({
  model: z.string().optional(),
  messages: Messages,
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
})
