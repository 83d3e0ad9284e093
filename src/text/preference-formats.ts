import { createHash } from 'node:crypto'
import { z } from 'zod'
import { LibraError } from '../errors.ts'
import { LooseMessages, SafeText } from '../schemas/chat.ts'
import type { Message } from '../schemas/chat.ts'
import {
  agreesWithItself,
  CONTRADICTION,
  PreferenceRow,
  RankingRow,
  rightWayRound,
} from '../schemas/feedback.ts'
import type { Axis } from '../schemas/feedback.ts'

/** What is said of two answers: that `chosen` is better or, where they are tied, that neither is. */
export type Word = { pair: PreferenceRow; tied: boolean }
/** Layouts that preference pairs are read from, each told by the fields that only it has. */
export type ReadWords = { format: string; words: Word[] }

const user = (content: string): Message[] => [{ role: 'user', content }]
const MARK = /\n\n(Human|Assistant|System): ?/g
const ROLE = { Human: 'user', Assistant: 'assistant', System: 'system' } as const

/**
 * `\n\nHuman: …\n\nAssistant: …` → turns; null where the text does not begin with a turn. What follows the last mark
 * may be empty, as in a prompt that ends with `\n\nAssistant:`.
 */
export function parseHh(text: string): Message[] | null {
  const marks = [...text.matchAll(MARK)]
  if (marks[0]?.index !== 0) return null
  return marks.map((mark, i) => ({
    role: ROLE[mark[1] as keyof typeof ROLE],
    content: text.slice(mark.index + mark[0].length, marks[i + 1]?.index),
  }))
}

/** A prompt that is one text: HH's turns where it holds them, else one user turn. */
function promptOf(text: string): Message[] {
  const turns = parseHh(text.startsWith('\n\n') ? text : `\n\n${text}`)
  if (turns === null || turns[0]?.role === 'assistant') return user(text)
  return turns.at(-1)?.role === 'assistant' && turns.at(-1)?.content === ''
    ? turns.slice(0, -1)
    : turns
}

const mismatch = (message: string): never => {
  throw new LibraError('prompt_mismatch', message)
}

/** Two dialogues that differ in their last turn, the assistant's. */
function implicit(chosen: readonly Message[], rejected: readonly Message[]) {
  const [good, bad] = [chosen.at(-1), rejected.at(-1)]
  const prompt = chosen.slice(0, -1)
  const same = JSON.stringify(prompt) === JSON.stringify(rejected.slice(0, -1))
  if (good?.role !== 'assistant' || bad?.role !== 'assistant' || prompt.length === 0 || !same)
    return mismatch('chosen and rejected must differ in their last turn alone, the assistant’s')
  return { prompt, chosen: good.content, rejected: bad.content }
}

const only = (turns: readonly Message[], field: string): string => {
  const [turn] = turns
  if (turns.length !== 1 || turn?.role !== 'assistant')
    return mismatch(`${field}: one turn of the assistant is needed, got ${turns.length}`)
  return turn.content
}

/** What follows `Assistant:` begins with a space; more of them belong to the answer. */
const afterMark = (text: string): string => (text.startsWith(' ') ? text.slice(1) : text)
const TrlText = z
  .object({ prompt: SafeText.min(1), chosen: SafeText, rejected: SafeText })
  .transform(({ prompt, chosen, rejected }) => [
    { prompt: promptOf(prompt), chosen: afterMark(chosen), rejected: afterMark(rejected) },
  ])
const TrlTurns = z
  .object({ prompt: LooseMessages, chosen: LooseMessages, rejected: LooseMessages })
  .transform(({ prompt, chosen, rejected }) => [
    { prompt, chosen: only(chosen, 'chosen'), rejected: only(rejected, 'rejected') },
  ])
const score = z.number().nullish()
const Binarized = z
  .object({
    chosen: LooseMessages,
    rejected: LooseMessages,
    score_chosen: score,
    score_rejected: score,
  })
  .transform((row) => {
    const pair = implicit(row.chosen, row.rejected)
    const { score_chosen: given, score_rejected: other } = row
    if (given == null || other == null || given > other) return [pair]
    // the scores say which is better, not the names
    return given === other ? [] : [{ ...pair, chosen: pair.rejected, rejected: pair.chosen }]
  })
const Hh = z.object({ chosen: SafeText, rejected: SafeText }).transform((row) => {
  const [chosen, rejected] = [parseHh(row.chosen), parseHh(row.rejected)]
  if (chosen === null || rejected === null)
    return mismatch('chosen and rejected must begin with "\\n\\nHuman: "')
  return [implicit(chosen, rejected)]
})
const OpenAi = z
  .object({
    input: z.object({ messages: LooseMessages }),
    preferred_output: LooseMessages,
    non_preferred_output: LooseMessages,
  })
  .transform((row) => [
    {
      prompt: row.input.messages,
      chosen: only(row.preferred_output, 'preferred_output'),
      rejected: only(row.non_preferred_output, 'non_preferred_output'),
    },
  ])

/** NaN is no rating; nor is null or an empty text, which `Number` takes for 0. */
const Rating = z.union([z.number(), z.string().trim().min(1).pipe(z.coerce.number())]).catch(NaN)
const Rated = z.object({
  response: SafeText,
  annotations: z.record(z.string(), z.object({ Rating })),
})
/** Every pair that differs in the mean of the ratings: `overall_score` is known to be wrong in places. */
const UltraFeedback = z
  .object({ instruction: SafeText.min(1), completions: z.array(Rated).min(2) })
  .transform(({ instruction, completions }) => {
    const means = completions.map(({ annotations }) => {
      const ratings = Object.values(annotations).flatMap(({ Rating: r }) =>
        Number.isNaN(r) ? [] : [r],
      )
      return ratings.reduce((sum, r) => sum + r, 0) / ratings.length
    })
    return completions.flatMap((good, i) =>
      completions.flatMap((bad, j) =>
        (means[i] ?? NaN) > (means[j] ?? NaN)
          ? [{ prompt: user(instruction), chosen: good.response, rejected: bad.response }]
          : [],
      ),
    )
  })

const side = z.union([z.literal(0), z.literal(1)])
/** Two labels a row: which answer is better, which is safer, and whether each is safe. */
const Pku = z
  .object({
    ...{ prompt: SafeText.min(1), response_0: SafeText, response_1: SafeText },
    ...{ better_response_id: side.nullish(), safer_response_id: side.nullish() },
    ...{ is_response_0_safe: z.boolean().nullish(), is_response_1_safe: z.boolean().nullish() },
  })
  .transform((row) => {
    const answers = [row.response_0, row.response_1]
    const safe = [row.is_response_0_safe ?? null, row.is_response_1_safe ?? null]
    const pair = (axis: Axis, first: 0 | 1 | null | undefined) =>
      first === null || first === undefined
        ? []
        : [
            {
              ...{ axis, prompt: promptOf(row.prompt) },
              ...{ chosen: answers[first] ?? '', rejected: answers[1 - first] ?? '' },
              ...{ chosen_safe: safe[first] ?? null, rejected_safe: safe[1 - first] ?? null },
            },
          ]
    return [
      ...pair('helpfulness', row.better_response_id),
      ...pair('safety', row.safer_response_id),
    ]
  })

/** SHA-256 of some values, as hex. */
export const fingerprint = (values: readonly unknown[]): string =>
  createHash('sha256').update(JSON.stringify(values)).digest('hex')

/** What was compared, whichever way round. */
export const comparedIn = ({
  prompt,
  chosen,
  rejected,
}: Pick<PreferenceRow, 'prompt' | 'chosen' | 'rejected'>): string =>
  fingerprint([prompt.map(({ role, content }) => [role, content]), [chosen, rejected].sort()])

/** What a ranking says of each two of its answers, once; the pairs carry its name, and share its prompt. */
export function rankedWords({ answers, ranks, ...row }: RankingRow): Word[] {
  // equal answers, which have equal ranks, are one
  const places = [...new Map(answers.map((answer, i) => [answer, ranks[i] ?? NaN]))]
  const said = [row.prompt, places.map(([answer]) => answer), places.map(([, rank]) => rank)]
  const ranking = `ranking_${fingerprint([...said, row.annotator]).slice(0, 24)}`
  return places.flatMap(([chosen, rank], i) =>
    places.flatMap(([rejected, other], j) =>
      rank < other || (rank === other && i < j)
        ? [{ pair: { ...row, chosen, rejected, ranking }, tied: rank === other }]
        : [],
    ),
  )
}

type Part = Omit<PreferenceRow, 'axis'> & { axis?: Axis; tied?: boolean }
type Layout = {
  name: string
  fits(row: Record<string, unknown>): boolean
  schema: z.ZodType<Part[]>
}
const has =
  (...fields: string[]) =>
  (row: Record<string, unknown>): boolean =>
    fields.every((field) => field in row)
const LAYOUTS: readonly Layout[] = [
  {
    name: 'ranking',
    fits: has('prompt', 'answers', 'ranks'),
    schema: RankingRow.transform((row) =>
      rankedWords(row).map(({ pair, tied }) => ({ ...pair, tied })),
    ),
  },
  {
    name: 'libra',
    fits: has('axis', 'chosen', 'rejected'),
    schema: PreferenceRow.refine(agreesWithItself, CONTRADICTION).transform((row) => [row]),
  },
  { name: 'pku', fits: has('response_0', 'response_1'), schema: Pku },
  { name: 'ultrafeedback', fits: has('instruction', 'completions'), schema: UltraFeedback },
  {
    name: 'openai',
    fits: has('input', 'preferred_output', 'non_preferred_output'),
    schema: OpenAi,
  },
  {
    name: 'binarized',
    fits: (row) =>
      has('chosen', 'rejected')(row) &&
      Array.isArray(row['chosen']) &&
      !Array.isArray(row['prompt']),
    schema: Binarized,
  },
  {
    name: 'trl',
    fits: (row) => Array.isArray(row['prompt']) && has('chosen', 'rejected')(row),
    schema: TrlTurns,
  },
  { name: 'trl_text', fits: has('prompt', 'chosen', 'rejected'), schema: TrlText },
  { name: 'hh', fits: has('chosen', 'rejected'), schema: Hh },
]

/**
 * What one row in any of these layouts says, with the better answer as the chosen one; `axis` for those that name none. A row of equal answers says nothing, of ties
 * only a ranking’s are told. Throws `invalid_data` or `prompt_mismatch`.
 */
export function readWords(row: unknown, axis: Axis): ReadWords {
  const record = z.record(z.string(), z.unknown()).safeParse(row)
  const layout = record.success ? LAYOUTS.find(({ fits }) => fits(record.data)) : undefined
  if (layout === undefined)
    throw new LibraError(
      'invalid_data',
      'no layout of preference pairs that is known here: chosen and rejected, with prompt or not; input, preferred_output; response_0, response_1; instruction, completions; prompt, answers, ranks',
    )
  const parsed = layout.schema.safeParse(row)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    throw new LibraError('invalid_data', `${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`)
  }
  const words = parsed.data.map(({ tied = false, ...pair }) => ({
    pair: rightWayRound(PreferenceRow.parse({ axis, ...pair })),
    tied,
  }))
  return {
    format: layout.name,
    words: words.filter(({ pair }) => pair.chosen !== pair.rejected),
  }
}
