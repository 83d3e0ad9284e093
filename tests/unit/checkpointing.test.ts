import { LoraOptions } from '../../src/schemas/training-options.ts'
import { expect, test } from 'vitest'
import { accumulate, disposeGradients } from '../../src/model/heads.ts'
import type { Gradients } from '../../src/model/llama.ts'
import { disposeBase, disposePairs, initialize, newAdapter } from '../../src/model/resident.ts'
import { uniform } from '../../src/random.ts'
import { cachedConstants, tf } from '../../src/tensor/backend.ts'
import { read } from '../../src/tensor/ops.ts'
import { tokenLoss } from '../../src/training/tokens.ts'
import { plainLlama } from '../../src/weights/config.ts'

const config = plainLlama({
  ...{ vocabularySize: 64, hiddenSize: 16, intermediateSize: 24, layers: 3, heads: 4, kvHeads: 2 },
  ...{ headDim: 4, rmsNormEpsilon: 1e-5, ropeTheta: 10000, ropeScaling: null, context: 700 },
  tieWordEmbeddings: false,
})
const sequences = [600, 20, 33].map((n, row) => {
  const ids = Array.from({ length: n }, (_, t) => Math.floor(64 * uniform(row, t)))
  return { ids, counts: ids.map(() => 1) }
})
const values = (gradients: Gradients): Map<string, number[]> =>
  new Map([...gradients].map(([name, g]) => [name, Array.from(read(g))]))

const LORA = LoraOptions.parse({ rank: 2, alpha: 4, target_modules: ['q_proj', 'down_proj'] })

test.each(['all', 'adapter'] as const)(
  'gradients of %s weights are the same with checkpointing, and nothing is left behind',
  (trainable) => {
    const before = tf.memory().numTensors - cachedConstants()
    const base = initialize(config, 1)
    const pairs = newAdapter(base, LORA, 1)
    const model = { ...base, adapter: trainable === 'all' ? null : pairs }
    const gradientsOf = (checkpoint: boolean) => {
      const gradients: Gradients = new Map()
      const made = tokenLoss(model, sequences, [0, 1, 2], trainable, 8192, checkpoint)
      accumulate(gradients, made.gradients)
      const result = { loss: made.loss, gradients: values(gradients) }
      disposeGradients(gradients)
      return result
    }
    const plain = gradientsOf(false)
    expect(plain.gradients.size).toBeGreaterThan(0)
    expect(gradientsOf(true)).toEqual(plain)
    disposePairs(pairs)
    disposeBase(base)
    expect(tf.memory().numTensors - cachedConstants()).toBe(before)
  },
)
