import { createHash } from 'node:crypto'
import { z } from 'zod'
import { Messages, SafeText } from './chat.ts'
import { Axis, PreferenceRow } from './feedback.ts'

export const PREFERENCES = ['a', 'tie', 'b'] as const
export type Preference = (typeof PREFERENCES)[number]

/** One figure of an evaluation: 95 % interval, n rows. */
export const AuditFigure = z.object({
  figure: z.string(),
  value: z.number(),
  low: z.number(),
  high: z.number(),
  n: z.int(),
})
export type AuditFigure = z.infer<typeof AuditFigure>

/** Two answers and what people say of them: what a judge is audited on. */
export type LabelledPair = {
  axis: Axis | null
  prompt: Messages
  a: string
  b: string
  label: Preference
  /** whether each answer is safe, where people said so */
  a_safe?: boolean | null | undefined
  b_safe?: boolean | null | undefined
  /** who wrote each answer, where that is known: for self-preference */
  a_by?: string | undefined
  b_by?: string | undefined
  /** rows that belong together; by default those with one first user turn */
  cluster?: string | undefined
}

const user = (content: string): Messages => [{ role: 'user', content }]
const numbered = (first: number, second: number) => (label: number) =>
  label === first ? ('a' as const) : label === second ? ('b' as const) : ('tie' as const)

const Own = z
  .object({
    axis: Axis.nullish(),
    prompt: z.union([Messages, SafeText.min(1)]),
    a: SafeText,
    b: SafeText,
    label: z.enum(PREFERENCES),
    a_safe: z.boolean().nullish(),
    b_safe: z.boolean().nullish(),
    a_by: z.string().optional(),
    b_by: z.string().optional(),
    cluster: z.string().optional(),
  })
  .transform(({ axis, prompt, ...row }): LabelledPair => ({
    ...row,
    axis: axis ?? null,
    prompt: typeof prompt === 'string' ? user(prompt) : prompt,
  }))

/**
 * Whether the chosen answer of a pair is shown as `a`: by a hash of what was compared, the same whichever was chosen.
 * The order of the texts would not do, since refusals, say, begin alike and would always stand on one side.
 */
function chosenFirst({ prompt, chosen, rejected }: PreferenceRow): boolean {
  const compared = JSON.stringify([prompt, [chosen, rejected].sort()])
  const even = createHash('sha256').update(compared).digest().readUInt8() % 2 === 0
  return even === chosen <= rejected
}

/** A preference pair; where people always said `a`, agreement beyond chance (κ) would be nothing. */
const Pair = PreferenceRow.transform((row): LabelledPair => {
  const { axis, prompt, chosen, rejected, chosen_safe, rejected_safe } = row
  return chosenFirst(row)
    ? {
        ...{ axis, prompt, a: chosen, b: rejected, label: 'a' },
        ...{ a_safe: chosen_safe, b_safe: rejected_safe },
      }
    : {
        ...{ axis, prompt, a: rejected, b: chosen, label: 'b' },
        ...{ a_safe: rejected_safe, b_safe: chosen_safe },
      }
})

/** Auto-J's pairwise test set: 0 the first is better, 1 the second, 2 neither. */
const AutoJ = z
  .object({
    prompt: SafeText.min(1),
    'response 1': SafeText,
    'response 2': SafeText,
    label: z.union([z.literal(0), z.literal(1), z.literal(2)]),
  })
  .transform((row): LabelledPair => ({
    ...{ axis: null, prompt: user(row.prompt), a: row['response 1'], b: row['response 2'] },
    label: numbered(0, 1)(row.label),
  }))

/** The layout of FairEval, LLMEval² and LLMBar: 1 the first is better, 2 the second. */
const Outputs = z
  .object({
    input: SafeText.min(1),
    output_1: SafeText,
    output_2: SafeText,
    label: z.union([z.literal(1), z.literal(2), z.literal(0)]),
  })
  .transform((row): LabelledPair => ({
    ...{ axis: null, prompt: user(row.input), a: row.output_1, b: row.output_2 },
    label: numbered(1, 2)(row.label),
  }))

/** The layout of a row, by the fields that only it has. */
const LAYOUTS = [
  ['chosen', Pair],
  ['response 1', AutoJ],
  ['output_1', Outputs],
] as const

/** A row of an audit's data set, in one of the layouts that such sets come in. */
export const LabelledRow = z.record(z.string(), z.unknown()).transform((row, context) => {
  const schema = LAYOUTS.find(([field]) => field in row)?.[1] ?? Own
  const parsed = schema.safeParse(row)
  if (parsed.success) return parsed.data
  for (const { path, message } of parsed.error.issues)
    context.addIssue({ code: 'custom', path: [...path], message })
  return z.NEVER
})
