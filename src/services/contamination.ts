import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { lineOf } from './lineage.ts'
import type { Services } from './services.ts'

type World = Pick<Services, 'store' | 'files' | 'dataDir'>
/** Names of the fields in which a run's request names its data. */
const DATA = ['training_file', 'dialogues_file', 'prompts_file']

const Files = z.union([
  z.string().transform((id) => [id]),
  z.array(z.object({ file: z.string() })).transform((sets) => sets.map(({ file }) => file)),
])
/** The ids of the files that a field names: one, or several with their shares. */
const filesIn = (field: unknown): string[] => Files.safeParse(field).data ?? []

/** Of data that runs have learned from already: what is not text in it is passed over. */
const lenient = new TextDecoder()

/** Every string in a value, however deep. */
function* stringsIn(value: unknown): Generator<string> {
  if (typeof value === 'string') yield value
  else if (typeof value === 'object' && value !== null)
    for (const each of Object.values(value)) yield* stringsIn(each)
}

/** The texts of a data file: every string of its JSON Lines, of other lines the line. */
function* textsOf(content: string): Generator<string> {
  for (const line of content.split('\n')) {
    let row: unknown = line
    try {
      row = JSON.parse(line)
    } catch {
      // a line of plain text or of CSV
    }
    yield* stringsIn(row)
  }
}

/**
 * The texts that policies were trained on: of the given files, else of the data of every run that they stand on, those
 * that a loop wrote into its folder included. Null where none is known.
 */
export async function trainingTexts(
  { store, files, dataDir }: World,
  policies: readonly string[],
  given: readonly string[] | undefined,
): Promise<string[] | null> {
  const ids = new Set(given)
  const folders = new Set<string>()
  if (given === undefined)
    for (const policy of policies) {
      const line = await lineOf(store, ({ models }) => models.some(({ id }) => id === policy))
      for (const { run } of line) {
        if (run === null) continue
        const above = run.parent === null ? null : await store.runs.get(run.parent)
        for (const each of above === null ? [run] : [run, above]) {
          folders.add(join(dataDir, 'runs', each.id))
          for (const field of DATA) for (const id of filesIn(each.config[field])) ids.add(id)
        }
      }
    }
  const contents: string[] = []
  for (const id of ids) {
    // a file that a run learned from may have been removed since; one that is named must be there
    if (given === undefined && (await store.files.get(id)) === null) continue
    const known = given !== undefined
    contents.push(known ? (await files.text(id)).text : lenient.decode(await files.read(id)))
  }
  for (const folder of folders)
    for (const name of await readdir(folder).catch(() => []))
      if (/^(dialogues|prompts)\.jsonl$/.test(name))
        contents.push(await readFile(join(folder, name), 'utf8'))
  return contents.length === 0 ? null : contents.flatMap((content) => [...textsOf(content)])
}
