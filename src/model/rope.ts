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
  /** cosines, then sines, of half a head each, for positions 0 … count − 1; [count, E] */
  angles(count: number): Tensor
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
  let known = new Float32Array(0)
  return {
    rotation,
    angles(count) {
      if (known.length < count * E) known = anglesUpTo(Math.ceil(count / 256) * 256, frequencies)
      return floats(known.slice(0, count * E), [count, E])
    },
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

function anglesUpTo(count: number, frequencies: Float64Array): Float32Array<ArrayBuffer> {
  const half = frequencies.length
  const angles = new Float32Array(count * half * 2)
  for (let t = 0; t < count; t++)
    frequencies.forEach((frequency, i) => {
      angles[2 * t * half + i] = Math.cos(t * frequency)
      angles[(2 * t + 1) * half + i] = Math.sin(t * frequency)
    })
  return angles
}

/**
 * Rotates heads. x [B·H·T, E]; tables broadcast over the leading groups: [groups, T·E] against [1, T·E],
 * or the same number of groups where positions differ by row.
 */
export function rotate(x: Tensor, cos: Tensor, sin: Tensor, rotation: Tensor): Tensor {
  const E = rotation.shape[0] ?? 1
  const rows = x.size / E
  const width = cos.size / (cos.shape[0] ?? 1)
  const flat = (t: Tensor): Tensor => reshape(t, [(rows * E) / width, width])
  const turned = flat(matMul(reshape(x, [rows, E]), rotation))
  return add(mul(flat(x), cos), mul(turned, sin))
}
