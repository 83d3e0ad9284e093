import { dispose, scoped, tf } from '../tensor/backend.ts'
import type { Tensor } from '../tensor/backend.ts'
import { fused, native } from '../tensor/fused.ts'
import type { Fused } from '../tensor/fused.ts'
import { LOAD, recordGraph } from '../tensor/graph.ts'
import type { GraphSession } from '../tensor/graph.ts'
import { floats, ints, read, reshape } from '../tensor/ops.ts'
import type { KeyValues } from './cached.ts'
import { keysOf, range, recordStep, valuesOf } from './decode-step.ts'
import type { Llama } from './llama.ts'
import type { Choice } from './sampling.ts'

/**
 * One decode step as a recorded graph: from the rows' last tokens to their next ones in one call, with the weights
 * and the key-value cache in the session. Each row writes its keys and values into the slot of its position, so
 * padding on the right of a prompt is overwritten as the row grows. S slots a row; the cache of a layer is kept as
 * [B·K·S, E].
 */
export type Decoder = {
  /** Takes the prompts' keys and values [B, K, P, E] into a cache of `slots` and sets how tokens are chosen. */
  begin(cache: readonly KeyValues[], slots: number, sampling: Sampling): void
  /** Tokens from given logits [B, V]. */
  choose(logits: Tensor, draws: readonly number[]): Chosen
  /** Takes in the rows' last tokens at their positions (also their slots) and chooses the next ones. */
  step(tokens: readonly number[], positions: readonly number[], draws: readonly number[]): Chosen
  /** Keeps the cache of some rows, with as many slots as before or more. */
  resize(rows: readonly number[], slots: number): void
  /** Frees the cache and leaves the graph to the next generation. */
  release(): void
}
export type Sampling = { temperature: number; topP: number; topK: number }
export type Chosen = { tokens: readonly number[]; logprobs: readonly number[] }

/** The graphs of one base: built on first need, shared by generations that follow one another. */
export type Decoders = {
  acquire(model: Llama): Decoder
  dispose(): void
}

type Entry = {
  key: string
  session: GraphSession
  /** the data of each parameter as the session holds it */
  loaded: Map<string, object>
}

/** Graphs that wait for their next use; more are freed, the longest unused first. */
const IDLE = 4

/** `ops` are the native ones or those composed for a GPU; both choose the same tokens. */
export function createDecoders(ops: Fused = fused): Decoders {
  const threads = ops === native ? 1 : 0 // Libra's ops have threads of their own; 0: as many as TensorFlow has
  const idle: Entry[] = []
  let bound = IDLE
  return {
    acquire(model) {
      const key = JSON.stringify(structure(model))
      const found = idle.findIndex((entry) => entry.key === key)
      const parameters = parametersOf(model)
      const entry = idle.splice(found, found < 0 ? 0 : 1)[0] ?? {
        key,
        session: recordGraph((recorder) => recordStep(model, recorder, ops), parameters, threads),
        loaded: new Map<string, object>(),
      }
      load(entry, parameters)
      return open(model, entry.session, () => {
        idle.push(entry)
        while (idle.length > bound) idle.shift()?.session.dispose()
      })
    },
    dispose() {
      bound = 0 // what is still at work goes when it is done
      for (const { session } of idle.splice(0)) session.dispose()
    },
  }
}

/** What of a model decides its graph. */
const structure = ({ weights, adapter }: Llama) => [
  [...weights.keys()],
  [...(adapter ?? [])].map(([module, { a, scale }]) => [module, a.shape[0], scale]),
]

function parametersOf({ weights, adapter, rope }: Llama): Map<string, Tensor> {
  const pairs = [...(adapter ?? [])].flatMap(([module, { a, b }]): [string, Tensor][] => [
    [`${module}.lora_A`, a],
    [`${module}.lora_B`, b],
  ])
  return new Map([...weights, ...pairs, ['rotation', rope.rotation]])
}

/** Gives the session what changed since it was last used: training replaces tensors. */
function load({ session, loaded }: Entry, parameters: ReadonlyMap<string, Tensor>): void {
  const changed = session.parameters.flatMap((name): [string, Tensor][] => {
    const tensor = parameters.get(name)
    return tensor === undefined || loaded.get(name) === tensor.dataId ? [] : [[name, tensor]]
  })
  if (changed.length === 0) return
  dispose(session.run(Object.fromEntries(changed), [LOAD]))
  for (const [name, { dataId }] of changed) loaded.set(name, dataId)
}

// --- its use ---------------------------------------------------------------------------------

function open(model: Llama, session: GraphSession, done: () => void): Decoder {
  const { kvHeads: K, headDim: E, vocabularySize: V } = model.config
  let how: Choice = 'greedy'
  let [rows, slots] = [0, 0]

  /** Runs a fetch that answers with nothing. */
  const set = (name: string, feeds: () => Record<string, Tensor>): void =>
    scoped(() => void session.run(feeds(), [name]))

  function cut(keep: readonly number[], from: number, to: number, given: Record<string, Tensor>) {
    set('resize', () => {
      return {
        ...{ angles: model.rope.angles(to), ...given },
        slots: floats(range(to), [to]),
        firsts: ints(
          range(keep.length * K).map((i) => i * to),
          [keep.length * K],
        ),
        shape: ints([keep.length, K, to, E], [4]),
        old: ints([-1, from, E], [3]),
        kept: ints(
          keep.flatMap((row) => range(K).map((k) => row * K + k)),
          [keep.length * K],
        ),
        more: ints([0, 0, 0, to - from, 0, 0], [3, 2]),
      }
    })
    ;[rows, slots] = [keep.length, to]
  }
  function chosen(feeds: Record<string, Tensor>): Chosen {
    const [result] = session.run(feeds, [how])
    if (result === undefined) throw new Error('the graph gave no output')
    const values = read(result)
    dispose([result, feeds])
    const column = (i: number) => Array.from({ length: rows }, (_, b) => values[2 * b + i] ?? NaN)
    return { tokens: column(0), logprobs: column(1) }
  }
  const packed = (columns: readonly (readonly number[])[]): Tensor =>
    floats(
      Float32Array.from({ length: rows * 3 }, (_, i) => columns[i % 3]?.[Math.floor(i / 3)] ?? 0),
      [rows, 3],
    )

  return {
    begin(cache, capacity, { temperature, topP, topK }) {
      const unlimited = topK <= 0 || topK >= V
      how = temperature === 0 ? 'greedy' : topP >= 1 && unlimited ? 'sampled' : 'warped'
      set('warp', () => ({
        inverseTemperature: tf.scalar(temperature === 0 ? 1 : 1 / temperature),
        topP: tf.scalar(topP),
        topK: tf.scalar(unlimited ? V : topK, 'int32'),
      }))
      const [B = 0, , P = 0] = cache[0]?.k.shape ?? []
      scoped(() =>
        cut(
          range(B),
          P,
          capacity,
          Object.fromEntries(
            cache.flatMap(({ k, v }, layer) => [
              [keysOf(layer), reshape(k, [B * K * P, E])],
              [valuesOf(layer), reshape(v, [B * K * P, E])],
            ]),
          ),
        ),
      )
    },
    choose: (given, draws) => chosen({ logits: tf.clone(given), rows: packed([[], [], draws]) }),
    step: (tokens, positions, draws) => chosen({ rows: packed([tokens, positions, draws]) }),
    resize: (keep, capacity) => cut(keep, slots, capacity, {}),
    release() {
      cut([], slots, slots, {})
      done()
    },
  }
}
