/** Right-padded rows of token ids. ids [B·T], lengths [B]. */
export type Batch = { ids: Int32Array; B: number; T: number; lengths: Int32Array; rows: number[] }

const ROUND = 8

/** Pads rows to a common length, a multiple of eight so that shapes recur. `rows` names the source rows. */
export function padRows(
  sequences: readonly ArrayLike<number>[],
  rows: number[],
  padId: number,
): Batch {
  const lengths = Int32Array.from(rows, (row) => sequences[row]?.length ?? 0)
  const T = Math.max(ROUND, Math.ceil(Math.max(...lengths) / ROUND) * ROUND)
  const ids = new Int32Array(rows.length * T).fill(padId)
  rows.forEach((row, b) => ids.set(sequences[row] ?? [], b * T))
  return { ids, B: rows.length, T, lengths, rows }
}

/**
 * Cuts rows into batches of similar length whose padded size stays within `tokens`: sorting by length
 * is what keeps mixed texts cheap. Order inside is by length, ties by row: the same rows give the same batches.
 */
export function batchByLength(
  sequences: readonly ArrayLike<number>[],
  tokens: number,
  padId: number,
  order?: readonly number[],
): Batch[] {
  const rows = (order ?? sequences.map((_, i) => i)).slice()
  rows.sort((a, b) => (sequences[a]?.length ?? 0) - (sequences[b]?.length ?? 0) || a - b)
  const batches: Batch[] = []
  let current: number[] = []
  for (const row of rows) {
    const length = Math.ceil(Math.max(1, sequences[row]?.length ?? 0) / ROUND) * ROUND
    if (current.length > 0 && (current.length + 1) * length > tokens) {
      batches.push(padRows(sequences, current, padId))
      current = []
    }
    current.push(row)
  }
  if (current.length > 0) batches.push(padRows(sequences, current, padId))
  return batches
}

/** Index of each row's last real token in the flattened hidden states. [B] */
export const lastPositions = (batch: Batch): Int32Array =>
  Int32Array.from(batch.lengths, (length, b) => b * batch.T + length - 1)
