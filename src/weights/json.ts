import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { LibraError } from '../errors.ts'

/** Reads a JSON file. Throws `damaged_checkpoint` naming it when it is missing or not JSON. */
export async function readJson(path: string): Promise<Record<string, unknown>> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>
  } catch (cause) {
    const what = existsSync(path) ? 'is not JSON' : 'is missing'
    throw new LibraError('damaged_checkpoint', `${path} ${what}`, { cause })
  }
}

export const writeJson = (path: string, value: unknown): Promise<void> =>
  writeFile(path, JSON.stringify(value, null, 1))
