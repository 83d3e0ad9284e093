import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Build } from '../schemas/model.ts'
import { bindingFile } from '../tensor/backend.ts'

/** An import that is still there when types are gone: `import type` decides nothing. */
const IMPORT = /^(?:import|export) (?!type )(?:[\w\s{},*$]+ from )?'(\.[^']*)'/gm

/** Sources and all those of ours that they import, themselves or through others, by path. Throws where one is missing. */
export function sourcesBehind(entries: readonly string[]): Map<string, Buffer> {
  const found = new Map<string, Buffer>()
  const visit = (path: string): void => {
    if (found.has(path)) return
    const text = readFileSync(path)
    found.set(path, text)
    for (const [, name = ''] of text.toString().matchAll(IMPORT)) visit(join(dirname(path), name))
  }
  for (const entry of entries) visit(entry)
  return found
}

/** SHA-256 of these sources with their places in a folder. */
export function codeOf(folder: string, entries: readonly string[]): string {
  const hash = createHash('sha256')
  const sources = [...sourcesBehind(entries.map((name) => join(folder, name)))]
    .map(([path, text]) => [relative(folder, path), text] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1))
  for (const [name, text] of sources) hash.update(`${name} ${text.length}\n`).update(text)
  return hash.digest('hex')
}

/** The processor's name; with its family and model where the system tells them, as a virtual one may hide its name. */
function processor(): string {
  const name = cpus()[0]?.model.trim() || process.arch
  let told = ''
  try {
    told = readFileSync('/proc/cpuinfo', 'utf8')
  } catch {
    // not Linux
  }
  const of = (what: string): string | undefined =>
    new RegExp(`^${what}\\s*: (\\d+)$`, 'm').exec(told)?.[1]
  const [family, model] = [of('cpu family'), of('model')]
  return family === undefined || model === undefined
    ? name
    : `${name} (family ${family}, model ${model})`
}

/** A score's passes, and what loads models, adapters and tokenizers. */
export const SCORING = ['scores.ts', 'residents.ts']

/** Of this process, read when it starts: what is written later does not run in it. */
export const build: Build = {
  code: codeOf(fileURLToPath(new URL('.', import.meta.url)), SCORING),
  kernels: createHash('sha256').update(readFileSync(bindingFile)).digest('hex'),
  processor: processor(),
}
