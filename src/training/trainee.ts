import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { tf } from '../tensor/backend.ts'
import type { Tensor } from '../tensor/backend.ts'
import { floats, upload } from '../tensor/ops.ts'
import { normal } from '../random.ts'
import type { Llama, LoraPair, Trainable } from '../model/llama.ts'
import {
  disposeBase,
  disposePairs,
  loadAdapter,
  loadBase,
  mergeAdapter,
  newAdapter,
  stackAdapters,
} from '../model/resident.ts'
import { LibraError } from '../errors.ts'
import type { LoadedAdapter } from '../model/resident.ts'
import type { ModelCard } from '../schemas/model.ts'
import type { LoraOptions } from '../schemas/training-options.ts'
import { loadTokenizer } from '../text/tokenizer.ts'
import { commitFolder } from '../weights/atomic.ts'
import { loraShape, sizesOf } from '../weights/lora.ts'
import { MEAN_HEAD } from '../model/readout.ts'
import { deriveConfig } from '../weights/render.ts'
import type { Dtype } from '../weights/safetensors.ts'
import { readJson } from '../weights/json.ts'
import { openWeights } from '../weights/shards.ts'
import { writeAdapter, writeBase } from '../weights/folder.ts'
import { adapterParameters, allParameters, toArray } from './parameters.ts'
import type { Parameters } from './optimizer.ts'

/**
 * A model that trains, with its scalar heads. With LoRA: a frozen trunk (base and lower adapters, merged) under a
 * new adapter. Without: a copy of all the trunk's weights.
 */
export type Trainee = {
  model: Llama
  /** the frozen trunk: PPO's reference policy, with LoRA at no extra memory */
  reference: Llama
  trainable: Trainable
  parameters: Parameters
  /** the model as it is now with nothing to add on the way; dispose `owned` after use */
  merged(): Llama & { owned: Tensor[] }
  /** writes a checkpoint folder: an adapter, or with all weights a base of its own */
  save(
    output: string,
    card: Omit<ModelCard, 'format' | 'kind'>,
    options?: SaveOptions,
  ): Promise<void>
  dispose(): void
}
/** `extra` writes more files into the folder before it is committed. */
type SaveOptions = { dtype?: Dtype; extra?: (folder: string) => Promise<void> }
type Files = { base: string; adapters: readonly string[] }

/** `resume`: a checkpoint of an earlier run on the same files, whose weights and heads are taken up. */
export async function loadTrainee(
  files: Files,
  lora: LoraOptions | null,
  heads: readonly string[],
  seed: number,
  resume: string | null = null,
): Promise<Trainee> {
  const { trunk, base, given } = await loadTrunk(files)
  const dispose = (): void => {
    tf.dispose([...trunk.owned, ...given.values()])
    disposeBase(base)
  }
  const parts = { trunk, base, given, heads, seed, resume, files, dispose }
  return lora === null ? fullTrainee(parts) : loraTrainee(parts, lora)
}

type Parts = {
  trunk: Llama & { owned: Tensor[] }
  base: Llama
  /** heads of the adapters below */
  given: ReadonlyMap<string, Tensor>
  heads: readonly string[]
  seed: number
  resume: string | null
  files: Files
  dispose(): void
}

async function loadTrunk(files: Files): Promise<Pick<Parts, 'trunk' | 'base' | 'given'>> {
  const base = await loadBase(files.base)
  const frozen: LoadedAdapter[] = []
  try {
    for (const folder of files.adapters) {
      const adapter = await loadAdapter(base, folder)
      frozen.push(adapter)
      if (adapter.heads.has(MEAN_HEAD))
        throw new LibraError(
          'incompatible_parent',
          `${folder} is a readout, a head on weights that are not its own: nothing trains on top of it; start from the model that it reads`,
        )
    }
  } catch (error) {
    for (const { pairs, heads } of frozen) {
      disposePairs(pairs)
      tf.dispose([...heads.values()])
    }
    disposeBase(base)
    throw error
  }
  const stack = stackAdapters(frozen.map(({ pairs }) => pairs))
  const trunk = mergeAdapter(base, stack)
  disposePairs(stack)
  const given = new Map<string, Tensor>()
  for (const { pairs, heads } of frozen) {
    disposePairs(pairs)
    for (const [name, head] of heads) {
      given.get(name)?.dispose()
      given.set(name, head)
    }
  }
  return { trunk, base, given }
}

/**
 * The head that the model has already, else a new one: a value head starts at zero, so that the first advantages are the
 * rewards; a readout's at zero, since any start would do; a score head small.
 */
function startHead({ trunk, given, seed, heads }: Parts, name: string, index: number): Tensor {
  const readout = heads.includes(MEAN_HEAD)
  const found = readout ? undefined : (given.get(name) ?? trunk.weights.get(name))
  if (found !== undefined) return tf.keep(tf.clone(found))
  const D = trunk.config.hiddenSize
  const start =
    readout || name === 'value.weight'
      ? new Float32Array(D)
      : Float32Array.from({ length: D }, (_, j) => 0.02 * normal(seed, 77, index, j))
  return tf.keep(floats(start, [1, D]))
}

/** A run goes on with the adapter that is there: other options would be written down and not be true. */
function checkSame(
  pairs: ReadonlyMap<string, LoraPair>,
  lora: LoraOptions,
  checkpoint: string,
): void {
  const modules = new Set([...pairs.keys()].map((name) => name.split('.').at(-1)))
  const { target_modules: targets } = lora
  const same =
    modules.size === targets.length &&
    targets.every((name) => modules.has(name)) &&
    [...pairs].every(([module, pair]) => {
      const { rank, scale } = loraShape(sizesOf(lora), module)
      return pair.a.shape[0] === rank && pair.scale === scale
    })
  if (!same)
    throw new LibraError(
      'incompatible_parent',
      `${checkpoint} has an adapter of another shape: go on with the lora options that it was begun with`,
    )
}

async function loraTrainee(parts: Parts, lora: LoraOptions): Promise<Trainee> {
  const { trunk, base, heads, seed, resume, files } = parts
  const resumed = resume === null ? null : await loadAdapter(base, resume)
  if (resumed !== null) checkSame(resumed.pairs, lora, resume ?? '')
  const adapter = resumed?.pairs ?? newAdapter(trunk, lora, seed)
  const weights = new Map(trunk.weights)
  heads.forEach((name, i) =>
    weights.set(name, resumed?.heads.get(name) ?? startHead(parts, name, i)),
  )
  const model: Llama = { ...trunk, weights, adapter }
  const parameters = adapterParameters(model, adapter, heads)
  return {
    model,
    reference: { ...trunk, adapter: null },
    trainable: 'adapter',
    parameters,
    merged: () => mergeAdapter(trunk, adapter),
    save: (output, card, { dtype, extra } = {}) =>
      commitFolder(output, async (folder) => {
        await writeAdapter(folder, {
          lora,
          pairs: adapterArrays(adapter),
          heads: new Map(heads.map((name) => [name, toArray(parameters.get(name))])),
          card: { format: 1, kind: 'adapter', ...card },
          base: files.base,
          ...(dtype === undefined ? {} : { dtype }),
        })
        await extra?.(folder)
      }),
    dispose() {
      disposePairs(adapter)
      for (const name of heads) weights.get(name)?.dispose()
      parts.dispose()
    },
  }
}

const adapterArrays = (adapter: ReadonlyMap<string, LoraPair>) =>
  new Map([...adapter].map(([module, { a, b }]) => [module, { a: toArray(a), b: toArray(b) }]))

async function fullTrainee(parts: Parts): Promise<Trainee> {
  const { trunk, heads, resume, files } = parts
  const weights = new Map<string, Tensor>()
  const resumed = new Map<string, Tensor>()
  if (resume !== null) {
    const { tensors, close } = await openWeights(resume)
    for (const [name, { shape, data }] of tensors) resumed.set(name, tf.keep(upload(data(), shape)))
    close()
  }
  for (const [name, weight] of trunk.weights)
    if (!heads.includes(name)) weights.set(name, resumed.get(name) ?? tf.keep(tf.clone(weight)))
  heads.forEach((name, i) => weights.set(name, resumed.get(name) ?? startHead(parts, name, i)))
  const model: Llama = { ...trunk, weights, adapter: null }
  return {
    model,
    reference: { ...trunk, adapter: null },
    trainable: 'all',
    parameters: allParameters(model),
    merged: () => ({ ...model, owned: [] }),
    save: (output, card, { dtype, extra } = {}) =>
      commitFolder(output, async (folder) => {
        const tokenizer = await loadTokenizer(files.base)
        for (const file of ['tokenizer.json', 'tokenizer_config.json'])
          await copyFile(join(files.base, file), join(folder, file))
        await copyFile(
          join(files.base, 'chat_template.jinja'),
          join(folder, 'chat_template.jinja'),
        ).catch(() => {}) // the template may stand in tokenizer_config.json
        const config = deriveConfig(await readJson(join(files.base, 'config.json')), {
          ...{ scores: heads.includes('score.weight'), dtype: dtype ?? 'F32' },
          pad: tokenizer.pad,
        })
        const tensors = Object.fromEntries([...weights].map(([name, w]) => [name, toArray(w)]))
        await writeBase(folder, config, tensors, { format: 1, kind: 'base', ...card }, dtype)
        await extra?.(folder)
      }),
    dispose() {
      tf.dispose([...weights.values()])
      parts.dispose()
    },
  }
}
