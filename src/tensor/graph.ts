import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  ATTRIBUTE,
  deleteGraph,
  dtypeOf,
  INT32,
  isConstant,
  loadGraph,
  recordWith,
  runGraph,
  tf,
} from './backend.ts'
import type { OpAttribute, Tensor } from './backend.ts'
import { node, savedModel, sessionConfig, value } from './graph-proto.ts'

/**
 * Graph execution. While `recordGraph` runs its function, every kernel that `execute` runs is also written
 * down as a node, so that the same code that computes eagerly builds a graph; the session that loads it then
 * runs all of it in one call, at about a microsecond a node, with its variables in device memory.
 *
 * The example tensors show the ranks and all sizes but one: each reshape leaves its leading size open, so the
 * graph takes any number of rows, provided that no later size depends on it.
 */
export type GraphSession = {
  /** the parameters that the graph reads; fetching `LOAD` sets those of them that are fed */
  parameters: readonly string[]
  /** Feeds named tensors, also variables, and fetches others; the caller disposes what it gets. */
  run(feeds: Readonly<Record<string, Tensor>>, fetches: readonly string[]): Tensor[]
  dispose(): void
}

export type Recorder = {
  /** Declares an example tensor as fed by the caller under this name. */
  input(name: string, example: Tensor): void
  /** Declares an example tensor as a variable of the session. */
  variable(name: string, example: Tensor): void
  /** Gives a computed tensor a name, to fetch it by or to feed another one in its place. */
  output(name: string, tensor: Tensor): void
  /** A fetch by this name that sets variables to tensors that were computed or fed. */
  assign(name: string, values: Readonly<Record<string, Tensor>>): void
}

export const LOAD = 'load'
const TAG = 'serve'

/**
 * Records what `build` computes with its examples. `parameters` are tensors from outside that become variables
 * where they are used; `threads` how many work within one kernel. Throws when a tensor is neither of these, nor a
 * constant of this room, nor computed in the recording: it would be frozen into the graph.
 */
export function recordGraph(
  build: (recorder: Recorder) => void,
  parameters: ReadonlyMap<string, Tensor>,
  threads: number,
): GraphSession {
  const unused = new Map([...parameters].map(([name, { dataId }]) => [dataId as object, name]))
  const used: Record<string, Tensor> = {}
  const nodes: Buffer[] = []
  /** by data, not by tensor: a clone is the same node */
  const names = new Map<object, string>()
  let count = 0

  const write = (
    op: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, Buffer>>,
    name = `op${count++}`,
  ): string => {
    nodes.push(node(name, op, inputs, attributes))
    return name
  }
  const nameOf = (tensor: Tensor): string => {
    const known = names.get(tensor.dataId)
    if (known !== undefined) return known
    const parameter = unused.get(tensor.dataId)
    if (parameter !== undefined) {
      used[parameter] = tensor
      recorder.variable(parameter, tensor)
      return parameter
    }
    if (!isConstant(tensor)) throw new Error(`a tensor [${tensor.shape.join()}] was not recorded`)
    const data = tensor.dataSync() as Float32Array | Int32Array
    const content = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    const dtype = dtypeOf(tensor)
    const name = write('Const', [], {
      dtype: value.type(dtype),
      value: value.tensor(dtype, tensor.shape, content),
    })
    names.set(tensor.dataId, name)
    return name
  }
  const open = (shape: readonly number[]): number[] => shape.map((size, i) => (i === 0 ? -1 : size))
  const typed = (tensor: Tensor) => value.type(dtypeOf(tensor))

  const recorder: Recorder = {
    input(name, example) {
      const shape = value.shape(open(example.shape))
      names.set(example.dataId, write('Placeholder', [], { dtype: typed(example), shape }, name))
    },
    variable(name, example) {
      const shared = { shared_name: value.text(name), container: value.text('') }
      const shape = value.shape(open(example.shape))
      const handle = `${name}/handle`
      write('VarHandleOp', [], { dtype: typed(example), shape, ...shared }, handle)
      const read = write('ReadVariableOp', [handle], { dtype: typed(example) }, name)
      names.set(example.dataId, read)
    },
    output(name, tensor) {
      names.set(tensor.dataId, write('Identity', [nameOf(tensor)], { T: typed(tensor) }, name))
    },
    assign(name, values) {
      const done = Object.entries(values).map(([variable, tensor]) =>
        write('AssignVariableOp', [`${variable}/handle`, nameOf(tensor)], { dtype: typed(tensor) }),
      )
      const dtype = INT32
      const nothing = value.tensor(dtype, [], new Uint8Array(4))
      const after = done.map((assignment) => `^${assignment}`)
      write('Const', after, { dtype: value.type(dtype), value: nothing }, name)
    },
  }
  recordWith(
    (op, attributes, inputs, outputs) => {
      const named = write(op, inputs.map(nameOf), encoded(attributes))
      outputs.forEach(({ dataId }, i) => names.set(dataId, i === 0 ? named : `${named}:${i}`))
    },
    () => tf.tidy(() => build(recorder)),
  )
  recorder.assign(LOAD, used)
  return { parameters: Object.keys(used), ...load(nodes, threads) }
}

function encoded(attributes: readonly OpAttribute[]): Record<string, Buffer> {
  return Object.fromEntries(
    attributes.map(({ name, type, value: given }) => {
      if (type === ATTRIBUTE.type) return [name, value.type(Number(given))]
      if (type === ATTRIBUTE.bool) return [name, value.bool(given === true)]
      if (typeof given === 'object') return [name, value.floats(given)]
      return [name, value.int(Number(given))]
    }),
  )
}

function load(nodes: readonly Buffer[], threads: number): Pick<GraphSession, 'run' | 'dispose'> {
  const folder = mkdtempSync(join(tmpdir(), 'libra-graph-'))
  let id: number
  try {
    writeFileSync(join(folder, 'saved_model.pb'), savedModel(nodes, TAG))
    writeFileSync(join(folder, 'session.pb'), sessionConfig(threads))
    id = loadGraph(folder, TAG)
  } finally {
    rmSync(folder, { recursive: true })
  }
  return {
    run: (feeds, fetches) => runGraph(id, Object.values(feeds), Object.keys(feeds), fetches),
    dispose: () => deleteGraph(id),
  }
}
