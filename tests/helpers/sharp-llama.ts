import type { Llama } from '../../src/model/llama.ts'
import { initialize } from '../../src/model/resident.ts'
import { tf } from '../../src/tensor/backend.ts'
import type { Tensor } from '../../src/tensor/backend.ts'
import { scale } from '../../src/tensor/ops.ts'

/** A tiny Llama with random weights, large enough that it makes sharp choices: 98 tokens, 2 × 8 key-value channels. */
export function sharpLlama(context: number): Llama {
  const config = {
    ...{ vocabularySize: 98, hiddenSize: 32, intermediateSize: 48, layers: 3 },
    ...{ heads: 4, kvHeads: 2, headDim: 8, rmsNormEpsilon: 1e-5, ropeTheta: 10000 },
    ...{ ropeScaling: null, context, tieWordEmbeddings: false, slidingWindow: null },
    ...{ qkNorm: false, biases: [], rotary: [true, true, true], sliding: [false, false, false] },
  }
  const model = initialize(config, 3)
  const weights = model.weights as Map<string, Tensor>
  for (const [name, w] of weights)
    if (!name.includes('norm')) {
      weights.set(name, tf.keep(scale(w, 12)))
      w.dispose()
    }
  return model
}
