import type { Placed } from '../schemas/model.ts'
import type { Rows } from '../tensor/fused.ts'

/** Right-padded rows of token ids. ids [B·T], lengths [B]. */
export type Batch = { ids: Int32Array; B: number; T: number; lengths: Int32Array; rows: number[] }

/** Lengths are padded to multiples of so many. */
export const ROUND = 8
export const roundUp = (n: number, unit: number): number => Math.ceil(n / unit) * unit

/** Pads rows to a common length, a multiple of eight so that shapes recur. `rows` names the source rows. */
export function padRows(
  sequences: readonly ArrayLike<number>[],
  rows: number[],
  padId: number,
): Batch {
  const lengths = Int32Array.from(rows, (row) => sequences[row]?.length ?? 0)
  const T = Math.max(ROUND, roundUp(Math.max(...lengths), ROUND))
  const ids = new Int32Array(rows.length * T).fill(padId)
  rows.forEach((row, b) => ids.set(sequences[row] ?? [], b * T))
  return { ids, B: rows.length, T, lengths, rows }
}

/** Index of each row's last real token in the flattened hidden states. [B] */
export const lastPositions = (batch: Batch): Int32Array =>
  Int32Array.from(batch.lengths, (length, b) => b * batch.T + length - 1)

/**
 * Sequences of one pass, one after the other without padding; those of a family stand on the prompt that they share,
 * which is there once.
 */
export type Pack = Rows & {
  /** [count]; a few zeros at the end, so that shapes recur */
  ids: Int32Array
  /** the source row of each sequence */
  rows: number[]
  /** where the i-th sequence lies */
  place(i: number): Placed
  /** where token t of the i-th sequence lies */
  at(i: number, t: number): number
  /** the segment that each sequence ends in */
  ends: Int32Array
  /** where each segment ends */
  lasts: Int32Array
}

/** A pass in which one sequence lies where it lay in another, among zeros. */
export function packAt(ids: readonly number[], placed: Placed): Pack {
  const { count, prefixAt, prefix, at, end, trunk } = placed
  const all = new Int32Array(count)
  const segments: number[] = []
  let next = 0
  /** Zeros up to a row, in segments up to a number. */
  const fill = (row: number, number: number): void => {
    for (let left = number - segments.length / 4; left > 0; left--) {
      const length = Math.floor((row - next) / left)
      segments.push(next, length, -1, 0)
      next += length
    }
    next = row
  }
  const put = (from: number, to: number, parent: number): void => {
    segments.push(next, to - from, parent, from)
    for (let t = from; t < to; t++) all[next++] = ids[t] ?? 0
  }
  if (prefix > 0) {
    fill(prefixAt, trunk)
    put(0, prefix, -1)
  }
  fill(at, end)
  put(prefix, ids.length, prefix > 0 ? trunk : -1)
  fill(count, placed.segments)
  return {
    ...{ count, ids: all, rows: [0], segments: Int32Array.from(segments) },
    ...{ ends: Int32Array.from([end]), lasts: lastsOf(segments) },
    at: (_, t) => (t < prefix ? prefixAt + t : at + t - prefix),
    place: () => placed,
  }
}

/** The last row of each segment. */
const lastsOf = (segments: readonly number[]): Int32Array =>
  Int32Array.from(
    { length: segments.length / 4 },
    (_, s) => (segments[4 * s] ?? 0) + (segments[4 * s + 1] ?? 0) - 1,
  )

export type PackOptions = {
  /** the sequences to take; default: all */
  order?: readonly number[]
  /** whether the beginning that sequences share is computed once */
  shared?: boolean
}

/** A shared beginning shorter than this is not worth a segment of its own. */
const SHORTEST_SHARED = 8

/**
 * Cuts sequences into passes of at most `tokens` tokens (a longer one is a pass by itself), those of similar length
 * together. The same sequences give the same passes.
 */
export function packRows(
  sequences: readonly ArrayLike<number>[],
  tokens: number,
  { order, shared = false }: PackOptions = {},
): Pack[] {
  const rows = order ?? sequences.map((_, i) => i)
  const families = shared
    ? familiesOf(sequences, rows, tokens)
    : rows.map((row): Family => ({ rows: [row], prefix: 0 }))
  const longest = ({ rows }: Family): number =>
    Math.max(...rows.map((row) => lengthOf(sequences, row)))
  const sorted = families
    .map((family) => ({ family, longest: longest(family) }))
    .sort((a, b) => a.longest - b.longest || (a.family.rows[0] ?? 0) - (b.family.rows[0] ?? 0))
  const passes: Family[][] = []
  let [pass, size]: [Family[], number] = [[], 0]
  for (const { family } of sorted) {
    const own = sizeOf(sequences, family)
    if (pass.length === 0 || size + own > tokens) {
      passes.push((pass = []))
      size = 0
    }
    pass.push(family)
    size += own
  }
  return passes.map((pass) => packOf(sequences, pass))
}

type Family = { rows: number[]; prefix: number }

const lengthOf = (sequences: readonly ArrayLike<number>[], row: number): number =>
  sequences[row]?.length ?? 0
const sizeOf = (sequences: readonly ArrayLike<number>[], { rows, prefix }: Family): number =>
  rows.reduce((n, row) => n + lengthOf(sequences, row) - prefix, prefix)

/** Rows in lexical order, cut where joining the next one would no longer save tokens. */
function familiesOf(
  sequences: readonly ArrayLike<number>[],
  rows: readonly number[],
  tokens: number,
): Family[] {
  const sorted = rows.toSorted((a, b) => {
    const [x, y] = [sequences[a] ?? [], sequences[b] ?? []]
    const n = common(x, y)
    return (x[n] ?? -1) - (y[n] ?? -1) || a - b
  })
  const families: Family[] = []
  for (const row of sorted) {
    const family = families.at(-1)
    const next = sequences[row] ?? []
    if (family !== undefined) {
      const first = sequences[family.rows[0] ?? -1] ?? []
      const n = family.rows.length
      // every sequence keeps at least one token of its own
      const most = n === 1 ? first.length - 1 : family.prefix
      const prefix = Math.min(most, next.length - 1, common(first, next))
      const joined = { rows: [...family.rows, row], prefix }
      const saves = n * prefix > (n - 1) * family.prefix
      if (saves && prefix >= SHORTEST_SHARED && sizeOf(sequences, joined) <= tokens) {
        families[families.length - 1] = joined
        continue
      }
    }
    families.push({ rows: [row], prefix: 0 })
  }
  return families
}

function common(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const n = Math.min(a.length, b.length)
  let i = 0
  while (i < n && a[i] === b[i]) i++
  return i
}

function packOf(sequences: readonly ArrayLike<number>[], families: readonly Family[]): Pack {
  const size = families.reduce((n, family) => n + sizeOf(sequences, family), 0)
  const round = size <= 256 ? 8 : 64
  const count = Math.max(1, Math.ceil(size / round)) * round
  const ids = new Int32Array(count)
  const segments: number[] = []
  const [rows, ends, places]: [number[], number[], { own: number; prefix: number; at: number }[]] =
    [[], [], []]
  let next = 0
  const add = (tokens: ArrayLike<number>, from: number, to: number, parent: number): void => {
    segments.push(next, to - from, parent, from)
    for (let t = from; t < to; t++) ids[next++] = tokens[t] ?? 0
  }
  for (const { rows: members, prefix } of families) {
    const [trunk, start] = [segments.length / 4, next]
    if (prefix > 0) add(sequences[members[0] ?? -1] ?? [], 0, prefix, -1)
    for (const row of members) {
      const tokens = sequences[row] ?? []
      if (tokens.length === 0) continue
      rows.push(row)
      ends.push(segments.length / 4)
      places.push({ own: next, prefix, at: start })
      add(tokens, prefix, tokens.length, prefix > 0 ? trunk : -1)
    }
  }
  return {
    ...{ count, ids, rows, segments: Int32Array.from(segments), ends: Int32Array.from(ends) },
    lasts: lastsOf(segments),
    place(i) {
      const { own, prefix, at } = places[i] ?? { own: 0, prefix: 0, at: 0 }
      const end = ends[i] ?? 0
      const trunk = segments[4 * end + 2] ?? -1
      return { count, segments: segments.length / 4, at: own, end, prefix, prefixAt: at, trunk }
    },
    at(i, t) {
      const { own, prefix, at } = places[i] ?? { own: 0, prefix: 0, at: 0 }
      return t < prefix ? at + t : own + t - prefix
    },
  }
}
