import { dispose, tf } from './backend.ts'
import type { Tensor } from './backend.ts'
import { add, floats, matMul, slice } from './ops.ts'

type Peak = {
  /** of a product of two square float32 matrices */
  gflops: number
  /** read and written by adding a vector to itself, GB/s */
  bandwidth: number
}

/** What the device reaches at best in about a second: the measure that speeds are held against. */
export function measurePeak(): Peak {
  const n = 2048
  const length = 2 ** 25
  const square = floats(new Float32Array(n * n).fill(0.5), [n, n])
  const vector = floats(new Float32Array(length).fill(0.5), [length])
  const peak = {
    gflops: (2 * n ** 3) / seconds(() => matMul(square, square)) / 1e9,
    bandwidth: (2 * 4 * length) / seconds(() => add(vector, vector)) / 1e9,
  }
  dispose([square, vector])
  return peak
}

/** The shortest of several runs; a number is read back, so that the work is done. */
function seconds(run: () => Tensor): number {
  let best = Infinity
  for (let i = 0; i < 8; i++) {
    const start = performance.now()
    tf.tidy(() => first(run()).dataSync())
    best = Math.min(best, performance.now() - start)
  }
  return best / 1000
}

/** The first number of a tensor of any rank. */
const first = (a: Tensor): Tensor =>
  slice(
    a,
    a.shape.map(() => 0),
    a.shape.map(() => 1),
  )
