import { attr, BOOL, execute, executeMany, intScalar, intVector, scalar, tf } from './backend.ts'
import type { OpAttribute, Tensor } from './backend.ts'

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

/** Σ x² / 2 */
export const halfSquares = (a: Tensor): Tensor => execute('L2Loss', T, a)

/** Rows of `a` at int32 `indices`. */
export const gatherRows = (a: Tensor, indices: Tensor): Tensor =>
  execute('GatherV2', gatherAttributes, a, indices, intScalar(0))

/** The gradient of `gatherRows`: rows added up into `count` rows. */
export const scatterRows = (rows: Tensor, indices: Tensor, count: number): Tensor =>
  execute('UnsortedSegmentSum', segmentAttributes, rows, indices, intScalar(count))

export const transpose = (a: Tensor, permutation: readonly number[]): Tensor =>
  execute('Transpose', transposeAttributes, a, intVector(permutation))

export { reshape } from './backend.ts'

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
const boolToFloat = [
  { ...attr.float('SrcT'), value: BOOL },
  attr.float('DstT'),
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

/** 1 where a < b, else 0 */
export const less = (a: Tensor, b: Tensor): Tensor =>
  execute('Cast', boolToFloat, execute('Less', lessAttributes, a, b))

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
export function topK(a: Tensor, k: Tensor): [Tensor, Tensor] {
  const [values, indices] = executeMany(
    'TopKV2',
    [attr.bool('sorted', true), attr.float('T'), attr.int32('Tk'), attr.int32('index_type')],
    [a, k],
    2,
  )
  if (values === undefined || indices === undefined) throw new Error('kernel gave no output')
  return [values, indices]
}

const intT = [attr.int32('T')]
const maxAttributes = [attr.bool('keep_dims', true), attr.float('T'), attr.int32('Tidx')]
const gatherColumnAttributes = (dtype: OpAttribute) => [
  attr.int('batch_dims', 1),
  dtype,
  attr.int32('Tindices'),
  attr.int32('Taxis'),
]
const gatherFloatColumn = gatherColumnAttributes(attr.float('Tparams'))
const gatherIntColumn = gatherColumnAttributes(attr.int32('Tparams'))
const toInts = [attr.float('SrcT'), attr.int32('DstT'), attr.bool('Truncate', false)]
const toFloats = [attr.int32('SrcT'), attr.float('DstT'), attr.bool('Truncate', false)]

export const log = (a: Tensor): Tensor => execute('Log', T, a)
export const minimum = (a: Tensor, b: Tensor): Tensor => execute('Minimum', T, a, b)
export const maximum = (a: Tensor, b: Tensor): Tensor => execute('Maximum', T, a, b)
export const addInts = (a: Tensor, b: Tensor): Tensor => execute('AddV2', intT, a, b)
export const mulInts = (a: Tensor, b: Tensor): Tensor => execute('Mul', intT, a, b)
export const asInts = (a: Tensor): Tensor => execute('Cast', toInts, a)
export const asFloats = (a: Tensor): Tensor => execute('Cast', toFloats, a)
/** The largest of each row, kept as a column. */
export const rowMax = (a: Tensor): Tensor => execute('Max', maxAttributes, a, intVector([1]))
/** One entry of each row: a [M, N], index int32 [M, 1] → [M, 1]; a [M, N, W] → [M, 1, W]. */
export const pick = (a: Tensor, index: Tensor): Tensor =>
  execute(
    'GatherV2',
    a.dtype === 'int32' ? gatherIntColumn : gatherFloatColumn,
    a,
    index,
    intScalar(1),
  )

/** A view with a shape that is a tensor itself. */
export const reshapeTo = (a: Tensor, shape: Tensor): Tensor =>
  execute('Reshape', [attr.float('T'), attr.int32('Tshape')], a, shape)

/** Zeros around a; paddings int32 [rank, 2]. */
export const pad = (a: Tensor, paddings: Tensor): Tensor =>
  execute('Pad', [attr.float('T'), attr.int32('Tpaddings')], a, paddings)

/**
 * Writes rows into a where it lies, with no copy: whoever else holds its memory sees it change.
 * a [M, N], index int32 [R], rows [R, N] → a.
 */
export const writeRows = (a: Tensor, index: Tensor, rows: Tensor): Tensor =>
  execute('InplaceUpdate', T, a, index, rows)

/** Reads an int32 tensor back. */
export const readInts = (a: Tensor): Int32Array => a.dataSync() as Int32Array
