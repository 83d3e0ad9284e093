import './node-shims.ts'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import type * as TensorFlow from '@tensorflow/tfjs-node-gpu'
import { LibraError } from '../errors.ts'

export type Tensor = TensorFlow.Tensor

type OpAttribute = { name: string; type: number; value: boolean | number | readonly number[] }

/** The part of tfjs-node's backend and binding that the ops of this room call. */
type NativeBackend = {
  binding: Record<string, number | string> & { TF_Version: string }
  isUsingGpuDevice: boolean
  executeSingleOutput(name: string, attributes: OpAttribute[], inputs: Tensor[]): Tensor
  executeMultipleOutputs(
    name: string,
    attributes: OpAttribute[],
    inputs: Tensor[],
    outputs: number,
  ): Tensor[]
  loadSavedModelMetaGraph(folder: string, tag: string): number
  runSavedModel(
    id: number,
    inputs: readonly Tensor[],
    infos: readonly { name: string }[],
    outputs: readonly string[],
  ): Tensor[]
  deleteSavedModel(id: number): void
}

function loadTensorFlow(): typeof TensorFlow {
  const warn = console.warn
  console.warn = () => {} // tfjs greets on stderr
  try {
    return createRequire(import.meta.url)('@tensorflow/tfjs-node-gpu')
  } catch (cause) {
    throw new LibraError(
      'native_library_missing',
      'the native TensorFlow library is not linked: run `npm run setup` (details: `npm run doctor`)',
      { fault: 'engine', cause },
    )
  } finally {
    console.warn = warn
  }
}

export const tf = loadTensorFlow()

/** The library that setup compiled and links: TensorFlow's binding with the ops of native/. */
export const bindingFile = join(
  createRequire(import.meta.url).resolve('@tensorflow/tfjs-node-gpu/package.json'),
  '../lib/napi-v8/tfjs_binding.node',
)

/** `tf.tidy` for results of any type: every tensor made inside that is not in the result is disposed. */
export const scoped = <R>(run: () => R): R => tf.tidy(run as () => never)

/** Disposes every tensor inside a value: an object, array or tensor. */
export const dispose = (value: unknown): void => tf.dispose(value as never)

const backend = tf.backend() as unknown as NativeBackend
const { binding } = backend

export const device = backend.isUsingGpuDevice ? 'gpu' : 'cpu'
export const tensorflowVersion = binding.TF_Version

const constant = (name: string): number => {
  const value = binding[name]
  if (typeof value !== 'number') throw new Error(`the native binding has no constant ${name}`)
  return value
}
const FLOAT = constant('TF_FLOAT')
export const BOOL = constant('TF_BOOL')
export const INT32 = constant('TF_INT32')
const ATTR_TYPE = constant('TF_ATTR_TYPE')
const ATTR_BOOL = constant('TF_ATTR_BOOL')
const ATTR_INT = constant('TF_ATTR_INT')

/** Attributes are immutable, so each kind is built once. */
export const attr = {
  float: (name: string): OpAttribute => ({ name, type: ATTR_TYPE, value: FLOAT }),
  int32: (name: string): OpAttribute => ({ name, type: ATTR_TYPE, value: INT32 }),
  bool: (name: string, value: boolean): OpAttribute => ({ name, type: ATTR_BOOL, value }),
  int: (name: string, value: number): OpAttribute => ({ name, type: ATTR_INT, value }),
}
/** The numbers that an op of our own takes. */
export const floatList = (value: readonly number[]): OpAttribute => ({
  ...{ name: 'options', type: constant('TF_ATTR_FLOAT'), value },
})
export type { OpAttribute }

/** What the graph room needs to write attributes down. */
export const ATTRIBUTE = { type: ATTR_TYPE, bool: ATTR_BOOL }
export const dtypeOf = ({ dtype }: Tensor): number =>
  dtype === 'int32' ? INT32 : dtype === 'bool' ? BOOL : FLOAT

type Note = (
  name: string,
  attributes: readonly OpAttribute[],
  inputs: readonly Tensor[],
  outputs: readonly Tensor[],
) => void
let note: Note | null = null

/** Runs `work` while every kernel is also told to `listener`. */
export function recordWith<R>(listener: Note, work: () => R): R {
  if (note !== null) throw new Error('a graph is being recorded already')
  note = listener
  try {
    return work()
  } finally {
    note = null
  }
}

/** Runs one native kernel, without tape: the gradients of this project are written by hand. */
export function execute(name: string, attributes: OpAttribute[], ...inputs: Tensor[]): Tensor {
  const output = backend.executeSingleOutput(name, attributes, inputs)
  note?.(name, attributes, inputs, [output])
  return output
}

export function executeMany(
  name: string,
  attributes: OpAttribute[],
  inputs: Tensor[],
  outputs: number,
): Tensor[] {
  const results = backend.executeMultipleOutputs(name, attributes, inputs, outputs)
  note?.(name, attributes, inputs, results)
  return results
}

/** A view with another shape: no copy. In a recorded graph its leading size stays open. */
export function reshape(a: Tensor, shape: number[]): Tensor {
  const view = tf.reshape(a, shape)
  if (note !== null) {
    const open = intVector([-1, ...shape.slice(1)])
    note(
      'Reshape',
      [{ ...attr.float('T'), value: dtypeOf(a) }, attr.int32('Tshape')],
      [a, open],
      [view],
    )
  }
  return view
}

/** A SavedModel's session. It computes in this thread and reads its ConfigProto from the folder's session.pb. */
export const loadGraph = (folder: string, tag: string): number =>
  backend.loadSavedModelMetaGraph(folder, tag)
export const runGraph = (
  id: number,
  inputs: readonly Tensor[],
  names: readonly string[],
  fetches: readonly string[],
): Tensor[] =>
  backend.runSavedModel(
    id,
    inputs,
    names.map((name) => ({ name })),
    fetches,
  )
export const deleteGraph = (id: number): void => backend.deleteSavedModel(id)

const constants = new Map<string, Tensor>()

/** How many constant tensors live for the whole process: leak tests subtract them. */
export const cachedConstants = (): number => constants.size

/** Whether a tensor is one of the constants below. */
export const isConstant = (tensor: Tensor): boolean => constantData.has(tensor.dataId)
const constantData = new Set<object>()

function cached(key: string, make: () => Tensor): Tensor {
  let tensor = constants.get(key)
  if (tensor === undefined) {
    tensor = tf.keep(make())
    constants.set(key, tensor)
    constantData.add(tensor.dataId)
  }
  return tensor
}

/** A float32 scalar that is made once per value and never disposed; for literals only. */
export const scalar = (value: number): Tensor => cached(`f${value}`, () => tf.scalar(value))
/** A float32 vector of nothing, for an input that is left out. */
export const nothing = (): Tensor => cached('nothing', () => tf.tensor1d([], 'float32'))
/** An int32 vector that is made once per value and never disposed; for axes and permutations. */
export const intVector = (values: readonly number[]): Tensor =>
  cached(`i${values.join()}`, () => tf.tensor1d([...values], 'int32'))
/** An int32 scalar, as `intVector`. */
export const intScalar = (value: number): Tensor =>
  cached(`s${value}`, () => tf.scalar(value, 'int32'))
