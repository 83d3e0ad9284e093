import { fstatSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { basename, extname } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { z } from 'zod'
import { LibraError } from '../errors.ts'
import { innermost } from '../http/problem.ts'
import { Comparison } from '../schemas/verdicts.ts'
import { RankRequest, ScoreInput } from '../schemas/scoring.ts'
import { decodeUtf8, parseRows } from '../text/rows.ts'
import { connect } from './connection.ts'
import type { Connection } from './connection.ts'
import { createProgress } from './progress.ts'

/**
 * `libra score | rank | judge`: JSON Lines in, the same lines with one more field out, in their order; progress on
 * stderr. Every line is checked before the first is sent: what is wrong is named by its line.
 */

type Row = Record<string, unknown>
type Reply = { data: Row[] }
type Command = {
  /** fields of a line that are asked about; others only come back with it */
  fields: readonly string[]
  schema: z.ZodType
  /** lines of one request */
  batch: number
  ask(connection: Connection, rows: Row[], flags: Row): Promise<unknown[]>
}

const COMMANDS = {
  score: {
    fields: ['messages', 'prompt', 'response', 'text', 'prompt_class'],
    schema: ScoreInput,
    batch: 64,
    ask: async (connection, inputs, flags) =>
      ((await connection.ask('/v1/score', { ...flags, inputs })) as Reply).data.map(withoutIndex),
  },
  rank: {
    fields: Object.keys(RankRequest.shape),
    schema: RankRequest,
    batch: 1,
    ask: async (connection, [row], flags) => [
      ((await connection.ask('/v1/rank', { ...flags, ...row })) as Reply).data,
    ],
  },
  judge: {
    fields: Object.keys(Comparison.shape),
    schema: Comparison,
    batch: 64,
    ask: async (connection, rows, { axis, ...flags }) => {
      const comparisons = rows.map((row) => (axis === undefined ? row : { axis, ...row }))
      const body = { ...flags, comparisons }
      return ((await connection.ask('/v1/judge', body)) as Reply).data.map(withoutIndex)
    },
  },
} satisfies Record<string, Command>
/** The place in a batch says nothing outside of it. */
const withoutIndex = ({ index: _, ...row }: Row): Row => row

const only = (row: Row, fields: readonly string[]): Row =>
  Object.fromEntries(Object.entries(row).filter(([key]) => fields.includes(key)))

/** A line whose fields of interest fit, with everything else that it carries. */
const lineOf = ({ fields, schema }: Command) =>
  z.record(z.string(), z.unknown()).superRefine((row, context) => {
    const asked = only(row, fields)
    if (Object.keys(asked).length === 0)
      return context.addIssue(`of ${fields.join(', ')} nothing is given`)
    for (const { path, message } of (schema.safeParse(asked).error?.issues ?? []).flatMap(
      innermost,
    ))
      context.addIssue({ code: 'custom', path, message })
  })

/** The lines of a file, or of what is piped in. Throws `file_not_found`, `empty_data`, `invalid_data`. */
async function readInput(file: string | undefined): Promise<{ source: string; content: string }> {
  const source = file === undefined || file === '-' ? 'stdin' : file
  if (source === 'stdin' && process.stdin.isTTY)
    throw new LibraError('empty_data', 'give a file, or pipe JSON Lines in')
  const bytes = await (source === 'stdin' ? buffer(process.stdin) : readFile(source)).catch(
    (cause: unknown) => {
      throw new LibraError('file_not_found', `${source} can't be read`, { cause })
    },
  )
  const content = decodeUtf8(bytes, source)
  if (content.trim() === '') throw new LibraError('empty_data', `${source} is empty`)
  return { source, content }
}

// whoever reads may have had enough, as `head` does
process.stdout.on('error', ({ code }: NodeJS.ErrnoException) => {
  if (code === 'EPIPE') process.exit(0)
})

/** Asks about every line, once connected, and writes it back with the answer as the field `score`, `rank` or `judge`. */
export async function ask(
  name: keyof typeof COMMANDS,
  file: string | undefined,
  flags: Row,
  connecting: Promise<Connection>,
): Promise<void> {
  const command: Command = COMMANDS[name]
  const { fields, batch } = command
  const progress = createProgress()
  try {
    const { source, content } = await readInput(file)
    // a line goes out as it came in: the service fills in its own defaults
    const rows = parseRows(content, source, lineOf(command))
    const lines = content.split('\n').flatMap((line, i) => (line.trim() === '' ? [] : [i + 1]))
    const connection = await connecting
    for (let i = 0; i < rows.length; i += batch) {
      const part = rows.slice(i, i + batch)
      const asked = part.map((row) => only(row, fields))
      const answers = await command.ask(connection, asked, flags).catch((error: unknown) => {
        if (!(error instanceof LibraError)) throw error
        // of a line that is a request by itself, `index` is a place within it
        const wrong = batch === 1 ? 0 : error.details['index']
        const at = typeof wrong === 'number' ? [i + wrong] : [i, i + part.length - 1]
        const where = [...new Set(at)].map((row) => lines[row]).join(' to ')
        throw new LibraError(error.code, `${source}, line ${where}: ${error.message}`, {
          cause: error,
        })
      })
      const told = part.map((row, k) => `${JSON.stringify({ ...row, [name]: answers[k] })}\n`)
      process.stdout.write(told.join(''))
      progress.update(`${name} (${connection.to})`, i + part.length, rows.length)
    }
  } finally {
    progress.stop()
    await (await connecting.catch(() => null))?.close()
  }
}

/** Whether stdin is a pipe or a file. What else may be there, a terminal or a socket, nobody need ever close. */
function isPiped(): boolean {
  try {
    const stdin = fstatSync(0)
    return stdin.isFIFO() || stdin.isFile()
  } catch {
    return false // closed
  }
}

/**
 * Evaluates a model or a judge on the rows of a file or those piped in, else on what is stored; one figure a line comes
 * out, and warnings on stderr. Throws `file_not_found`, `empty_data`, and whatever the run ended by
 * other than success.
 */
export async function evaluate(file: string | undefined, options: Row): Promise<void> {
  const given = file !== undefined || (options['file'] === undefined && isPiped())
  const input = given ? await readInput(file) : null
  const connection = await connect()
  const progress = createProgress()
  try {
    const uploaded = input === null ? {} : { file: await upload(connection, input) }
    const body = { options: { ...options, ...uploaded } }
    const { id } = (await connection.ask('/v1/evaluations', body)) as { id: string }
    for await (const { event, data } of connection.follow(`/v1/runs/${id}/events`))
      if (event === 'progress')
        progress.update(String(data['stage']), Number(data['done']), Number(data['total']))
    const { state, error, summary } = (await connection.ask(`/v1/runs/${id}`)) as {
      state: string
      error: { code: string; message: string } | null
      summary: { figures: Row[]; warnings?: string[] } | null
    }
    // a run that is cancelled before it begins has no error to tell
    if (state !== 'succeeded')
      throw new LibraError(
        error?.code ?? state,
        [`${id} ${state}`, ...(error === null ? [] : [error.message])].join(': '),
      )
    for (const figure of summary?.figures ?? [])
      process.stdout.write(`${JSON.stringify({ run: id, ...figure })}\n`)
    for (const warning of summary?.warnings ?? []) console.error(`warning: ${warning}`)
    console.error(`${id} ${state} (${connection.to})`)
  } finally {
    progress.stop()
    await connection.close()
  }
}

async function upload(
  connection: Connection,
  { source, content }: { source: string; content: string },
): Promise<string> {
  const form = new FormData()
  form.set('purpose', 'evals')
  // what the file is called says how it is read
  const name = extname(source) === '' ? `${source}.jsonl` : basename(source)
  form.set('file', new File([content], name))
  return ((await connection.send('/v1/files', form)) as { id: string }).id
}
