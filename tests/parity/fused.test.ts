import { expect, test, vi } from 'vitest'
import { device, tf } from '../../src/tensor/backend.ts'
import type { Tensor } from '../../src/tensor/backend.ts'
import { composed } from '../../src/tensor/composed.ts'
import { native } from '../../src/tensor/fused.ts'
import type { AttentionShape, Fused } from '../../src/tensor/fused.ts'
import { floats, ints, read, scale } from '../../src/tensor/ops.ts'
import { normal } from '../../src/random.ts'

// The kernels of the CPU beside what a GPU composes of TensorFlow's own ops. That both are right, the checks against
// PyTorch say, which run on the one that the device uses.
let seed = 1
function random(...shape: number[]): Tensor {
  const [of, size] = [seed++, shape.reduce((a, b) => a * b, 1)]
  return floats(
    Float32Array.from({ length: size }, (_, i) => normal(of, i)),
    shape,
  )
}
function same(a: Tensor | null, b: Tensor | null, what: string): void {
  if (a === null || b === null) return expect(a, what).toBe(b)
  const [x, y] = [read(a), read(b)]
  expect(x.length, what).toBe(y.length)
  expect(
    x.reduce((most, value, i) => Math.max(most, Math.abs(value - (y[i] ?? NaN))), 0),
    what,
  ).toBeLessThan(1e-5)
}
const both = <R>(run: (f: Fused) => R): [R, R] => [run(native), run(composed)]

test.skipIf(device !== 'cpu').each([160, 13])('norm over %i and its gradient', (D) => {
  const [x, w, dy, skip] = [random(50, D), random(D), random(50, D), random(50, D)]
  const [a, b] = both((f) => f.rmsNorm(x, w, 1e-5))
  same(a.y, b.y, 'y')
  for (const options of [
    { skip: null, weight: false },
    { skip, weight: true },
  ]) {
    const [p, q] = both((f) => f.rmsNormGrad(dy, x, w, a.inverse, options))
    same(p.dx, q.dx, 'dx')
    same(p.dw, q.dw, 'dw')
  }
})

test.skipIf(device !== 'cpu').each([
  [1, 5, 3],
  [1, 100, 160],
  [3, 17, 33],
  [7, 64, 16],
  [64, 250, 130],
])('x [%i, K]·w [%i, K]ᵀ, K = %i', (M, N, K) => {
  const [x, w] = [scale(random(M, K), 1 / Math.sqrt(K)), random(N, K)] // products of size one
  same(...both((f) => f.linear(x, w)), 'y')
})

test.skipIf(device !== 'cpu')('SwiGLU, log-probabilities and AdamW', () => {
  const [gate, up, d] = [random(37, 19), random(37, 19), random(37, 19)]
  same(...both((f) => f.swiGlu(gate, up)), 'swiGlu')
  const [p, q] = both((f) => f.swiGluGrad(d, gate, up))
  same(p.dgate, q.dgate, 'dgate')
  same(p.dup, q.dup, 'dup')
  const labels = ints([0, 100, 7], [3])
  const z = random(3, 101)
  const [a, b] = both((f) => f.logProb(z, labels))
  same(a.logprob, b.logprob, 'logprob')
  const weights = random(3)
  same(native.logProbGrad(weights, a), composed.logProbGrad(weights, b), 'dz')
  const decayed = floats(new Float32Array(5000).fill(1, 100), [5000])
  const now = { p: random(5000), g: random(5000), m: random(5000), v: tf.square(random(5000)) }
  const [x, y] = both((f) =>
    f.adamW(
      { ...now, v: now.v as Tensor, decayed },
      { beta1: 0.9, beta2: 0.95, epsilon: 1e-5 },
      { clip: 0.7, rate: 1e-3, rootCorrection2: 1.3, decay: 1e-2 },
    ),
  )
  for (const key of ['p', 'm', 'v'] as const) same(x[key], y[key], key)
})

const cases = [
  [8, 4, 32],
  [5, 1, 32],
  [4, 2, 6],
  [2, 2, 64],
].flatMap(([heads = 1, kvHeads = 1, width = 2]) =>
  [0, 5].flatMap((window) =>
    [false, true].flatMap((last) =>
      [false, true].map((turned) => ({ heads, kvHeads, width, window, last, turned })),
    ),
  ),
)
test.skipIf(device !== 'cpu').each(cases)(
  'attention over answers to one prompt, a lone row and padding: $heads/$kvHeads heads of $width, window $window, last $last, turned $turned',
  ({ heads, kvHeads, width, window, last, turned }) => {
    const segments = Int32Array.from(
      [
        [0, 70, -1, 0],
        [70, 9, 0, 70],
        [79, 100, 0, 70],
        [179, 1, -1, 0],
        [180, 17, -1, 0],
      ].flat(),
    )
    const [N, S] = [200, 5]
    const angles = Array.from({ length: 256 * width }, (_, i) => {
      const [t, e] = [Math.floor(i / width), i % width]
      const angle = t * 10000 ** ((-2 * (e % (width / 2))) / width)
      return e < width / 2 ? Math.cos(angle) : Math.sin(angle)
    })
    const shape: AttentionShape = {
      ...{ heads, kvHeads, width, window, last, segments: ints(segments, [S, 4]) },
      rows: { count: N, segments },
      angles: turned ? floats(angles, [256, width]) : null,
    }
    const queries = last ? S : N
    const [q, k, v] = [
      random(queries, heads * width),
      random(N, kvHeads * width),
      random(N, kvHeads * width),
    ]
    const [a, b] = both((f) => f.attention(shape, q, k, v))
    same(a.context, b.context, 'context')
    const d = random(queries, heads * width)
    const [p, g] = [native.attentionGrad(d, a), composed.attentionGrad(d, b)]
    for (const key of ['dq', 'dk', 'dv'] as const) same(p[key], g[key], key)
  },
)

test('where rows lie is worked out once a pass, not in every layer', () => {
  const segments = Int32Array.from(
    [
      [0, 5, -1, 0],
      [5, 3, -1, 0],
    ].flat(),
  )
  const reads = vi.spyOn(segments, 'subarray')
  const angles = floats(new Float32Array(8 * 4).fill(0.5), [8, 4])
  const layer = () => {
    // as model/llama.ts makes it, for each layer anew
    const rows = { count: 8, segments }
    const shape = { heads: 1, kvHeads: 1, width: 4, window: 0, last: false, angles, rows }
    const [q, k, v] = [random(8, 4), random(8, 4), random(8, 4)]
    const tape = composed.attention({ ...shape, segments: ints(segments, [2, 4]) }, q, k, v)
    composed.attentionGrad(random(8, 4), tape)
    return reads.mock.calls.length
  }
  const once = layer()
  expect(once).toBeGreaterThan(0)
  expect(layer()).toBe(once)
})

test.skipIf(device !== 'cpu')('what does not fit is refused, what is not finite stays so', () => {
  expect(() => native.swiGlu(random(3), random(4))).toThrow(/size/)
  expect(() => native.logProb(random(1, 5), ints([5], [1]))).toThrow(/range/)
  const nan = floats([NaN, 1, 2], [1, 3])
  for (const f of [native, composed]) {
    expect(read(f.logProb(nan, ints([1], [1])).logprob)[0]).toBeNaN()
    expect(read(f.swiGlu(nan, nan))[0]).toBeNaN()
  }
})
