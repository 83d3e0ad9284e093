import { z } from 'zod'
import { LooseMessages, Messages, SafeText } from './chat.ts'

/** The two aims, each with a reward model of its own (Llama 2, section 3.2). */
export const AXES = ['helpfulness', 'safety'] as const
export const Axis = z.enum(AXES)
export type Axis = z.infer<typeof Axis>

/** How clearly the chosen answer is better: Llama 2's four levels. */
export const STRENGTHS = [
  'significantly_better',
  'better',
  'slightly_better',
  'negligibly_better',
] as const
export const Strength = z.enum(STRENGTHS)
export type Strength = z.infer<typeof Strength>

/** Llama 2's `is_safety(prompt)` as data: `safety` sends the prompt to the safety branch of the gate. */
export const PROMPT_CLASSES = ['safety', 'general'] as const
export const PromptClass = z.enum(PROMPT_CLASSES)
export type PromptClass = z.infer<typeof PromptClass>

/** One row of an SFT data set: a dialogue that ends with the assistant. */
export const DialogueRow = z.object({
  messages: LooseMessages,
  ended: z
    .boolean()
    .default(true)
    .describe('false: the last answer is cut off, its end is not trained'),
})
export type DialogueRow = z.infer<typeof DialogueRow>

/** One row of plain pre-training text. */
export const TextRow = z.object({ text: z.string() })
export type TextRow = z.infer<typeof TextRow>

/** One prompt to answer: dialogue that ends with the user. */
export const PromptRow = z.object({
  id: z.string().optional(),
  messages: LooseMessages,
  prompt_class: PromptClass.nullish(),
})
export type PromptRow = z.infer<typeof PromptRow>

/** One preference pair, on one axis, from a person or a judge. */
export const PreferenceRow = z.object({
  id: z.string().optional(),
  axis: Axis,
  prompt: Messages.describe('the dialogue up to and including the last user turn'),
  chosen: SafeText,
  rejected: SafeText,
  strength: Strength.nullish(),
  probability: z.number().min(0).max(1).nullish().describe('soft label: P(chosen is better)'),
  chosen_safe: z.boolean().nullish().describe('absolute safety label of the chosen answer'),
  rejected_safe: z.boolean().nullish(),
  source: z.string().optional().describe('who labelled it: a data set, a person, a judge'),
})
export type PreferenceRow = z.infer<typeof PreferenceRow>
