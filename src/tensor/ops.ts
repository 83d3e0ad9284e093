import { attr, BOOL, execute, executeMany, intScalar, intVector, scalar, tf } from './backend.ts'
import type { Tensor } from './backend.ts'

/**
 * Thin names over TensorFlow's native kernels. `tf.matMul` and its like cost 7–40 µs of JavaScript
 * per call; these cost the kernel and about 3 µs. They leave no tape.
 */
const T = [attr.float('T')]
const matMulAttributes = [0, 1, 2, 3].map((k) => [
  attr.float('T'),
  attr.bool('transpose_a', (k & 1) > 0),
  attr.bool('transpose_b', (k & 2) > 0),
])
const batchMatMulAttributes = [0, 1, 2, 3].map((k) => [
  attr.float('T'),
  attr.bool('adj_x', (k & 1) > 0),
  attr.bool('adj_y', (k & 2) > 0),
])
const reduceAttributes = [false, true].map((keep) => [
  attr.bool('keep_dims', keep),
  attr.float('T'),
  attr.int32('Tidx'),
])
const gatherAttributes = [
  attr.int('batch_dims', 0),
  attr.float('Tparams'),
  attr.int32('Tindices'),
  attr.int32('Taxis'),
]
const transposeAttributes = [attr.float('T'), attr.int32('Tperm')]
const sliceAttributes = [attr.float('T'), attr.int32('Index')]
const segmentAttributes = [attr.float('T'), attr.int32('Tindices'), attr.int32('Tnumsegments')]
const rollAttributes = [attr.float('T'), attr.int32('Tshift'), attr.int32('Taxis')]
const splitAttributes = (n: number) => [
  attr.int('num_split', n),
  attr.float('T'),
  attr.int32('Tlen'),
]
const concatAttributes = (n: number) => [attr.int('N', n), attr.float('T'), attr.int32('Tidx')]

/** a·b of matrices, either one transposed on the fly. */
export const matMul = (a: Tensor, b: Tensor, transposeA = false, transposeB = false): Tensor =>
  execute('MatMul', matMulAttributes[(transposeA ? 1 : 0) + (transposeB ? 2 : 0)] ?? [], a, b)

/** a·b over the last two axes, leading axes broadcast. */
export const batchMatMul = (a: Tensor, b: Tensor, transposeA = false, transposeB = false): Tensor =>
  execute(
    'BatchMatMulV2',
    batchMatMulAttributes[(transposeA ? 1 : 0) + (transposeB ? 2 : 0)] ?? [],
    a,
    b,
  )

export const add = (a: Tensor, b: Tensor): Tensor => execute('AddV2', T, a, b)
export const sub = (a: Tensor, b: Tensor): Tensor => execute('Sub', T, a, b)
export const mul = (a: Tensor, b: Tensor): Tensor => execute('Mul', T, a, b)
export const div = (a: Tensor, b: Tensor): Tensor => execute('RealDiv', T, a, b)
export const scale = (a: Tensor, factor: number): Tensor =>
  factor === 1 ? tf.clone(a) : mul(a, scalar(factor))
export const square = (a: Tensor): Tensor => execute('Square', T, a)
export const sqrt = (a: Tensor): Tensor => execute('Sqrt', T, a)
export const rsqrt = (a: Tensor): Tensor => execute('Rsqrt', T, a)
export const sigmoid = (a: Tensor): Tensor => execute('Sigmoid', T, a)
export const softmax = (a: Tensor): Tensor => execute('Softmax', T, a)
export const logSoftmax = (a: Tensor): Tensor => execute('LogSoftmax', T, a)
export const exp = (a: Tensor): Tensor => execute('Exp', T, a)

export const sum = (a: Tensor, axes: readonly number[], keepDims = false): Tensor =>
  execute('Sum', reduceAttributes[keepDims ? 1 : 0] ?? [], a, intVector(axes))
export const mean = (a: Tensor, axes: readonly number[], keepDims = false): Tensor =>
  execute('Mean', reduceAttributes[keepDims ? 1 : 0] ?? [], a, intVector(axes))

/** Rows of `a` at int32 `indices`. */
export const gatherRows = (a: Tensor, indices: Tensor): Tensor =>
  execute('GatherV2', gatherAttributes, a, indices, intScalar(0))

/** The gradient of `gatherRows`: rows added up into `count` rows. */
export const scatterRows = (rows: Tensor, indices: Tensor, count: number): Tensor =>
  execute('UnsortedSegmentSum', segmentAttributes, rows, indices, intScalar(count))

export const transpose = (a: Tensor, permutation: readonly number[]): Tensor =>
  execute('Transpose', transposeAttributes, a, intVector(permutation))

/** A view with another shape: no copy. */
export const reshape = (a: Tensor, shape: number[]): Tensor => tf.reshape(a, shape)

export const slice = (a: Tensor, begin: readonly number[], size: readonly number[]): Tensor =>
  execute('Slice', sliceAttributes, a, intVector(begin), intVector(size))

export function concat(parts: readonly Tensor[], axis: number): Tensor {
  const [only] = parts
  if (parts.length === 1 && only !== undefined) return tf.clone(only) // the kernel wants two or more
  return execute('ConcatV2', concatAttributes(parts.length), ...parts, intScalar(axis))
}

/** Cuts a vector into pieces of the given sizes. */
export const split = (vector: Tensor, sizes: readonly number[]): Tensor[] =>
  executeMany(
    'SplitV',
    splitAttributes(sizes.length),
    [vector, intVector(sizes), intScalar(0)],
    sizes.length,
  )

export const roll = (a: Tensor, shift: number, axis: number): Tensor =>
  execute('Roll', rollAttributes, a, intScalar(shift), intScalar(axis))

const crossEntropyAttributes = [attr.float('T'), attr.int32('Tlabels')]

/**
 * −log softmax(logits)[label] for each row, and its gradient softmax − onehot, in one kernel.
 * logits [M,V], labels int32 [M] → [M], [M,V].
 */
export function sparseCrossEntropy(logits_MV: Tensor, labels_M: Tensor): [Tensor, Tensor] {
  const [loss, gradient] = executeMany(
    'SparseSoftmaxCrossEntropyWithLogits',
    crossEntropyAttributes,
    [logits_MV, labels_M],
    2,
  )
  if (loss === undefined || gradient === undefined) throw new Error('kernel gave no output')
  return [loss, gradient]
}

/** Reads a tensor back as float32; throws nothing on NaN: callers check what they rely on. */
export const read = (a: Tensor): Float32Array => a.dataSync() as Float32Array

export const floats = (values: Float32Array | readonly number[], shape: number[]): Tensor =>
  tf.tensor(values as Float32Array, shape, 'float32')
/** Floats that lie in TensorFlow's memory at once (`floats` waits for the first use), so that the array can be let go. */
export const upload = (values: Float32Array, shape: number[]): Tensor =>
  tf.tidy(() => execute('Identity', T, floats(values, shape)))
export const ints = (values: Int32Array | readonly number[], shape: number[]): Tensor =>
  tf.tensor(values as Int32Array, shape, 'int32')

const lessAttributes = [attr.float('T')]
const castAttributes = [
  { ...attr.float('SrcT'), value: BOOL },
  attr.int32('DstT'),
  attr.bool('Truncate', false),
]
const cumsumAttributes = [
  attr.bool('exclusive', false),
  attr.bool('reverse', false),
  attr.float('T'),
  attr.int32('Tidx'),
]
const intSumAttributes = [attr.bool('keep_dims', false), attr.int32('T'), attr.int32('Tidx')]

export const cumulativeSum = (a: Tensor, axis: number): Tensor =>
  execute('Cumsum', cumsumAttributes, a, intScalar(axis))

/** How many entries of each row are ≤ the row's bound. a [M,V], bound [M,1] → int32 [M] */
export function countUpTo(a: Tensor, bound: Tensor): Tensor {
  const hits = execute('LessEqual', lessAttributes, a, bound)
  return execute('Sum', intSumAttributes, execute('Cast', castAttributes, hits), intVector([1]))
}

export const argMax = (a: Tensor): Tensor =>
  execute(
    'ArgMax',
    [attr.float('T'), attr.int32('Tidx'), attr.int32('output_type')],
    a,
    intScalar(1),
  )

/** The k largest of each row in falling order, with their int32 indices. */
export function topK(a: Tensor, k: number): [Tensor, Tensor] {
  const [values, indices] = executeMany(
    'TopKV2',
    [attr.bool('sorted', true), attr.float('T'), attr.int32('Tk'), attr.int32('index_type')],
    [a, intScalar(k)],
    2,
  )
  if (values === undefined || indices === undefined) throw new Error('kernel gave no output')
  return [values, indices]
}

/** Reads an int32 tensor back. */
export const readInts = (a: Tensor): Int32Array => a.dataSync() as Int32Array
