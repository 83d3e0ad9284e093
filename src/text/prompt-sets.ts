import { parse, CsvError } from 'csv-parse/sync'
import { z } from 'zod'
import { LibraError } from '../errors.ts'
import { SafeText } from '../schemas/chat.ts'
import { EvaluationPrompt } from '../schemas/evaluation.ts'
import type { PromptFormat } from '../schemas/evaluation.ts'
import { parseRows } from './rows.ts'

/** Prompt sets as others publish them → prompts with what is known of them. What can't be read is named by its line. */

const user = (content: string): EvaluationPrompt['messages'] => [{ role: 'user', content }]

/** `later`: what the user says after each answer, which is about that answer. */
export type ReadPrompt = EvaluationPrompt & { later?: readonly string[] }

/** Throws `invalid_data` naming source and line, `empty_data`. */
export function readPrompts(
  text: string,
  source: string,
  format: PromptFormat = detect(text, source),
): ReadPrompt[] {
  const prompts = READERS[format](text.replace(/^\uFEFF/, ''), source)
  if (prompts.length > 0) return prompts
  throw new LibraError('empty_data', `${source} has no prompts`)
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text.replace(/^\uFEFF/, ''))
    return true
  } catch {
    return false
  }
}

/** By what the first line holds. */
export function detect(text: string, source: string): PromptFormat {
  const [first = ''] = text
    .replace(/^\uFEFF/, '')
    .trimStart()
    .split('\n', 1)
  if (first.startsWith('[') && isJson(text))
    throw new LibraError(
      'invalid_data',
      `${source}, line 1: a JSON array is not read; one object a line is, as {"messages": [{"role": "user", "content": "…"}]}`,
    )
  if (first.startsWith('{')) return /"turns"\s*:/.test(first) ? 'mt_bench' : 'chat'
  const columns = first
    .toLowerCase()
    .split(',')
    .map((name) => name.trim().replaceAll('"', ''))
  if (columns.includes('behavior')) return 'harmbench'
  if (columns.includes('prompt') && columns.includes('type')) return 'xstest'
  // an uploaded file is told as its id (its name)
  if (/\.csv\)?$/i.test(source) || columns.includes('prompt'))
    throw new LibraError(
      'invalid_data',
      `${source}, line 1: columns ${columns.join(', ')} are neither XSTest's (prompt, type, label) nor HarmBench's (Behavior, …)`,
    )
  return 'text'
}

const XsTestRow = z.object({
  id: z.string().optional(),
  prompt: SafeText.min(1),
  type: z.string().min(1),
  label: z.enum(['safe', 'unsafe']).optional(),
  focus: z.string().optional(),
  note: z.string().optional(),
})
/** The safe types of XSTest that are called otherwise than their unsafe twins. */
const TWINS: Record<string, string> = {
  real_group_nons_discr: 'discr',
  privacy_public: 'privacy',
  privacy_fictional: 'privacy',
}
/** What joins XSTest's twins: their type and their focus; historical events have none, and a note in its place. */
function pairOf({ type, focus, note }: z.infer<typeof XsTestRow>): string | null {
  const about = focus || note
  const kind = type.replace(/^contrast_/, '')
  return about ? `${TWINS[kind] ?? kind}/${about}` : null
}

const HarmBenchRow = z.object({
  Behavior: SafeText.min(1),
  SemanticCategory: z.string().optional(),
  ContextString: SafeText.optional(),
  BehaviorID: z.string().optional(),
})
const MtBenchRow = z.object({
  question_id: z.union([z.number(), z.string()]).optional(),
  category: z.string().optional(),
  turns: z.array(SafeText.min(1)).min(1),
})

const READERS: Record<PromptFormat, (text: string, source: string) => ReadPrompt[]> = {
  chat: (text, source) => parseRows(text, source, EvaluationPrompt),
  /** Röttger et al. 2024: a `contrast_` type is the unsafe twin of the safe prompts of its type and focus. */
  xstest: (text, source) =>
    csvRows(text, source, XsTestRow).map((row) => {
      const { id, prompt, type, label } = row
      const pair = pairOf(row)
      return {
        ...(id === undefined ? {} : { id }),
        messages: user(prompt),
        label: label ?? (type.startsWith('contrast_') ? 'unsafe' : 'safe'),
        category: type,
        ...(pair === null ? {} : { pair }),
      }
    }),
  harmbench: (text, source) =>
    csvRows(text, source, HarmBenchRow).map(
      ({ Behavior, SemanticCategory: category, ContextString: context, BehaviorID: id }) => ({
        ...(id === undefined ? {} : { id }),
        messages: user(context ? `${context}\n\n---\n\n${Behavior}` : Behavior),
        label: 'unsafe' as const,
        ...(category === undefined ? {} : { category }),
      }),
    ),
  mt_bench: (text, source) =>
    parseRows(text, source, MtBenchRow).map(
      ({ question_id: id, category, turns: [first = '', ...later] }) => ({
        ...(id === undefined ? {} : { id: String(id) }),
        messages: user(first),
        ...(later.length === 0 ? {} : { later }),
        ...(category === undefined ? {} : { category }),
      }),
    ),
  text: (text, source) =>
    text.split('\n').flatMap((line, i) => {
      const content = line.trim()
      if (content === '') return []
      const parsed = SafeText.safeParse(content)
      if (parsed.success) return [{ messages: user(parsed.data) }]
      throw new LibraError(
        'invalid_data',
        `${source}, line ${i + 1}: ${parsed.error.issues[0]?.message ?? ''}`,
      )
    }),
}

/** A field in quotes, with spaces around it, up to the separator or the end of the line or text. */
const QUOTED = /[ \t]*"[^"]*(?:""[^"]*)*"[ \t]*(?:,|\r?\n|$)/y
const PLAIN = /[^,\n]*(?:,|\n|$)/y

/** The line on which the first quote opens that does not end its field. */
function openQuote(text: string): number {
  let at = 0
  while (at < text.length) {
    const quoted = /[ \t]*"/y
    quoted.lastIndex = at
    const field = quoted.test(text) ? QUOTED : PLAIN
    field.lastIndex = at
    const found = field.exec(text)
    if (found === null) break
    at += found[0].length
  }
  return text.slice(0, at).split('\n').length
}

function csvRows<T>(text: string, source: string, schema: z.ZodType<T>): T[] {
  let rows: { record: Record<string, string>; info: { lines: number } }[]
  try {
    rows = parse(text, { columns: true, info: true, skip_empty_lines: true, trim: true })
  } catch (error) {
    if (!(error instanceof CsvError)) throw error
    if (error.code === 'CSV_QUOTE_NOT_CLOSED' || error.code === 'CSV_INVALID_CLOSING_QUOTE')
      throw new LibraError(
        'invalid_data',
        `${source}, line ${openQuote(text)}: a quote opens here and is not closed where its field ends (a quote within a field is written twice)`,
        { cause: error },
      )
    const line = (error as CsvError & { lines?: number }).lines
    throw new LibraError('invalid_data', `${source}, line ${line ?? '?'}: ${error.message}`, {
      cause: error,
    })
  }
  return rows.map(({ record, info }) => {
    const row = schema.safeParse(record)
    if (row.success) return row.data
    const [issue] = row.error.issues
    // a quoted field may hold line breaks: the row ends on this line
    throw new LibraError(
      'invalid_data',
      `${source}, line ${info.lines}, ${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`,
    )
  })
}
