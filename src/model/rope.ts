import { floats, matMul, mul, add, reshape } from '../tensor/ops.ts'
import { tf } from '../tensor/backend.ts'
import type { Tensor } from '../tensor/backend.ts'
import type { LlamaConfig } from '../weights/config.ts'

/**
 * Rotary position embedding (Su et al. 2021, eq. 34, in the half-split layout of Hugging Face):
 * rope(x, t) = x∘cos(t·f) + rotateHalf(x)∘sin(t·f), with rotateHalf(x) = x·R for a signed permutation R.
 */
export type Rope = {
  /** cos and sin of angles for the given positions; [rows, E] */
  tables(positions: ArrayLike<number>): { cos: Tensor; sin: Tensor }
  /** R, [E, E] */
  rotation: Tensor
  dispose(): void
}

/** Frequencies of a head's dimension pairs, E/2 of them, with Llama 3's or linear scaling applied. */
export function inverseFrequencies(config: LlamaConfig): Float64Array {
  const { headDim, ropeTheta, ropeScaling } = config
  const frequencies = new Float64Array(headDim / 2)
  for (let i = 0; i < frequencies.length; i++) {
    const frequency = ropeTheta ** ((-2 * i) / headDim)
    frequencies[i] = ropeScaling === null ? frequency : scaleFrequency(frequency, ropeScaling)
  }
  return frequencies
}

function scaleFrequency(f: number, scaling: NonNullable<LlamaConfig['ropeScaling']>): number {
  if (scaling.type === 'linear') return f / scaling.factor
  if (scaling.type !== 'llama3') return f // dynamic differs only beyond the trained context, which is refused
  const { factor, lowFreqFactor, highFreqFactor, originalContext } = scaling
  const wavelength = (2 * Math.PI) / f
  if (wavelength < originalContext / highFreqFactor) return f
  if (wavelength > originalContext / lowFreqFactor) return f / factor
  const smooth = (originalContext / wavelength - lowFreqFactor) / (highFreqFactor - lowFreqFactor)
  return ((1 - smooth) * f) / factor + smooth * f
}

export function createRope(config: LlamaConfig): Rope {
  const E = config.headDim
  const frequencies = inverseFrequencies(config)
  const r = new Float32Array(E * E)
  for (let i = 0; i < E / 2; i++) {
    r[(i + E / 2) * E + i] = -1 // first half gets −x[i + E/2]
    r[i * E + i + E / 2] = 1 // second half gets x[i − E/2]
  }
  const rotation = tf.keep(floats(r, [E, E]))
  return {
    rotation,
    tables(positions) {
      const rows = positions.length
      const cos = new Float32Array(rows * E)
      const sin = new Float32Array(rows * E)
      for (let t = 0; t < rows; t++)
        for (let i = 0; i < E; i++) {
          const angle = (positions[t] ?? 0) * (frequencies[i % (E / 2)] ?? 0)
          cos[t * E + i] = Math.cos(angle)
          sin[t * E + i] = Math.sin(angle)
        }
      return { cos: floats(cos, [rows, E]), sin: floats(sin, [rows, E]) }
    },
    dispose: () => rotation.dispose(),
  }
}

/**
 * Rotates heads. x [B·H·T, E]; tables broadcast over the leading groups: [groups, T·E] against [1, T·E],
 * or the same number of groups where positions differ by row.
 */
export function rotate(
  x: Tensor,
  cos: Tensor,
  sin: Tensor,
  rotation: Tensor,
  inverse = false,
): Tensor {
  const E = rotation.shape[0] ?? 1
  const rows = x.size / E
  const width = cos.size / (cos.shape[0] ?? 1)
  const flat = (t: Tensor): Tensor => reshape(t, [(rows * E) / width, width])
  const matrix = (t: Tensor): Tensor => reshape(t, [rows, E])
  // forward: x∘cos + (x·R)∘sin; its transpose, for gradients: y∘cos + (y∘sin)·Rᵀ
  const turned = inverse
    ? flat(matMul(matrix(mul(flat(x), sin)), rotation, false, true))
    : mul(flat(matMul(matrix(x), rotation)), sin)
  return add(mul(flat(x), cos), turned)
}
