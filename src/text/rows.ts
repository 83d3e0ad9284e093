import { readFile } from 'node:fs/promises'
import type { ZodType } from 'zod'
import { LibraError } from '../errors.ts'

/** Checks every line of JSON Lines. Throws `invalid_data` naming the source, the line and the field. */
export function parseRows<T>(text: string, source: string, schema: ZodType<T>): T[] {
  return text.split('\n').flatMap((line, i) => {
    if (line.trim() === '') return []
    let json: unknown
    try {
      json = JSON.parse(line)
    } catch (cause) {
      throw new LibraError('invalid_data', `${source}, line ${i + 1}: not JSON`, { cause })
    }
    const row = schema.safeParse(json)
    if (row.success) return [row.data]
    const issue = row.error.issues[0]
    throw new LibraError(
      'invalid_data',
      `${source}, line ${i + 1}, ${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'invalid'}`,
    )
  })
}

export const readRows = async <T>(path: string, schema: ZodType<T>): Promise<T[]> =>
  parseRows(await readFile(path, 'utf8'), path, schema)

/** Lines of a file that a process appended to; one that was cut off with it is none. */
export const wholeLines = (text: string): string[] =>
  text.split('\n').filter((line) => {
    try {
      JSON.parse(line)
      return true
    } catch {
      return false
    }
  })
