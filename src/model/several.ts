import { scoped, tf } from '../tensor/backend.ts'
import type { Tensor } from '../tensor/backend.ts'
import { concat, gatherRows, ints, slice } from '../tensor/ops.ts'
import type { Pack } from './batch.ts'
import { blockOver, lastNorm, layoutOf, lowestAdapted, weight } from './llama.ts'
import type { Llama } from './llama.ts'

/** The same pack several times, one after the other. */
function repeated(pack: Pack, times: number): Pack {
  const { count, ids, segments, ends, lasts, rows } = pack
  const S = lasts.length
  const each = (list: Int32Array, by: number): Int32Array =>
    Int32Array.from({ length: list.length * times }, (_, i) => {
      const copy = Math.floor(i / list.length)
      return (list[i % list.length] ?? 0) + copy * by
    })
  const shifted = Int32Array.from({ length: segments.length * times }, (_, i) => {
    const copy = Math.floor(i / segments.length)
    const [value = 0, field] = [segments[i % segments.length], i % 4]
    if (field === 0) return value + copy * count // start
    return field === 2 && value >= 0 ? value + copy * S : value // parent
  })
  return {
    ...{ count: count * times, ids: each(ids, 0), segments: shifted, rows },
    ...{ ends: each(ends, S), lasts: each(lasts, count) },
    at: (i, t) => pack.at(i, t),
    place: (i) => pack.place(i),
  }
}

/**
 * Hidden states of the last token of each segment [S, D] (or of all tokens [N, D]) under each of several models that share their base: what lies
 * below all adapters is computed once, and from there on the pass holds its tokens once for each model, so that the
 * weights are gone through once.
 */
export function hiddenStatesEach(
  models: readonly Llama[],
  pack: Pack,
  { last = true }: { last?: boolean } = {},
): Tensor[] {
  const [first] = models
  if (first === undefined) return []
  return scoped(() => {
    const { layers } = first.config
    const lowest = Math.min(layers - 1, ...models.map(lowestAdapted))
    let x = gatherRows(weight(first, 'model.embed_tokens.weight'), ints(pack.ids, [pack.count]))
    const step = (model: Llama, layer: number, layout: ReturnType<typeof layoutOf>): void => {
      const before = x
      x = tf.tidy(() => blockOver(model, layer, before, layout).y)
      before.dispose()
    }
    const alone = lowest > 0 ? layoutOf(first, pack, false) : null
    if (alone !== null)
      for (let layer = 0; layer < lowest; layer++) step({ ...first, adapter: null }, layer, alone)
    x = concat(
      models.map(() => x),
      0,
    )
    const together = layoutOf(first, repeated(pack, models.length), last)
    const model = { ...first, adapter: null, parts: models.map(({ adapter }) => adapter) }
    for (let layer = lowest; layer < layers; layer++) step(model, layer, together)
    const all = lastNorm(first, x).y
    const [, D = 0] = all.shape
    const S = last ? pack.lasts.length : pack.count
    return models.map((_, i) => slice(all, [i * S, 0], [S, D]))
  })
}
