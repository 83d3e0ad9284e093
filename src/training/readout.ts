import { createHash } from 'node:crypto'
import { LibraError } from '../errors.ts'
import { SCORE_HEAD } from '../model/heads.ts'
import type { Gradients, Llama } from '../model/llama.ts'
import { firstLayers, MEAN_HEAD, readoutFeatures } from '../model/readout.ts'
import type { Scored } from '../model/readout.ts'
import type { PreferenceRow } from '../schemas/feedback.ts'
import { LoraOptions } from '../schemas/training-options.ts'
import type { RewardModelOptions } from '../schemas/training-options.ts'
import { tf } from '../tensor/backend.ts'
import { floats, read } from '../tensor/ops.ts'
import { verifyFolder } from '../weights/atomic.ts'
import { lossOfScores } from './pair-loss.ts'
import type { Learned } from './steps.ts'
import type { Trainee } from './trainee.ts'

/** Trains a readout: what a frozen trunk says of a pair never changes, so each is read once, when it first comes up. */

export const READOUT_HEADS = [SCORE_HEAD, MEAN_HEAD]
/** No projection is adapted. */
export const NO_LORA: LoraOptions = { ...LoraOptions.parse({}), target_modules: [] }

/** Features of pairs that were read before, by trunk and tokens; those that were used longest ago leave. */
export type Features = {
  of(key: string, make: () => Float32Array[]): Float32Array[]
}
const FEATURE_BYTES = 2 ** 30

/** Kept by an engine: trainings on one trunk (folds, seeds, a refreshed reward model) share what they read. */
export function createFeatures(limit = FEATURE_BYTES): Features {
  const known = new Map<string, Float32Array[]>()
  let bytes = 0
  const sizeOf = (all: readonly Float32Array[]): number =>
    all.reduce((sum, { byteLength }) => sum + byteLength, 0)
  return {
    of(key, make) {
      const found = known.get(key) ?? make()
      if (!known.delete(key)) bytes += sizeOf(found)
      known.set(key, found)
      for (const [oldest, all] of known) {
        if (bytes <= limit || oldest === key) break
        known.delete(oldest)
        bytes -= sizeOf(all)
      }
      return found
    },
  }
}

/** Names a trunk by what its files hold. */
export async function trunkHash(files: { base: string; adapters: readonly string[] }) {
  const hash = createHash('sha256')
  for (const folder of [files.base, ...files.adapters])
    hash.update((await verifyFolder(folder)).hash)
  return hash.digest('hex')
}

/** Layers that are read. Throws `invalid_request` where the trunk has fewer. */
export function layersOf({ readout }: RewardModelOptions, { config }: Llama): number {
  const layers = readout?.layers ?? Math.max(1, Math.round((2 / 3) * config.layers))
  if (layers > config.layers)
    throw new LibraError(
      'invalid_request',
      `readout.layers: the model has ${config.layers} layers, not ${layers}`,
      { details: { field: 'readout.layers' } },
    )
  return layers
}

/** One step over pairs (chosen at 2i, rejected at 2i + 1 of the sequences): its loss and the gradients of both heads. */
export function readoutStep(
  trainee: Pick<Trainee, 'model' | 'parameters'>,
  { layers, trunk, features }: { layers: number; trunk: string; features: Features },
  sequences: readonly Scored[],
  pairs: readonly PreferenceRow[],
  options: RewardModelOptions,
): (rows: number[]) => Learned {
  const model = firstLayers(trainee.model, layers)
  const D = model.config.hiddenSize
  // a pass holds one pair, so that its numbers do not depend on what else a step reads
  const featuresOf = (row: number): Float32Array[] => {
    const both = sequences.slice(2 * row, 2 * row + 2)
    const key = createHash('sha256')
      .update(JSON.stringify([trunk, layers, both]))
      .digest('base64')
    return features.of(key, () => readoutFeatures(model, both))
  }
  return (rows) => {
    const weights = new Float64Array(2 * D)
    READOUT_HEADS.forEach((name, k) => weights.set(read(trainee.parameters.get(name)), k * D))
    const scores = new Map<number, number>()
    const known = rows.map((row) => ({ row, both: featuresOf(row) }))
    for (const { row, both } of known)
      both.forEach((x, k) => scores.set(2 * row + k, dot(x, weights)))
    const { d, ...metrics } = lossOfScores(scores, pairs, rows, options)
    const sums = new Float64Array(2 * D)
    for (const { row, both } of known)
      both.forEach((x, k) => {
        const slope = d.get(2 * row + k) ?? 0
        for (let j = 0; j < sums.length; j++) sums[j] = (sums[j] ?? 0) + slope * (x[j] ?? NaN)
      })
    const gradients: Gradients = new Map(
      READOUT_HEADS.map((name, k) => [
        name,
        tf.keep(floats(Float32Array.from(sums.subarray(k * D, (k + 1) * D)), [1, D])),
      ]),
    )
    const { mean, ...rest } = metrics
    return { gradients, metrics: { ...rest, mean_reward: mean } }
  }
}

function dot(a: Float32Array, b: Float64Array): number {
  let sum = 0
  for (let j = 0; j < b.length; j++) sum += (a[j] ?? NaN) * (b[j] ?? NaN)
  return sum
}
