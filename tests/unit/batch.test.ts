import { expect, test } from 'vitest'
import { packRows } from '../../src/model/batch.ts'
import type { Pack } from '../../src/model/batch.ts'
import { uniform } from '../../src/random.ts'

const numbers = (n: number, seed: number): number[] =>
  Array.from({ length: n }, (_, i) => 1 + Math.floor(1000 * uniform(seed, i)))
/** Lengths of real dialogues of HH-RLHF in tokens of an 8,192-word vocabulary, cut at 256. */
const HH = [
  38, 256, 144, 256, 167, 256, 256, 114, 256, 85, 114, 256, 159, 222, 256, 256, 98, 189, 256, 256,
  129, 64, 256, 131, 97, 193, 75, 122, 159, 256, 256, 214, 256, 34, 256, 256, 111, 73, 131, 226,
]

/** What a pack says that its rows are, read back through `at`. */
const contents = (pack: Pack, sequences: number[][]): Map<number, number[]> =>
  new Map(
    pack.rows.map((row, i) => [
      row,
      (sequences[row] ?? []).map((_, t) => pack.ids[pack.at(i, t)] ?? -1),
    ]),
  )

test('padding is less than a tenth of real text, however passes are cut', () => {
  const sequences = HH.map((n, i) => numbers(n, i))
  const tokens = HH.reduce((a, b) => a + b)
  for (const budget of [256, 512, 1024, 8192]) {
    const packs = packRows(sequences, budget)
    const padded = packs.reduce((n, { count }) => n + count, 0)
    expect(1 - tokens / padded, `passes of ${budget}`).toBeLessThan(0.1)
    expect(packs.flatMap(({ rows }) => rows).sort((a, b) => a - b)).toEqual([...HH.keys()])
    for (const pack of packs)
      for (const [row, ids] of contents(pack, sequences)) expect(ids).toEqual(sequences[row])
  }
})

test('answers to one prompt stand on one copy of it; each keeps a token of its own', () => {
  const prompt = numbers(50, 1)
  const sequences = [
    [...prompt, 1, 2, 3],
    numbers(20, 2),
    [...prompt, 4],
    prompt, // all of it is the beginning of the others
    [...prompt, 1, 2, 3], // twice the same
  ]
  const [pack, ...more] = packRows(sequences, 1000, { shared: true })
  expect(more).toEqual([])
  if (pack === undefined) return
  for (const [row, ids] of contents(pack, sequences)) expect(ids).toEqual(sequences[row])
  const real = pack.lasts.at(-1) ?? 0
  expect(real + 1).toBe(20 + 49 + 4 + 2 + 1 + 4)
  // positions go on where the shared beginning ends
  pack.ends.forEach((s, i) => {
    const [, length = 0, parent = -1, position = 0] = pack.segments.subarray(4 * s)
    expect(position + length).toBe(sequences[pack.rows[i] ?? -1]?.length)
    expect(position).toBe(parent < 0 ? 0 : 49)
  })
})

test('a family that a pass does not hold is cut', () => {
  const prompt = numbers(60, 1)
  const sequences = Array.from({ length: 10 }, (_, i) => [...prompt, ...numbers(20, 10 + i)])
  const packs = packRows(sequences, 128, { shared: true })
  expect(packs.every(({ count }) => count <= 128)).toBe(true)
  expect(packs.flatMap(({ rows }) => rows).length).toBe(10)
})
