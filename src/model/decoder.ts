import { dispose, intVector, scoped, tf } from '../tensor/backend.ts'
import type { Tensor } from '../tensor/backend.ts'
import { LOAD, recordGraph } from '../tensor/graph.ts'
import type { GraphSession, Recorder } from '../tensor/graph.ts'
import {
  addInts,
  asInts,
  floats,
  gatherRows,
  ints,
  pad,
  read,
  reshape,
  reshapeTo,
  slice,
  writeRows,
} from '../tensor/ops.ts'
import { logits } from './heads.ts'
import { attendCached } from './cached.ts'
import type { KeyValues, Remember } from './cached.ts'
import { block, lastNorm, weight } from './llama.ts'
import type { Llama } from './llama.ts'
import { composed } from '../tensor/fused.ts'
import { decodeMasks } from './masks.ts'
import { choose } from './sampling.ts'
import type { Choice, Warp } from './sampling.ts'

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
  acquire(model: Llama, rows: number): Decoder
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

export function createDecoders(): Decoders {
  const idle: Entry[] = []
  let bound = IDLE
  return {
    acquire(model, rows) {
      const threads = threadsFor(model, rows)
      const key = JSON.stringify([threads, structure(model)])
      const found = idle.findIndex((entry) => entry.key === key)
      const parameters = parametersOf(model)
      const entry = idle.splice(found, found < 0 ? 0 : 1)[0] ?? {
        key,
        session: recordGraph((recorder) => record(model, recorder), parameters, threads),
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

/**
 * Handing a part of a kernel to another thread costs some 10 µs, more than most kernels of a small step take.
 * Estimated by the multiplications of a layer, where a lone row is bound by reading the weights.
 */
const WORTH_THREADS = 2.6e6
function threadsFor({ weights, config }: Llama, rows: number): number {
  let parameters = 0
  for (const { size } of weights.values()) parameters += size
  const work = (parameters / config.layers) * (1 + rows / 16)
  return work < WORTH_THREADS ? 1 : 0 // 0: as many as TensorFlow has
}

// --- the graph -------------------------------------------------------------------------------

const keysOf = (layer: number): string => `keys.${layer}`
const valuesOf = (layer: number): string => `values.${layer}`
const CHOICES: readonly Choice[] = ['greedy', 'sampled', 'warped']

function record(model: Llama, recorder: Recorder): void {
  const { layers, heads: H, kvHeads: K, headDim: E, vocabularySize: V } = model.config
  const [B, S] = [2, 8] // examples; both stay open in the graph
  const fed = (name: string, example: Tensor): Tensor => {
    recorder.input(name, example)
    return example
  }
  const held = (name: string, example: Tensor): Tensor => {
    recorder.variable(name, example)
    return example
  }
  const [cos, sin] = [
    held('cos', floats(zeros(S * E), [S, E])),
    held('sin', floats(zeros(S * E), [S, E])),
  ]
  const slots = held('slots', floats(zeros(S), [S]))
  const firsts = held('firsts', ints([0, ...range(B * K - 1).map((i) => i + 1)], [B * K]))
  const shape = held('shape', ints([B, K, S, E], [4]))
  const cache = range(layers).map((layer) => ({
    k: held(keysOf(layer), floats(zeros(B * K * S * E), [B * K * S, E])),
    v: held(valuesOf(layer), floats(zeros(B * K * S * E), [B * K * S, E])),
  }))
  const warp: Warp = {
    inverseTemperature: held('inverseTemperature', tf.scalar(1)),
    topP: held('topP', tf.scalar(1)),
    topK: held('topK', tf.scalar(V, 'int32')),
  }

  // one upload a step: token, position and uniform of each row
  const rows = fed('rows', floats(zeros(B * 3), [B, 3]))
  const column = (i: number): Tensor => slice(rows, [0, i], [-1, 1])
  const position = asInts(column(1))
  const spread = (heads: number): Tensor =>
    reshape(addInts(position, intVector(zeros(heads))), [B * heads])
  const table = (heads: number) => {
    const index = spread(heads)
    return { cos: gatherRows(cos, index), sin: gatherRows(sin, index) }
  }
  const angles = { q: table(H), k: table(K) }
  const masks = decodeMasks(model.config, column(1), slots)
  const at = reshape(addInts(position, reshape(firsts, [B, K])), [B * K])
  const remember: Remember = (layer, own) => {
    const past = cache[layer] ?? own
    const grown = (all: Tensor, mine: Tensor): Tensor =>
      reshapeTo(writeRows(all, at, reshape(mine, [B * K, E])), shape)
    return { k: grown(past.k, own.k), v: grown(past.v, own.v) }
  }
  let x = gatherRows(weight(model, 'model.embed_tokens.weight'), reshape(asInts(column(0)), [B]))
  const attend = attendCached(model, [B, 1], angles, masks, remember)
  for (let layer = 0; layer < layers; layer++)
    x = block(model, layer, x, attend, { ops: composed }).y
  const last = lastNorm(model, x, composed).y
  const next = logits(model, last, null)
  recorder.output('logits', next)
  for (const how of CHOICES) recorder.output(how, choose(next, column(2), warp, how))

  // another cache: some rows of the old one, with more slots
  const old = fed('old', ints([B * K, S, E], [3]))
  const kept = fed('kept', ints(range(B * K), [B * K]))
  const more = fed('more', ints(zeros(6), [3, 2]))
  const resized = (all: Tensor): Tensor =>
    reshape(pad(gatherRows(reshapeTo(all, old), kept), more), [B * K * S, E])
  recorder.assign('resize', {
    ...{ cos, sin, slots, firsts, shape },
    ...Object.fromEntries(
      cache.flatMap(({ k, v }, layer) => [
        [keysOf(layer), resized(k)],
        [valuesOf(layer), resized(v)],
      ]),
    ),
  })
  recorder.assign('warp', { ...warp })
}

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i)
const zeros = (n: number): number[] => new Array<number>(n).fill(0)

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
      const { cos, sin } = model.rope.tables(range(to))
      return {
        ...{ cos, sin, ...given },
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
