import { dispose, scoped, tf } from '../tensor/backend.ts'
import type { Tensor } from '../tensor/backend.ts'
import { fused } from '../tensor/fused.ts'
import type { AttentionTape, Fused } from '../tensor/fused.ts'
import { gatherRows, ints, scatterRows } from '../tensor/ops.ts'
import type { Pack } from './batch.ts'
import { block, blockBackward, weight } from './block.ts'
import type { BlockTape, Gradients, Llama, Trainable } from './block.ts'

export { block, weight } from './block.ts'
export type { Gradients, Llama, LoraPair, Trainable } from './block.ts'

/** The trunk of blocks: see block.ts for shapes. */

// --- the trunk -------------------------------------------------------------------------------

export type ForwardOptions = {
  /** Hidden states of the last token of each segment alone: the last layer leaves out what only others need. */
  last?: boolean
  /** Keep each block's input alone and compute the block again for its gradient: less memory, a third more time. */
  checkpoint?: boolean
}

/** A forward pass whose gradient may be asked for. Dispose it with `disposeTape`. */
export type TrunkTape = {
  /** final hidden states after the last norm, [N, D]; with `last` [S, D] */
  hidden: Tensor
  ids: Tensor
  layout: Layout
  blocks: { x: Tensor; tape: BlockTape<AttentionTape> | null }[]
  end: Tensor
  inverse: Tensor
}
type Layout = {
  count: number
  segments: Tensor
  host: Int32Array
  angles: Tensor
  /** with `last`: the rows of the last layer */
  lasts: Tensor | null
}

export function layoutOf(model: Llama, pack: Pack, last: boolean): Layout {
  const S = pack.segments.length / 4
  let positions = 1
  for (let s = 0; s < S; s++)
    positions = Math.max(
      positions,
      (pack.segments[4 * s + 1] ?? 0) + (pack.segments[4 * s + 3] ?? 0),
    )
  return {
    ...{ count: pack.count, host: pack.segments, segments: ints(pack.segments, [S, 4]) },
    angles: model.rope.angles(positions),
    lasts: last ? ints(pack.lasts, [S]) : null,
  }
}

const attendOver =
  (model: Llama, layout: Layout) =>
  (layer: number, q: Tensor, k: Tensor, v: Tensor): AttentionTape => {
    const { heads, kvHeads, headDim: width, layers, sliding, rotary, slidingWindow } = model.config
    const { count, host, segments } = layout
    return fused.attention(
      {
        ...{ heads, kvHeads, width, segments, rows: { count, segments: host } },
        angles: rotary[layer] === true ? layout.angles : null,
        window: sliding[layer] === true ? (slidingWindow ?? 0) : 0,
        last: layout.lasts !== null && layer === layers - 1,
      },
      ...([q, k, v] as const),
    )
  }
const onlyRows = (model: Llama, layout: Layout, layer: number): Tensor | null =>
  layer === model.config.layers - 1 ? layout.lasts : null

export const blockOver = (model: Llama, layer: number, x: Tensor, layout: Layout) =>
  block(model, layer, x, attendOver(model, layout), { only: onlyRows(model, layout, layer) })

/** Hidden states of a pack's tokens with what backward needs. */
export function forward(model: Llama, pack: Pack, options: ForwardOptions = {}): TrunkTape {
  return scoped(() => {
    const ids = ints(pack.ids, [pack.count])
    const layout = layoutOf(model, pack, options.last === true)
    let x = gatherRows(weight(model, 'model.embed_tokens.weight'), ids)
    const blocks: TrunkTape['blocks'] = []
    for (let layer = 0; layer < model.config.layers; layer++) {
      const before = x
      const { y, tape } = scoped(() => {
        const { y, tape } = blockOver(model, layer, before, layout)
        return { y, tape: options.checkpoint === true ? null : tape }
      })
      blocks.push({ x: before, tape })
      x = y
    }
    const { y: hidden, inverse } = lastNorm(model, x)
    return { hidden, ids, layout, blocks, end: x, inverse }
  })
}
export const lastNorm = (
  model: Llama,
  x: Tensor,
  ops: Fused = fused,
): { y: Tensor; inverse: Tensor } =>
  ops.rmsNorm(x, weight(model, 'model.norm.weight'), model.config.rmsNormEpsilon)

export function disposeTape(tape: TrunkTape): void {
  dispose(tape)
}

/** The same hidden states without a tape: memory of one block at a time. */
export function hiddenStates(
  model: Llama,
  pack: Pack,
  options: Pick<ForwardOptions, 'last'> = {},
): Tensor {
  return tf.tidy(() => {
    const layout = layoutOf(model, pack, options.last === true)
    let x = gatherRows(weight(model, 'model.embed_tokens.weight'), ints(pack.ids, [pack.count]))
    for (let layer = 0; layer < model.config.layers; layer++) {
      const before = x
      x = tf.tidy(() => blockOver(model, layer, before, layout).y)
      before.dispose()
    }
    return lastNorm(model, x).y
  })
}

/** dHidden → gradients of the trainable weights, by name. */
export function backward(
  model: Llama,
  tape: TrunkTape,
  dHidden: Tensor,
  trainable: Trainable,
): Gradients {
  const gradients: Gradients = new Map()
  const all = trainable === 'all'
  let d: Tensor | null = tf.tidy(() => {
    const w = weight(model, 'model.norm.weight')
    const options = { skip: null, weight: all }
    const { dx, dw } = fused.rmsNormGrad(dHidden, tape.end, w, tape.inverse, options)
    if (dw !== null) gradients.set('model.norm.weight', tf.keep(dw))
    return dx
  })
  const lowest = all ? -1 : lowestAdapted(model)
  for (let layer = model.config.layers - 1; layer >= lowest && layer >= 0 && d !== null; layer--) {
    const above: Tensor = d
    const only = onlyRows(model, tape.layout, layer)
    const { x, tape: kept } = tape.blocks[layer] ?? {}
    if (x === undefined) throw new Error(`no tape for layer ${layer}`)
    d = scoped(() => {
      const own: Gradients = new Map()
      const blockTape = kept ?? blockOver(model, layer, x, tape.layout).tape
      const wanted = { trainable, gradients: own, input: layer > lowest }
      const dx = blockBackward(model, layer, above, blockTape, wanted, only)
      for (const [key, value] of own) gradients.set(key, tf.keep(value))
      return dx
    })
    above.dispose()
  }
  if (all && d !== null) {
    const [V = 0] = weight(model, 'model.embed_tokens.weight').shape
    gradients.set('model.embed_tokens.weight', scatterRows(d, tape.ids, V))
  }
  d?.dispose()
  return gradients
}

/** The layer below which an adapter needs no gradient. */
export function lowestAdapted(model: Llama): number {
  const layers = [...(model.adapter?.keys() ?? [])].map((module) => Number(module.split('.')[2]))
  return Math.min(model.config.layers, ...layers)
}
