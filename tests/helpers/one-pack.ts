import { packRows } from '../../src/model/batch.ts'
import type { Pack } from '../../src/model/batch.ts'

/** All sequences in one pass, what they share once. */
export function onePack(sequences: readonly (readonly number[])[]): Pack {
  const [pack, ...more] = packRows(sequences, Infinity, { shared: true })
  if (pack === undefined || more.length > 0) throw new Error('not one pass')
  return pack
}
