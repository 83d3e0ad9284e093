import { LibraError } from '../errors.ts'
import { permutation } from '../random.ts'
import type { Axis, PreferenceRow } from '../schemas/feedback.ts'
import type { RlaifOptions } from '../schemas/rlaif.ts'

const SOMEBODY = 'unnamed'
const sourceOf = ({ source }: PreferenceRow): string => source ?? SOMEBODY
/** A soft label this close to ½ says that neither answer is better. */
const TIE = 0.05

/** What a reward model is trained on, in figures. */
export type DataFigures = {
  pairs: number
  /** pairs that were there and are not trained on, because the mix does not ask for them */
  left_out: number
  by_source: Record<string, { pairs: number; share: number }>
  /** pairs whose soft label is ½ within 0.05: they pull both rewards together */
  ties: number
  /** pairs without strength: their margin is that of the weakest */
  without_strength: number
  /** pairs without an absolute label: the auxiliary loss leaves them out */
  without_safety_labels: number
}
/** The same in a loop, of the pairs that are none of its own making. */
export type LoopData = DataFigures & {
  /** pairs of its own making beside them */
  counterfactuals: number
  /** new pairs that train nothing, because they are of the conversations of the reference answers */
  of_references: number
}

type Shares = Readonly<Record<string, number>>
/** What a loop's option names for an axis; a share of 0 names nothing. */
export function sharesOf(mix: RlaifOptions['mix'], axis: Axis): Shares | undefined {
  const shares = mix?.[axis]
  if (shares == null) return undefined
  return Object.fromEntries(Object.entries(shares).filter(([, share]) => share > 0))
}

/** As many rows as there can be with the wanted shares (which sum to 1), drawn from a seed. */
export function drawShares<T>(
  sources: readonly { rows: readonly T[]; share: number }[],
  seed: number,
): T[][] {
  const size = Math.min(...sources.map(({ rows, share }) => rows.length / share))
  return sources.map(({ rows, share }, s) =>
    Array.from(permutation(rows.length, seed, 45, s).slice(0, Math.round(size * share))).flatMap(
      (i) => rows[i] ?? [],
    ),
  )
}

/**
 * The pairs that a mix for an axis draws from: those of the axis, and those of the other one whose source has none of the
 * axis. A judge labels both axes under one name, and what it prefers on the other one may be worse on this one.
 */
export function mixable(pairs: readonly PreferenceRow[], axis: Axis): PreferenceRow[] {
  const own = new Set(pairs.filter((pair) => pair.axis === axis).map(sourceOf))
  return pairs.filter((pair) => pair.axis === axis || !own.has(sourceOf(pair)))
}

/** Throws `empty_data` naming the source that is named at `field` and that no pair has. */
export function requireSources(
  named: readonly string[],
  known: ReadonlySet<string>,
  field: string,
): void {
  const missing = named.find((source) => !known.has(source))
  if (missing === undefined) return
  throw new LibraError(
    'empty_data',
    `${field}: no pair of source ${JSON.stringify(missing)}; there are ${[...known].join(', ')}`,
    { details: { field } },
  )
}

/**
 * As many pairs as there can be with the wanted shares by source, drawn from a seed; pairs of the other axis take part
 * where their source is named and has none of the axis. Without a mix: all pairs of the axis. Throws `empty_data` naming
 * a source without pairs; `field` is where the mix stands.
 */
export function mixPairs(
  pairs: readonly PreferenceRow[],
  axis: Axis,
  mix: Shares | undefined,
  seed: number,
  field = 'mix',
): { rows: PreferenceRow[]; left_out: number } {
  const own = pairs.filter((pair) => pair.axis === axis)
  if (mix === undefined) return { rows: own, left_out: 0 }
  const usable = mixable(pairs, axis)
  requireSources(Object.keys(mix), new Set(pairs.map(sourceOf)), field)
  const total = Object.values(mix).reduce((a, b) => a + b, 0)
  const sources = Object.entries(mix).map(([source, share]) => {
    const rows = usable.filter((pair) => sourceOf(pair) === source)
    return { rows, share: share / total }
  })
  const rows = drawShares(sources, seed).flat()
  const there = new Set([...own, ...sources.flatMap((source) => source.rows)]).size
  return { rows: rows.map((row) => ({ ...row, axis })), left_out: there - rows.length }
}

/** The pairs of a model's own axis that a mix names: what calibrates it is of these. All of them where it names none. */
export function ownPairs(
  pairs: readonly PreferenceRow[],
  axis: Axis,
  mix: Shares | undefined,
): PreferenceRow[] {
  const own = pairs.filter((pair) => pair.axis === axis)
  const named = own.filter((pair) => mix !== undefined && Object.hasOwn(mix, sourceOf(pair)))
  return named.length > 0 ? named : own
}

export function dataFigures(rows: readonly PreferenceRow[], left_out: number): DataFigures {
  const by_source: DataFigures['by_source'] = {}
  for (const row of rows) {
    const entry = (by_source[sourceOf(row)] ??= { pairs: 0, share: 0 })
    entry.pairs++
    entry.share = entry.pairs / rows.length
  }
  const count = (has: (row: PreferenceRow) => boolean): number => rows.filter(has).length
  return {
    ...{ pairs: rows.length, left_out, by_source },
    ties: count(({ probability: p }) => p != null && Math.abs(p - 0.5) <= TIE),
    without_strength: count(({ strength }) => strength == null),
    without_safety_labels: count((row) => row.chosen_safe == null && row.rejected_safe == null),
  }
}
