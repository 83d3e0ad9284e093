import { createHash } from 'node:crypto'
import PQueue from 'p-queue'
import type { z } from 'zod'
import { LibraError } from '../errors.ts'
import type { Verdict } from '../judging/judge.ts'
import { strengthOf } from '../judging/judge.ts'
import type { LabelledPair } from '../schemas/audit.ts'
import { AXES, rightWayRound } from '../schemas/feedback.ts'
import type { Axis, PreferenceRow } from '../schemas/feedback.ts'
import type { ExportQuery, ImportRequest, PreferencesRequest } from '../schemas/preferences.ts'
import type { PreferenceRecord } from '../store/store.ts'
import { conversationKey } from '../text/conversation.ts'
import { comparedIn, rankedWords, readWords } from '../text/preference-formats.ts'
import type { Word } from '../text/preference-formats.ts'
import { auditFigures } from './audit-figures.ts'
import type { Figure } from './audit-figures.ts'
import { byPerson } from './data.ts'
import { eitherWay, isNamed, labelOf, turnedAround, wordOf, wordsOf } from './label-keys.ts'
import { newId } from './runs.ts'
import type { Services } from './services.ts'

/** What a label corrects is read before it is written: one request after the other. */
const inTurn = new PQueue({ concurrency: 1 })

/** `contradicted`: of labels the number that say the opposite of the same person's word before. */
type Stored = { ids: string[]; added: number; contradicted: number }

/**
 * Stores pairs, each label once; returns their ids in order, of those that were there before theirs, and how many are
 * new. Who gives a name and labels a pair again, on whichever side and by whatever source, corrects the first label; the
 * last word counts. Who then says that the two are tied (`ties`, none of them among the pairs) takes the label back.
 */
export const storePairs = (
  world: Pick<Services, 'store'>,
  pairs: readonly PreferenceRow[],
  run: string | null,
  ties: readonly PreferenceRow[] = [],
): Promise<Stored> => inTurn.add(() => storeAll(world, pairs, run, ties))

async function storeAll(
  { store }: Pick<Services, 'store'>,
  pairs: readonly PreferenceRow[],
  run: string | null,
  ties: readonly PreferenceRow[],
): Promise<Stored> {
  const labels = pairs.map((pair) => {
    const named = isNamed(pair, run)
    const keys = named ? wordsOf(pair) : [labelOf(pair)]
    // of a person's word what is the same whichever answer is the better
    const of = named ? eitherWay(pair, wordOf).toSorted().join() : null
    return { pair, row: record(pair, run, keys[0] ?? ''), keys, of }
  })
  const tied = ties.filter((pair) => isNamed(pair, run)).flatMap(wordsOf)
  const before = await store.pairIds([...labels.flatMap(({ keys }) => keys), ...tied])
  // what a judge of the same name said is no person's word
  const words = new Map([...before].filter(([, label]) => byPerson(label)))
  const last = new Map(labels.map((label) => [label.of ?? label.row.id, label]))
  const corrections = [...last.values()].flatMap(({ row, keys, of }) => {
    const [id, ...superseded] = keys.flatMap((key) => words.get(key)?.id ?? [])
    return id === undefined || of === null ? [] : [{ id, row, superseded }]
  })
  const corrected = new Set(corrections.map(({ row }) => row))
  await store.correctPairs(corrections)
  await store.withdrawPairs(tied.flatMap((key) => words.get(key)?.id ?? []))
  await store.addPairs([...last.values()].flatMap(({ row }) => (corrected.has(row) ? [] : [row])))
  const after = await store.pairIds(labels.map(({ row }) => row.fingerprint ?? ''))
  const latest = new Map([...last.values()].map(({ of, row }) => [of, row.fingerprint ?? '']))
  const ids = labels.map(({ row, of }) => {
    const key = of === null ? row.fingerprint : latest.get(of)
    return after.get(key ?? '')?.id ?? row.id
  })
  const known = new Set([...before.values()].map(({ id }) => id))
  return {
    ids,
    added: new Set(ids.filter((id) => !known.has(id))).size,
    contradicted: contradictions(labels, words),
  }
}

/** How many words of persons, in order, prefer the other answer than the word before: in `before` or among them. */
function contradictions(
  labels: readonly { pair: PreferenceRow; of: string | null }[],
  before: ReadonlyMap<string, unknown>,
): number {
  const preferred = new Map<string, string>()
  const stored = (pair: PreferenceRow): boolean =>
    before.has(wordOf(pair)) || before.has(labelOf(pair))
  return labels.filter(({ pair, of }) => {
    if (of === null) return false
    const first = !stored(pair) && stored(turnedAround(pair)) ? pair.rejected : pair.chosen
    const said = preferred.get(of) ?? first
    preferred.set(of, pair.chosen)
    return said !== pair.chosen
  }).length
}

const record = (pair: PreferenceRow, run: string | null, key: string): PreferenceRecord => ({
  ...{ id: newId('pref'), axis: pair.axis, prompt: pair.prompt, run, createdAt: Date.now() },
  ...{ chosen: pair.chosen, rejected: pair.rejected, source: pair.source ?? 'unknown' },
  ...{ strength: pair.strength ?? null, probability: pair.probability ?? null },
  ...{ chosenSafe: pair.chosen_safe ?? null, rejectedSafe: pair.rejected_safe ?? null },
  ...{ annotator: pair.annotator ?? null, annotatorKind: pair.annotator_kind ?? null },
  ...{ judgeVersion: pair.judge_version ?? null, promptVersion: pair.prompt_version ?? null },
  ...{ orders: pair.orders ?? null, principle: pair.principle ?? null },
  ...{ rationale: pair.rationale ?? null, ranking: pair.ranking ?? null },
  fingerprint: key,
})

type Said = { pairs: PreferenceRow[]; ties: PreferenceRow[] }

/** The pairs that words leave to be stored, and those that people who give a name tie: of each two answers the last word. */
function lastWords(words: readonly Word[]): Said {
  const heard = words
    .filter(({ pair, tied }) => !tied || isNamed(pair, null))
    .map((word) => {
      const of = isNamed(word.pair, null) ? wordOf : labelOf
      return { ...word, of: eitherWay(word.pair, of).toSorted().join() }
    })
  const last = new Map(heard.map((word) => [word.of, word]))
  return {
    pairs: heard.filter(({ of, tied }) => !tied && last.get(of)?.tied === false).map(pairOf),
    ties: [...last.values()].filter(({ tied }) => tied).map(pairOf),
  }
}
const pairOf = ({ pair }: Word): PreferenceRow => pair

/**
 * What a request stores: its pairs, and those of its rankings; and what it takes back. Throws `invalid_request` where there
 * is nothing of either.
 */
export function toPairs({ preferences, rankings }: z.output<typeof PreferencesRequest>): Said {
  const given = preferences.map((pair) => ({ pair: rightWayRound(pair), tied: false }))
  const said = lastWords([...given, ...rankings.flatMap(rankedWords)])
  if (said.pairs.length + said.ties.length > 0) return said
  throw new LibraError(
    'invalid_request',
    'preferences: no pair, and no ranking that tells any apart',
    {
      details: { field: 'preferences' },
    },
  )
}

export type Imported = {
  rows: number
  /** by layout */
  formats: Record<string, number>
  stored: number
  /** labels that were there before, or twice in the file, or correct such a one */
  duplicates: number
  /** of these, that say the opposite of the same person's word before, by whatever source it came */
  contradicted: number
  /** rows that hold no preference: ties, equal scores, equal answers */
  without: number
  errors: { line: number; code: string; message: string }[]
}

/**
 * Reads an uploaded file of pairs in any known layout, row by row. A row that can't be read is named by its line and
 * left out; the others are stored. Throws `file_not_found`, `empty_data`; `invalid_data` where the file is not UTF-8.
 */
export async function importPairs(
  services: Services,
  { file, axis, source, annotator, annotator_kind }: z.output<typeof ImportRequest>,
): Promise<Imported & { pairs: PreferenceRow[]; ids: string[] }> {
  const { filename } = await services.files.get(file)
  const { text } = await services.files.text(file)
  // our own rows may have null there: what the request says counts then
  const by = (pair: PreferenceRow): PreferenceRow => ({
    ...{ ...pair, source: pair.source ?? source ?? filename },
    annotator: pair.annotator ?? annotator,
    annotator_kind: pair.annotator_kind ?? annotator_kind,
  })
  const result: Imported = {
    ...{ rows: 0, formats: {}, stored: 0, duplicates: 0, contradicted: 0, without: 0, errors: [] },
  }
  const words: Word[] = []
  for (const [i, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue
    result.rows++
    try {
      const read = readWords(parseLine(line), axis)
      result.formats[read.format] = (result.formats[read.format] ?? 0) + 1
      if (read.words.every(({ tied }) => tied)) result.without++
      words.push(...read.words.map(({ pair, tied }) => ({ pair: by(pair), tied })))
    } catch (error) {
      if (!(error instanceof LibraError)) throw error
      result.errors.push({ line: i + 1, code: error.code, message: error.message })
    }
  }
  if (result.rows === 0) throw new LibraError('empty_data', `${file} (${filename}) is empty`)
  const { pairs, ties } = lastWords(words)
  const { ids, added, contradicted } = await storePairs(services, pairs, null, ties)
  result.stored = added
  result.contradicted = contradicted
  result.duplicates = words.filter(({ tied }) => !tied).length - added
  return { ...result, pairs, ids }
}

function parseLine(line: string): unknown {
  try {
    return JSON.parse(line)
  } catch (cause) {
    throw new LibraError('invalid_data', 'not JSON', { cause })
  }
}

/** Whether a stored pair is in the part of the store that an export asks for. */
export const inPart = (
  pair: PreferenceRecord,
  { split, seed, test_share: share, annotator_kind: kind }: z.output<typeof ExportQuery>,
): boolean =>
  (split === undefined || splitOf(pair.prompt, { seed, share }) === split) &&
  (kind === undefined || byPerson(pair) === (kind === 'person'))

/** Which side of a split a pair falls on: all pairs of a conversation on one, whatever else is there. */
export function splitOf(
  prompt: PreferenceRow['prompt'],
  { seed, share }: { seed: number; share: number },
): 'train' | 'test' {
  const hash = createHash('sha256')
    .update(`${seed}\n${conversationKey({ prompt })}`)
    .digest()
  return hash.readUIntBE(0, 6) / 2 ** 48 < share ? 'test' : 'train'
}

export type Agreement = {
  axis: Axis
  judge: string
  judge_version: string | null
  prompt_version: string | null
  pairs: number
  figures: Figure[]
}

/** Each judge beside people on the pairs that both have labelled: the newest word of each person and of the judge. */
export async function agreementWithPeople(services: Services, seed: number): Promise<Agreement[]> {
  const found: Agreement[] = []
  for (const axis of AXES) {
    const pairs = await services.store.pairsOf(axis)
    const people = new Map<string, Map<string, PreferenceRecord>>()
    const judges = new Map<string, Map<string, PreferenceRecord>>()
    for (const pair of pairs) {
      const both = comparedIn(pair)
      const who = JSON.stringify([
        pair.annotator ?? pair.source,
        pair.judgeVersion,
        pair.promptVersion,
      ])
      if (byPerson(pair)) people.set(both, (people.get(both) ?? new Map()).set(who, pair))
      else judges.set(who, (judges.get(who) ?? new Map()).set(both, pair))
    }
    for (const [who, labels] of judges) {
      const doubly = [...labels].flatMap(([both, pair]) =>
        [...(people.get(both)?.values() ?? [])].map((person) => ({ person, pair })),
      )
      if (doubly.length === 0) continue
      const [judge = '', version = null, prompts = null] = JSON.parse(who) as (string | null)[]
      found.push({
        ...{ axis, judge: judge ?? '', judge_version: version, prompt_version: prompts },
        pairs: doubly.length,
        figures: agreementFigures(axis, doubly, seed),
      })
    }
  }
  return found
}

type Labelled = Pick<PreferenceRow, 'prompt' | 'chosen' | 'rejected' | 'probability' | 'orders'>

/** How a judge's labels stand to people's on the same pairs. */
export function agreementFigures(
  axis: Axis,
  doubly: readonly { person: Labelled; pair: Labelled }[],
  seed: number,
): Figure[] {
  // sides by the texts and not by the label: where people always say `a`, κ is nothing
  const rows = doubly.map(({ person: { prompt, chosen, rejected } }): LabelledPair => {
    const [a = '', b = ''] = [chosen, rejected].sort()
    return { axis, prompt, a, b, label: a === chosen ? 'a' : 'b' }
  })
  const verdicts = doubly.map(({ pair }, i) => verdictFor(rows[i]?.a ?? '', pair))
  return auditFigures(rows, verdicts, seed, { self: null, before: null })
}

/** A judge's label as its verdict on a pair whose first answer is `a`. */
function verdictFor(a: string, pair: Labelled): Verdict {
  const turned = a !== pair.chosen
  const turn = (p: number | null): number | null => (p === null || !turned ? p : 1 - p)
  const probability = turn(pair.probability ?? 1) ?? NaN
  const [first = null, second = null] = pair.orders ?? []
  // of an exchanged pair the order in which it was shown first is the other one
  const orders = turned ? ([turn(second), turn(first)] as const) : ([first, second] as const)
  const consistent =
    orders[0] === null || orders[1] === null ? null : orders[0] > 0.5 === orders[1] > 0.5
  return {
    ...{ ok: true, probability, orders, consistent, strength: strengthOf(probability) },
    ...{ soft: pair.probability != null, cached: false },
  }
}
