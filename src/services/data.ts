import { createHash } from 'node:crypto'
import type { ZodType } from 'zod'
import { LibraError } from '../errors.ts'
import { permutation } from '../random.ts'
import { LabelledRow } from '../schemas/audit.ts'
import type { LabelledPair } from '../schemas/audit.ts'
import { drawShares } from '../rlaif/mix.ts'
import { AXES, PreferenceRow, PromptRow } from '../schemas/feedback.ts'
import type { Axis } from '../schemas/feedback.ts'
import type { PreferenceRecord } from '../store/store.ts'
import type { PromptFormat } from '../schemas/evaluation.ts'
import { readPrompts } from '../text/prompt-sets.ts'
import type { ReadPrompt } from '../text/prompt-sets.ts'
import { parseRows } from '../text/rows.ts'
import type { Services } from './services.ts'

export type DataSet<T> = { rows: T[]; path: string; hash: string }

/** SHA-256 of rows that lie in no file of their own, or are drawn from one. */
export const rowsHash = (rows: readonly unknown[]): string =>
  createHash('sha256').update(JSON.stringify(rows)).digest('hex')

/** The places of at most `limit` of n rows by a keyed draw, in order, so that a file that is sorted is seen whole. */
export const drawnPlaces = (n: number, limit: number, seed: number): number[] =>
  Array.from(permutation(n, seed, 71).slice(0, limit)).sort((a, b) => a - b)
/** Those rows. */
export const drawn = <T>(rows: readonly T[], limit: number, seed: number): T[] =>
  drawnPlaces(rows.length, limit, seed).flatMap((i) => rows.slice(i, i + 1))

/** An uploaded file, every row checked. Throws `file_not_found`, `invalid_data`, `empty_data`. */
export async function openData<T>(
  { files }: Services,
  id: string,
  schema: ZodType<T>,
): Promise<DataSet<T>> {
  const file = await files.get(id)
  const { text, source } = await files.text(id)
  const rows = parseRows(text, source, schema)
  if (rows.length === 0) throw new LibraError('empty_data', `${source} is empty`)
  return { rows, path: file.path, hash: file.sha256 }
}

/** A file of prompts, or several with their shares of all. */
type PromptSets = string | readonly { file: string; share: number }[]
/** How many prompts of each file are drawn. */
export type DrawnSets = { file: string; share: number; prompts: number }[]

/**
 * Prompts from one file, or from several with their shares: as many as there can be so, drawn from the seed; each prompt
 * once, in the first file that has it, so that none is trained on and held out too. Throws as `openData`.
 */
export async function openPromptSets(
  services: Services,
  asked: PromptSets,
  seed: number,
): Promise<{ rows: PromptRow[]; hash: string; sets: DrawnSets }> {
  const sets = typeof asked === 'string' ? [{ file: asked, share: 1 }] : asked
  const total = sets.reduce((sum, { share }) => sum + share, 0)
  const seen = new Set<string>()
  const opened = []
  for (const { file, share } of sets) {
    const { rows, hash } = await openData(services, file, PromptRow)
    const fresh = rows.filter(({ messages }) => {
      const key = JSON.stringify(messages)
      return !seen.has(key) && seen.add(key)
    })
    if (fresh.length === 0)
      throw new LibraError('empty_data', `${file}: every prompt is in another file too`, {
        details: { field: 'prompts_file' },
      })
    opened.push({ file, rows: fresh, hash, share: share / total })
  }
  // one file is taken as it is
  const drawn = opened.length === 1 ? opened.map(({ rows }) => rows) : drawShares(opened, seed)
  return {
    rows: drawn.flat(),
    hash: opened.map(({ hash }) => hash).join(),
    sets: opened.map(({ file, share }, i) => ({ file, share, prompts: drawn[i]?.length ?? 0 })),
  }
}

/** Prompts of an evaluation in any of the formats of text/prompt-sets.ts. Throws `file_not_found`, `invalid_data`, `empty_data`. */
export async function openPrompts(
  { files }: Services,
  id: string,
  format: PromptFormat | undefined,
): Promise<{ rows: ReadPrompt[]; hash: string }> {
  const { text, source } = await files.text(id)
  return { rows: readPrompts(text, source, format), hash: (await files.get(id)).sha256 }
}

/** A stored pair as a row of a data set. */
export const toPreferenceRow = (pair: PreferenceRecord): PreferenceRow => ({
  id: pair.id,
  axis: pair.axis,
  prompt: pair.prompt,
  chosen: pair.chosen,
  rejected: pair.rejected,
  strength: pair.strength,
  probability: pair.probability,
  chosen_safe: pair.chosenSafe,
  rejected_safe: pair.rejectedSafe,
  source: pair.source,
  annotator: pair.annotator,
  annotator_kind: pair.annotatorKind,
  judge_version: pair.judgeVersion,
  prompt_version: pair.promptVersion,
  orders: pair.orders,
  principle: pair.principle,
  rationale: pair.rationale,
  ranking: pair.ranking,
})

/** Whether a person said so: by their own word, else where the pair came from no run. */
export const byPerson = ({
  annotatorKind,
  run,
}: Pick<PreferenceRecord, 'annotatorKind' | 'run'>): boolean =>
  annotatorKind === null ? run === null : annotatorKind === 'person'

/**
 * Pairs that people labelled, for an audit: from a file, else those that are stored and came from no run. Rows without
 * an axis of their own count for the one asked about. Throws `empty_data` where there are none.
 */
export async function openLabelled(
  services: Services,
  file: string | undefined,
  axis: Axis,
): Promise<{ pairs: LabelledPair[]; hash: string }> {
  const stored = async (): Promise<{ rows: LabelledPair[]; hash: string }> => {
    const rows = (await services.store.pairsOf(axis))
      .filter(byPerson)
      .map((pair) => LabelledRow.parse(toPreferenceRow(pair)))
    return { rows, hash: rowsHash(rows) }
  }
  const { rows, hash } =
    file === undefined ? await stored() : await openData(services, file, LabelledRow)
  const pairs = rows.filter((pair) => pair.axis === null || pair.axis === axis)
  if (pairs.length === 0)
    throw new LibraError('empty_data', `there is no ${axis} pair that people have labelled`, {
      details: { field: 'file' },
    })
  return { pairs, hash }
}

/** Every pair of a file, else those that are stored; of one axis where one is asked for. Throws `empty_data`. */
export async function openAllPairs(
  services: Services,
  file: string | undefined,
  axis: Axis | null,
): Promise<PreferenceRow[]> {
  const pairsOf = async (each: Axis): Promise<PreferenceRow[]> =>
    (await services.store.pairsOf(each)).map(toPreferenceRow)
  const all =
    file === undefined
      ? (await Promise.all(AXES.map(pairsOf))).flat()
      : (await openData(services, file, PreferenceRow)).rows
  const pairs = all.filter((pair) => axis === null || pair.axis === axis)
  if (pairs.length === 0) throw noPair(axis)
  return pairs
}

const noPair = (axis: Axis | null): LibraError =>
  new LibraError(
    'empty_data',
    `there is no ${axis === null ? 'preference' : axis} pair: POST /v1/preferences or /v1/preferences/label makes some`,
    { details: { field: 'training_file' } },
  )

/** Pairs of both axes: from a file, else those that are stored. Throws `empty_data` where `axis` has none. */
export async function openPairsByAxis(
  services: Services,
  file: string | undefined,
  axis: Axis,
): Promise<Record<Axis, PreferenceRow[]>> {
  const all = await openAllPairs(services, file, null)
  const of = (each: Axis): PreferenceRow[] => all.filter((pair) => pair.axis === each)
  const pairs = { helpfulness: of('helpfulness'), safety: of('safety') }
  if (pairs[axis].length === 0) throw noPair(axis)
  return pairs
}

/** Pairs of one axis. Throws `empty_data` where there are none. */
export const openPairs = async (
  services: Services,
  file: string | undefined,
  axis: Axis,
): Promise<PreferenceRow[]> => (await openPairsByAxis(services, file, axis))[axis]
