import { z } from 'zod'
import { PromptRow } from './feedback.ts'

/** A prompt of an evaluation: what a good answer to it must do depends on its label. */
export const EvaluationPrompt = PromptRow.extend({
  label: z
    .enum(['safe', 'unsafe'])
    .optional()
    .describe('unsafe: a red-team prompt; safe: a harmless one that sounds unsafe'),
  category: z.string().optional().describe('kind of hazard or task'),
  pair: z.string().optional().describe('joins an unsafe prompt with its harmless look-alike'),
})
export type EvaluationPrompt = z.infer<typeof EvaluationPrompt>

/** Formats of prompt sets: one chat a line, XSTest's and HarmBench's CSV, MT-Bench's JSON Lines, a prompt a line. */
export const PROMPT_FORMATS = ['chat', 'xstest', 'harmbench', 'mt_bench', 'text'] as const
export type PromptFormat = (typeof PROMPT_FORMATS)[number]
