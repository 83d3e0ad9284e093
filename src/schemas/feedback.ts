import { z } from 'zod'
import { LooseMessages, Messages, PromptInput, SafeText, WeighedMessage } from './chat.ts'

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
  messages: z.array(WeighedMessage).min(1).max(256),
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
  messages: LooseMessages.refine(
    (messages) => messages.at(-1)?.role === 'user',
    'a prompt ends with what the user says: its last message has the role `user`',
  ),
  prompt_class: PromptClass.nullish(),
})
export type PromptRow = z.infer<typeof PromptRow>

export const ANNOTATOR_KINDS = ['person', 'judge'] as const
/** Who said so and how. */
export const Provenance = z.object({
  source: z.string().optional().describe('where the label comes from: a data set, a judge'),
  annotator: z.string().min(1).max(200).nullish().describe('who labelled it'),
  annotator_kind: z.enum(ANNOTATOR_KINDS).nullish(),
  judge_version: z.string().nullish().describe('what answered: a hash of weights, or a model'),
  prompt_version: z.string().nullish(),
  orders: z
    .array(z.number().min(0).max(1).nullable())
    .length(2)
    .nullish()
    .describe('P(chosen is better) with it shown first and second; null: not asked'),
  principle: z.string().nullish().describe('of a constitution: the one this label was drawn'),
  rationale: z.string().nullish(),
  ranking: z.string().max(200).nullish().describe('pairs of one ranking have the same'),
})

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
  ...Provenance.shape,
})
export type PreferenceRow = z.infer<typeof PreferenceRow>

/** P(b is better) with b shown first and second, from P(a is better) with a first and second. */
export const turned = ([first = null, second = null]: readonly (number | null)[]): (
  number | null
)[] => [second === null ? null : 1 - second, first === null ? null : 1 - first]

/** A pair whose soft label prefers the rejected answer with the two exchanged, and all that is said of them. */
export function rightWayRound<T extends PreferenceRow>(pair: T): T {
  const { probability, chosen, rejected, chosen_safe, rejected_safe, orders } = pair
  if (probability == null || probability >= 0.5) return pair
  return {
    ...{ ...pair, chosen: rejected, rejected: chosen, probability: 1 - probability },
    ...{ chosen_safe: rejected_safe, rejected_safe: chosen_safe },
    ...(orders == null ? {} : { orders: turned(orders) }),
  }
}

/** Whether what a pair says agrees with itself: `strength` says that the chosen answer is better, so must `probability`. */
export const agreesWithItself = ({
  strength,
  probability,
}: Pick<PreferenceRow, 'strength' | 'probability'>): boolean =>
  strength == null || probability == null || probability >= 0.5
export const CONTRADICTION = {
  path: ['probability'],
  message: 'below ½ it contradicts that the chosen answer is better, as strength says',
}

/** K answers to one prompt as someone has ordered them: 1 is best, equal ranks are ties (InstructGPT, Llama 2). */
export const RankingRow = z
  .object({
    axis: Axis,
    prompt: PromptInput,
    answers: z.array(SafeText).min(2).max(64),
    ranks: z.array(z.number()).min(2).max(64),
    ...Provenance.omit({ orders: true, ranking: true }).shape,
  })
  .refine(({ answers, ranks }) => answers.length === ranks.length, {
    path: ['ranks'],
    message: 'one rank for each answer',
  })
  .refine(({ answers, ranks }) => answers.every((a, i) => ranks[answers.indexOf(a)] === ranks[i]), {
    path: ['ranks'],
    message: 'equal answers need equal ranks',
  })
export type RankingRow = z.infer<typeof RankingRow>
