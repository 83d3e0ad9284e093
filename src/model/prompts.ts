import { scoped, tf } from '../tensor/backend.ts'
import type { Tensor } from '../tensor/backend.ts'
import { concat, gatherRows, ints, reshape } from '../tensor/ops.ts'
import { lastPositions, ROUND, padRows, roundUp } from './batch.ts'
import { prefill } from './cached.ts'
import type { KeyValues } from './cached.ts'
import { logits } from './heads.ts'
import type { Llama } from './llama.ts'

/** What sampling starts from: keys and values of each layer, [B, K, P, E], and logits of the next token, [B, V]. */
export type Begun = { cache: KeyValues[]; next: Tensor; width: number }

/** Beside its tokens a pass costs about as much as so many of them. */
const PASS = 1024

/**
 * Cuts prompts into passes by length, so that what is padded and what passes cost by themselves is least together.
 * Within a pass prompts stand as they came; of prompts that are much alike there is one pass.
 */
export function passesOf(prompts: readonly ArrayLike<number>[]): number[][] {
  const byWidth = new Map<number, number[]>()
  prompts.forEach(({ length }, i) => {
    const width = Math.max(ROUND, roundUp(length, ROUND))
    const alike = byWidth.get(width)
    if (alike === undefined) byWidth.set(width, [i])
    else alike.push(i)
  })
  const widths = [...byWidth.keys()].sort((a, b) => a - b)
  // the least cost of the i shortest widths, and where the last of their passes begins
  const least = [{ cost: 0, from: 0 }]
  widths.forEach((width, last) => {
    let [count, best] = [0, { cost: Infinity, from: 0 }]
    for (let from = last; from >= 0; from--) {
      count += byWidth.get(widths[from] ?? 0)?.length ?? 0
      const cost = (least[from]?.cost ?? Infinity) + count * width + PASS
      if (cost < best.cost) best = { cost, from }
    }
    least.push(best)
  })
  const passes: number[][] = []
  for (let end = widths.length; end > 0; end = least[end]?.from ?? 0) {
    const own = widths
      .slice(least[end]?.from ?? 0, end)
      .flatMap((width) => byWidth.get(width) ?? [])
    passes.unshift(own.sort((a, b) => a - b))
  }
  return passes
}

/**
 * Reads the prompts of a batch: one that is there several times (the same array) once, long ones apart from short ones.
 * Slots behind the end of a prompt hold what nobody may look at, as padding does.
 */
export function readPrompts(model: Llama, prompts: readonly ArrayLike<number>[]): Begun {
  const different = [...new Set(prompts)]
  const passes = passesOf(different)
  return scoped(() => {
    const read = passes.map((rows) => readPass(model, different, rows))
    const [only] = read
    if (only === undefined) throw new Error('a batch has at least one prompt')
    const asTheyCame = read.length === 1 && different.length === prompts.length
    return asTheyCame ? only : inRows(model, prompts, { different, passes, read })
  })
}

const readPass = (model: Llama, prompts: readonly ArrayLike<number>[], rows: number[]): Begun =>
  scoped(() => {
    const batch = padRows(prompts, rows, 0)
    const { hidden, cache } = prefill(model, batch.ids, batch.B, batch.T)
    return { next: logits(model, hidden, lastPositions(batch)), cache, width: batch.T }
  })

type Passes = { different: readonly ArrayLike<number>[]; passes: number[][]; read: Begun[] }

/** What was read in passes, in the rows of the batch. */
function inRows(
  model: Llama,
  prompts: readonly ArrayLike<number>[],
  { different, passes, read }: Passes,
): Begun {
  const { kvHeads: K, headDim: E, layers } = model.config
  const B = prompts.length
  const P = Math.max(...read.map(({ width }) => width))
  // where each prompt lies: its place among all that were read, and the first row of its keys, of `width` to a head
  const places = new Map<ArrayLike<number>, { place: number; at: number; width: number }>()
  let [place, at] = [0, 0]
  passes.forEach((rows, pass) => {
    const width = read[pass]?.width ?? 0
    for (const row of rows) {
      places.set(different[row] ?? [], { place, at, width })
      place++
      at += K * width
    }
  })
  const source = new Int32Array(B * K * P)
  const order = Int32Array.from(prompts, (prompt, b) => {
    const { place = 0, at = 0, width = 0 } = places.get(prompt) ?? {}
    for (let k = 0; k < K; k++)
      for (let slot = 0; slot < width; slot++)
        source[(b * K + k) * P + slot] = at + k * width + slot
    return place
  })
  const index = ints(source, [source.length])
  const gathered = (parts: readonly Tensor[]): Tensor =>
    tf.tidy(() => {
      const rows = parts.map((part) => reshape(part, [part.size / E, E]))
      return reshape(gatherRows(concat(rows, 0), index), [B, K, P, E])
    })
  const cache = Array.from({ length: layers }, (_, layer) => {
    const own = read.flatMap((begun) => begun.cache[layer] ?? [])
    return { k: gathered(own.map(({ k }) => k)), v: gathered(own.map(({ v }) => v)) }
  })
  const all = concat(
    read.map(({ next }) => next),
    0,
  )
  return { cache, next: gatherRows(all, ints(order, [B])), width: P }
}
