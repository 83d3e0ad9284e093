import { LibraError } from '../errors.ts'
import { tf } from '../tensor/backend.ts'
import type { Tensor } from '../tensor/backend.ts'
import { add, concat, floats, matMul, scale, upload } from '../tensor/ops.ts'
import { normal } from '../random.ts'
import { readAdapter, readConfig } from '../weights/folder.ts'
import type { LlamaConfig } from '../weights/config.ts'
import type { LoraOptions } from '../schemas/training-options.ts'
import { loraShape, sizesOf } from '../weights/lora.ts'
import type { Array32 } from '../weights/safetensors.ts'
import { weightShapes } from '../weights/shapes.ts'
import { openWeights } from '../weights/shards.ts'
import { createDecoders } from './decoder.ts'
import { createRope } from './rope.ts'
import type { Llama, LoraPair } from './llama.ts'

const keep = ({ shape, data }: Array32): Tensor => tf.keep(floats(data, shape))

/** Heads that a checkpoint may hold beside what its config.json says; each is one row. */
const SCALAR_HEADS = ['score.weight', 'score_mean.weight', 'value.weight']
/** What a checkpoint may hold and nobody needs: old tables of angles, a tied or unused unembedding. */
const SUPERFLUOUS = /rotary_emb\.inv_freq$|^lm_head\.weight$/

/**
 * Loads a base folder, one tensor at a time. Throws `damaged_checkpoint` naming the tensors that are missing, misshapen,
 * not finite or more than config.json says.
 */
export async function loadBase(folder: string): Promise<Llama> {
  const config = await readConfig(folder)
  const expected = weightShapes(config)
  const head = [1, config.hiddenSize]
  const weights = new Map<string, Tensor>()
  const fail = (message: string): never => {
    throw new LibraError('damaged_checkpoint', `${folder}: ${message}`)
  }
  const stored = await openWeights(folder)
  try {
    for (const [name, { shape, data: read }] of stored.tensors) {
      const wanted = expected.get(name) ?? (SCALAR_HEADS.includes(name) ? head : undefined)
      if (wanted === undefined) {
        if (SUPERFLUOUS.test(name)) continue
        fail(`${name} is there, though config.json describes a model without it`)
      } else if (wanted.join() !== shape.join())
        fail(`${name} has shape [${shape.join()}], config.json says [${wanted.join()}]`)
      const data = read()
      if (!allFinite(data)) fail(`${name} holds numbers that are not finite`)
      weights.set(name, tf.keep(upload(data, shape)))
    }
    const missing = [...expected.keys()].filter(
      // a classifier is stored without the unembedding that it never uses
      (name) => !weights.has(name) && !(name === 'lm_head.weight' && weights.has('score.weight')),
    )
    const more = missing.length > 5 ? ` and ${missing.length - 5} more` : ''
    if (missing.length > 0) fail(`missing: ${missing.slice(0, 5).join(', ')}${more}`)
  } catch (error) {
    tf.dispose([...weights.values()])
    throw error
  } finally {
    stored.close()
  }
  return { config, weights, adapter: null, rope: createRope(config), decoders: createDecoders() }
}

/** Infinity and NaN times zero are NaN, and a sum keeps it: five times as fast as asking each number. */
function allFinite(data: Float32Array): boolean {
  let zero = 0
  for (let i = 0; i < data.length; i++) zero += (data[i] ?? NaN) * 0
  return zero === 0
}

/** New weights: normal with deviation 0.02, residual outputs scaled by 1/√(2·layers) (GPT-2), norms at one. */
export function initialize(config: LlamaConfig, seed: number): Llama {
  const weights = new Map<string, Tensor>()
  let index = 0
  for (const [name, shape] of weightShapes(config)) {
    const size = shape.reduce((a, b) => a * b, 1)
    const residual = name.endsWith('o_proj.weight') || name.endsWith('down_proj.weight')
    const deviation = 0.02 / (residual ? Math.sqrt(2 * config.layers) : 1)
    const which = index++
    const data =
      shape.length === 1
        ? new Float32Array(size).fill(name.endsWith('.bias') ? 0 : 1)
        : Float32Array.from({ length: size }, (_, i) => deviation * normal(seed, which, i))
    weights.set(name, tf.keep(floats(data, shape)))
  }
  return { config, weights, adapter: null, rope: createRope(config), decoders: createDecoders() }
}

/** A fresh adapter: A uniform as PEFT's kaiming, B zero, so that it starts as the identity. */
export function newAdapter(model: Llama, lora: LoraOptions, seed: number): Map<string, LoraPair> {
  const adapter = new Map<string, LoraPair>()
  let index = 0
  for (const [name, w] of model.weights) {
    const module = name.replace(/\.weight$/, '')
    if (!(lora.target_modules as readonly string[]).includes(module.split('.').at(-1) ?? ''))
      continue
    const { rank, scale } = loraShape(sizesOf(lora), module)
    const [out = 0, input = 0] = w.shape
    const which = index++
    const a = Float32Array.from(
      { length: rank * input },
      (_, i) => normal(seed, 9001, which, i) / Math.sqrt(3 * input),
    )
    adapter.set(module, {
      a: tf.keep(floats(a, [rank, input])),
      b: tf.keep(tf.zeros([out, rank]) as Tensor),
      scale,
    })
  }
  return adapter
}

export type LoadedAdapter = { pairs: Map<string, LoraPair>; heads: Map<string, Tensor> }

/** Loads an adapter folder for a base. Throws `damaged_checkpoint` when a module does not fit. */
export async function loadAdapter(base: Llama, folder: string): Promise<LoadedAdapter> {
  const file = await readAdapter(folder)
  const pairs = new Map<string, LoraPair>()
  for (const [module, { a, b, scale }] of file.pairs) {
    const [out, input] = base.weights.get(`${module}.weight`)?.shape ?? []
    if (out === undefined || b.shape[0] !== out || a.shape[1] !== input) {
      disposePairs(pairs)
      throw new LibraError(
        'damaged_checkpoint',
        `${folder}: adapter of ${module} does not fit this base`,
      )
    }
    pairs.set(module, { a: keep(a), b: keep(b), scale })
  }
  for (const [name, { shape }] of file.heads)
    if (shape.join() !== [1, base.config.hiddenSize].join()) {
      disposePairs(pairs)
      throw new LibraError(
        'damaged_checkpoint',
        `${folder}: ${name} has shape [${shape.join()}], this base takes [1,${base.config.hiddenSize}]`,
      )
    }
  return { pairs, heads: new Map([...file.heads].map(([name, head]) => [name, keep(head)])) }
}

/**
 * A stack of adapters as one: ranks laid side by side, the scales folded into B. Applying it equals applying
 * all of them, at one extra pair of products per projection. The inputs are left as they are.
 */
export function stackAdapters(
  stack: readonly ReadonlyMap<string, LoraPair>[],
): Map<string, LoraPair> {
  const merged = new Map<string, LoraPair>()
  for (const module of new Set(stack.flatMap((adapter) => [...adapter.keys()]))) {
    const pairs = stack.flatMap((adapter) => adapter.get(module) ?? [])
    merged.set(
      module,
      tf.tidy(() => ({
        a: tf.keep(
          concat(
            pairs.map(({ a }) => a),
            0,
          ),
        ),
        b: tf.keep(
          concat(
            pairs.map(({ b, scale: s }) => scale(b, s)),
            1,
          ),
        ),
        scale: 1,
      })),
    )
  }
  return merged
}

/** W + scale·B·A for every adapted projection: new tensors for those, shared ones for the rest. */
export function mergeAdapter(
  base: Llama,
  adapter: ReadonlyMap<string, LoraPair>,
): Llama & { owned: Tensor[] } {
  const weights = new Map(base.weights)
  const owned: Tensor[] = []
  for (const [module, { a, b, scale: s }] of adapter) {
    const w = base.weights.get(`${module}.weight`)
    if (w === undefined) continue
    const merged = tf.keep(tf.tidy(() => add(w, scale(matMul(b, a), s))))
    owned.push(merged)
    weights.set(`${module}.weight`, merged)
  }
  return { ...base, weights, adapter: null, owned }
}

export function disposePairs(pairs: ReadonlyMap<string, LoraPair>): void {
  for (const { a, b } of pairs.values()) tf.dispose([a, b])
}

export function disposeBase(model: Llama): void {
  tf.dispose([...model.weights.values()])
  model.rope.dispose()
  model.decoders.dispose()
}
