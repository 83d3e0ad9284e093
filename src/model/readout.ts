import { LibraError } from '../errors.ts'
import type { ModelCard } from '../schemas/model.ts'
import { scoped, tf } from '../tensor/backend.ts'
import type { Tensor } from '../tensor/backend.ts'
import { concat, matMul, read } from '../tensor/ops.ts'
import { packRows } from './batch.ts'
import type { Pack } from './batch.ts'
import { SCORE_HEAD } from './heads.ts'
import { hiddenStates, weight } from './llama.ts'
import type { Llama } from './llama.ts'

/**
 * A readout: a reward model whose trunk is somebody else's and stays as it is. Of the first layers' hidden states h, after
 * the last norm, r = w·h_last + v·mean(h over the answer): a linear probe (Alain & Bengio 2016).
 */

/** Name of v, beside w = `score.weight`. */
export const MEAN_HEAD = 'score_mean.weight'

export const isReadout = (model: Llama): boolean => model.weights.has(MEAN_HEAD)

/** What a reward model reads: token ids, and where among them the answer begins. */
export type Scored = { ids: readonly number[]; answer: number }

/** The first layers of a model, its last norm above them. Nothing is copied. */
export const firstLayers = (model: Llama, layers: number): Llama => ({
  ...model,
  config: { ...model.config, layers },
})

/** The layers that a model's card says it reads. Throws `damaged_checkpoint` where there are fewer. */
export function cutBy(model: Llama, card: ModelCard | null, folder: string): Llama {
  const layers = card?.layers ?? model.config.layers
  if (layers > model.config.layers)
    throw new LibraError(
      'damaged_checkpoint',
      `${folder} reads ${layers} layers, its base has ${model.config.layers}`,
    )
  return firstLayers(model, layers)
}

/** Scores of a pass's sequences, in its order, from hidden states of all its tokens [N, D]. */
export function readoutScores(
  model: Llama,
  hidden: Tensor,
  pack: Pack,
  rows: readonly Scored[],
): number[] {
  const heads = scoped(() =>
    read(
      matMul(hidden, concat([weight(model, SCORE_HEAD), weight(model, MEAN_HEAD)], 0), false, true),
    ),
  )
  return pack.rows.map((row, i) => {
    const { ids, answer } = rows[row] ?? { ids: [], answer: 0 }
    const n = ids.length
    const from = Math.min(answer, n - 1)
    let sum = 0
    for (let t = from; t < n; t++) sum += heads[2 * pack.at(i, t) + 1] ?? NaN
    return (heads[2 * pack.at(i, n - 1)] ?? NaN) + sum / (n - from)
  })
}

/** What a readout learns from: of each sequence [h_last, mean h over the answer], 2·D, all in one pass. */
export function readoutFeatures(model: Llama, rows: readonly Scored[]): Float32Array[] {
  const D = model.config.hiddenSize
  const features = rows.map(() => new Float32Array(2 * D))
  for (const pack of packRows(
    rows.map(({ ids }) => ids),
    Infinity,
    { shared: true },
  )) {
    const tensor = tf.tidy(() => hiddenStates(model, pack))
    const hidden = read(tensor)
    tensor.dispose()
    pack.rows.forEach((row, i) => {
      const [of, { ids, answer }] = [features[row], rows[row] ?? { ids: [], answer: 0 }]
      if (of === undefined) return
      const n = ids.length
      const from = Math.min(answer, n - 1)
      const sums = new Float64Array(D)
      for (let t = from; t < n; t++) {
        const at = pack.at(i, t) * D
        for (let j = 0; j < D; j++) sums[j] = (sums[j] ?? 0) + (hidden[at + j] ?? NaN)
      }
      const last = pack.at(i, n - 1) * D
      of.set(hidden.subarray(last, last + D))
      for (let j = 0; j < D; j++) of[D + j] = (sums[j] ?? NaN) / (n - from)
    })
  }
  return features
}
