import { BOOL, attr, execute, scalar, tf } from './backend.ts'
import type { Tensor } from './backend.ts'
import type { AttentionShape, AttentionTape, Fused } from './fused.ts'
import {
  add,
  batchMatMul,
  concat,
  div,
  floats,
  gatherRows,
  ints,
  matMul,
  mean,
  mul,
  reshape,
  rsqrt,
  scale,
  scatterRows,
  sigmoid,
  slice,
  softmax,
  sparseCrossEntropy,
  sqrt,
  square,
  sub,
  sum,
  transpose,
} from './ops.ts'

// Libra's own ops composed of TensorFlow's: what a GPU runs.

/** Which rows of q and k lie where in padded grids [S, Tq] and [S, Tk], and when. */
function placesOf({ rows, last }: AttentionShape) {
  const { segments } = rows
  const S = segments.length / 4
  const field = (s: number, i: number): number => segments[4 * s + i] ?? 0
  const before = (s: number): number => (field(s, 2) < 0 ? 0 : field(field(s, 2), 1))
  let [Tq, Tk] = [1, 1]
  for (let s = 0; s < S; s++) {
    Tq = Math.max(Tq, last ? 1 : field(s, 1))
    Tk = Math.max(Tk, before(s) + field(s, 1))
  }
  const queryRows = new Int32Array(S * Tq).fill(last ? S : rows.count)
  const keyRows = new Int32Array(S * Tk).fill(rows.count) // one row beyond: padding
  const queryTimes = new Float32Array(S * Tq)
  const keyTimes = new Float32Array(S * Tk).fill(1e9)
  for (let s = 0; s < S; s++) {
    const [start, length, parent] = [field(s, 0), field(s, 1), field(s, 2)]
    const P = before(s)
    for (let t = 0; t < P; t++) keyRows[s * Tk + t] = field(parent, 0) + t
    for (let t = 0; t < length; t++) keyRows[s * Tk + P + t] = start + t
    for (let t = 0; t < P + length; t++) keyTimes[s * Tk + t] = t
    const first = last ? length - 1 : 0
    for (let t = first; t < length; t++) {
      queryRows[s * Tq + t - first] = last ? s : start + t
      queryTimes[s * Tq + t - first] = P + t
    }
  }
  return { S, Tq, Tk, queryRows, keyRows, queryTimes, keyTimes }
}

/** What is worked out of the rows of a pass: every layer, and its gradient, asks for the same. */
function oncePerPass<T>(work: (shape: AttentionShape, queries: boolean) => T) {
  const known = new WeakMap<Int32Array, Map<string, T>>()
  return (shape: AttentionShape, queries = false): T => {
    const of = known.get(shape.rows.segments) ?? new Map<string, T>()
    known.set(shape.rows.segments, of)
    const key = `${shape.last} ${queries}`
    const found = of.get(key) ?? work(shape, queries)
    of.set(key, found)
    return found
  }
}
const places = oncePerPass(placesOf)

/** The places as tensors, and what hides one from another. */
function grid(shape: AttentionShape, window: number) {
  const { S, Tq, Tk, queryRows, keyRows, queryTimes, keyTimes } = places(shape)
  const ahead = sub(
    reshape(floats(keyTimes, [S * Tk]), [S, 1, 1, Tk]),
    reshape(floats(queryTimes, [S * Tq]), [S, 1, Tq, 1]),
  )
  const hidden = (test: Tensor): Tensor => scale(cast(test), -1e9)
  let mask = hidden(execute('Greater', [attr.float('T')], ahead, floats([0], [])))
  if (window > 0)
    mask = add(mask, hidden(execute('LessEqual', [attr.float('T')], ahead, floats([-window], []))))
  return { S, Tq, Tk, queryRows: ints(queryRows, [S * Tq]), keyRows: ints(keyRows, [S * Tk]), mask }
}
const castAttributes = [
  { ...attr.float('SrcT'), value: BOOL },
  attr.float('DstT'),
  attr.bool('Truncate', false),
]
const cast = (test: Tensor): Tensor => execute('Cast', castAttributes, test)

/** Positions of the rows of k, or of the queries. */
const positionsOf = oncePerPass(({ rows, last }: AttentionShape, queries: boolean): Int32Array => {
  const { segments, count } = rows
  const only = queries && last
  const positions = new Int32Array(only ? segments.length / 4 : count)
  for (let s = 0; s < segments.length / 4; s++) {
    const [start = 0, length = 0, , position = 0] = segments.subarray(4 * s)
    if (only) positions[s] = position + length - 1
    else for (let t = 0; t < length; t++) positions[start + t] = position + t
  }
  return positions
})

/** Heads turned by the angles of their rows' positions, or back. x [N, heads·E] */
function turn(shape: AttentionShape, x: Tensor, queries: boolean, back: boolean): Tensor {
  const { width: E, angles } = shape
  if (angles === null) return x
  const N = x.shape[0] ?? 0
  const heads = x.size / N / E
  const positions = positionsOf(shape, queries)
  const own = reshape(gatherRows(angles, ints(positions, [N])), [N, 1, E])
  const part = (a: Tensor, n: number, i: number): Tensor =>
    slice(a, [0, 0, (i * E) / 2], [N, n, E / 2])
  const [cos, sine] = [part(own, 1, 0), part(own, 1, 1)]
  const sin = back ? scale(sine, -1) : sine
  const grid = reshape(x, [N, heads, E])
  const [a, b] = [part(grid, heads, 0), part(grid, heads, 1)]
  const turned = [sub(mul(a, cos), mul(b, sin)), add(mul(b, cos), mul(a, sin))]
  return reshape(concat(turned, 2), [N, heads * E])
}

/** [N, heads·E] → [S, heads, T, E] */
const toGrid = (
  x: Tensor,
  rows: Tensor,
  S: number,
  T: number,
  heads: number,
  E: number,
): Tensor => {
  const padded = concat([x, tf.zeros([1, heads * E]) as Tensor], 0)
  return transpose(reshape(gatherRows(padded, rows), [S, T, heads, E]), [0, 2, 1, 3])
}
const fromGrid = (x: Tensor, rows: Tensor, N: number): Tensor => {
  const [S = 0, heads = 0, T = 0, E = 0] = x.shape
  const flat = reshape(transpose(x, [0, 2, 1, 3]), [S * T, heads * E])
  return slice(scatterRows(flat, rows, N + 1), [0, 0], [N, heads * E])
}

/** Queries (turned and scaled), keys (turned) and values in grids; G query heads share a key head. */
function grids(tape: Pick<AttentionTape, 'shape' | 'q' | 'k' | 'v'>) {
  const { shape, q, k, v } = tape
  const { heads: H, kvHeads: K, width: E } = shape
  const g = grid(shape, shape.window)
  const { S, Tq, Tk } = g
  const queries = toGrid(turn(shape, q, true, false), g.queryRows, S, Tq, H, E)
  return {
    ...g,
    q: reshape(scale(queries, 1 / Math.sqrt(E)), [S, K, (H / K) * Tq, E]),
    k: toGrid(turn(shape, k, false, false), g.keyRows, S, Tk, K, E),
    v: toGrid(v, g.keyRows, S, Tk, K, E),
  }
}

export const composed: Fused = {
  rmsNorm(x, w, epsilon) {
    const inverse = rsqrt(add(mean(square(x), [1], true), scalar(epsilon)))
    return { y: mul(mul(x, inverse), w), inverse: reshape(inverse, [-1]) }
  },
  rmsNormGrad(dy, x, w, inverse, { skip, weight }) {
    // inverse·(g − x̂·mean(g∘x̂)), g = dy∘w, x̂ = x·inverse
    const column = reshape(inverse, [-1, 1])
    const normal = mul(x, column)
    const g = mul(dy, w)
    const dx = mul(sub(g, mul(normal, mean(mul(g, normal), [1], true))), column)
    return {
      dx: skip === null ? dx : add(dx, skip),
      dw: weight ? sum(mul(dy, normal), [0]) : null,
    }
  },
  swiGlu: (gate, up) => mul(mul(gate, sigmoid(gate)), up),
  swiGluGrad(dy, gate, up) {
    const s = sigmoid(gate)
    const silu = mul(gate, s)
    const slope = add(s, mul(silu, sub(floats([1], []), s))) // silu' = σ(1 + g(1 − σ))
    return { dgate: mul(mul(dy, up), slope), dup: mul(dy, silu) }
  },
  linear: (x, w) => matMul(x, w, false, true),
  attention(shape, q, k, v) {
    const { heads: H, kvHeads: K } = shape
    const g = grids({ shape, q, k, v })
    const scores = reshape(batchMatMul(g.q, g.k, false, true), [g.S, H, g.Tq, g.Tk])
    const rest = reshape(softmax(add(scores, g.mask)), [g.S, K, (H / K) * g.Tq, g.Tk])
    const out = reshape(batchMatMul(rest, g.v), [g.S, H, g.Tq, shape.width])
    return { shape, q, k, v, context: fromGrid(out, g.queryRows, q.shape[0] ?? 0), rest }
  },
  attentionGrad(dContext, tape) {
    // P = softmax(qkᵀ), dS = P∘(dP − Σ dP∘P)
    const { shape, q, k, rest: P } = tape
    const { heads: H, kvHeads: K, width: E } = shape
    const g = grids(tape)
    const { S, Tq } = g
    const dOut = reshape(toGrid(dContext, g.queryRows, S, Tq, H, E), [S, K, (H / K) * Tq, E])
    const dP = batchMatMul(dOut, g.v, false, true)
    const dS = mul(P, sub(dP, sum(mul(dP, P), [3], true)))
    const dq = reshape(scale(batchMatMul(dS, g.k), 1 / Math.sqrt(E)), [S, H, Tq, E])
    const N = k.shape[0] ?? 0
    return {
      dq: turn(shape, fromGrid(dq, g.queryRows, q.shape[0] ?? 0), true, true),
      dk: turn(shape, fromGrid(batchMatMul(dS, g.q, true), g.keyRows, N), false, true),
      dv: fromGrid(batchMatMul(P, dOut, true), g.keyRows, N),
    }
  },
  logProb(z, labels) {
    const [loss, rest] = sparseCrossEntropy(z, labels)
    return { logprob: scale(loss, -1), z, labels, rest }
  },
  logProbGrad: (d, { rest }) => mul(rest, scale(reshape(d, [-1, 1]), -1)),
  adamW({ p, g, m, v, decayed }, { beta1, beta2, epsilon }, step) {
    const factor = (value: number): Tensor => floats([value], [])
    const slope = mul(g, factor(step.clip))
    const first = add(scale(m, beta1), scale(slope, 1 - beta1))
    const second = add(scale(v, beta2), scale(square(slope), 1 - beta2))
    const root = add(mul(sqrt(second), factor(step.rootCorrection2)), factor(epsilon))
    const kept = step.decay === 0 ? p : sub(p, mul(mul(p, decayed), factor(step.decay)))
    return { p: sub(kept, mul(div(first, root), factor(step.rate))), m: first, v: second }
  },
}
