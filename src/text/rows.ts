import { readFile } from 'node:fs/promises'
import type { ZodType } from 'zod'
import { LibraError } from '../errors.ts'

const strict = new TextDecoder('utf-8', { fatal: true })

/** Text of UTF-8, without a mark at its beginning. Throws `invalid_data` naming the source and the line that is none. */
export function decodeUtf8(bytes: Uint8Array, source: string): string {
  try {
    return strict.decode(bytes)
  } catch (cause) {
    for (let [line, from] = [1, 0]; ; line++) {
      const end = bytes.indexOf(10, from)
      try {
        strict.decode(bytes.subarray(from, end < 0 ? bytes.length : end))
      } catch {
        const message = `${source}, line ${line}: these bytes are not UTF-8 text; save it as UTF-8`
        throw new LibraError('invalid_data', message, { cause })
      }
      from = end + 1
    }
  }
}

/** Checks every line of JSON Lines. Throws `invalid_data` naming the source, the line and the field. */
export function parseRows<T>(text: string, source: string, schema: ZodType<T>): T[] {
  return text
    .replace(/^\uFEFF/, '')
    .split('\n')
    .flatMap((line, i) => {
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
