import { createHash } from 'node:crypto'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { LibraError } from '../errors.ts'
import type { Llama, LoraPair } from '../model/llama.ts'
import { cutBy } from '../model/readout.ts'
import {
  disposeBase,
  disposePairs,
  loadAdapter,
  loadBase,
  stackAdapters,
} from '../model/resident.ts'
import type { Calibration } from '../schemas/model.ts'
import { tf } from '../tensor/backend.ts'
import type { Tensor } from '../tensor/backend.ts'
import { loadTokenizer } from '../text/tokenizer.ts'
import type { Tokenizer } from '../text/tokenizer.ts'
import { verifyFolder } from '../weights/atomic.ts'
import { readCard } from '../weights/folder.ts'
import type { ModelFiles } from './engine.ts'

type Base = { model: Llama; tokenizer: Tokenizer; hash: string; files: Files }
/** SHA-256 of each file that a model is made of, by its path. */
type Files = Record<string, string>

/** A base with its stack of adapters, ready for work. */
export type Resident = {
  model: Llama
  tokenizer: Tokenizer
  calibration: Calibration | null
  /** tokens that it reads, counted from the end: what it was trained on */
  window: number
  version: string
  files: Files
  pairs: Map<string, LoraPair>
  heads: Map<string, Tensor>
}

export type Residents = {
  /** Lends a model to some work, loading it where it is not there; what is lent is never evicted. */
  use<T>(files: ModelFiles, work: (resident: Resident) => Promise<T>): Promise<T>
  count(): number
  close(): Promise<void>
}

type Entry<T> = {
  loading: Promise<T>
  /** of its weights; of their files until they are loaded */
  bytes: number
  users: number
  dispose(): void
}

/**
 * The models of an engine. A base is held once and shared by every stack of adapters on it. When a model is loaded
 * and all together would pass `limit` bytes of weights, those that were used longest ago and that nobody uses leave.
 */
export function createResidents(limit = Infinity): Residents {
  // insertion order is order of use
  const bases = new Map<string, Entry<Base>>()
  const stacks = new Map<string, Entry<Resident>>()

  const total = (): number => sum([...bases.values(), ...stacks.values()].map(({ bytes }) => bytes))

  function evict(wanted: number): void {
    for (const map of [stacks, bases] as Map<string, Entry<unknown>>[])
      for (const [key, entry] of map) {
        if (total() + wanted <= limit) return
        if (entry.users > 0) continue
        map.delete(key)
        entry.dispose()
      }
  }

  /** The entry under a key, made by `load` where there is none, moved to the end of the order and taken once. */
  function take<T>(
    map: Map<string, Entry<T>>,
    key: string,
    folders: readonly string[],
    load: () => Promise<{ value: T; tensors: Iterable<Tensor>; dispose(): void }>,
  ): Entry<T> {
    const known = map.get(key)
    if (known !== undefined) {
      known.users++
      map.delete(key)
      map.set(key, known)
      return known
    }
    const entry: Entry<T> = {
      ...{ loading: Promise.resolve(null as never), bytes: 0, users: 1, dispose() {} },
    }
    map.set(key, entry)
    entry.loading = (async () => {
      const wanted = sum(await Promise.all(folders.map(weightBytes)))
      if (wanted > limit)
        throw new LibraError(
          'model_too_large',
          `${folders.join(', ')}: ${wanted} bytes of weights, and models may take ${limit} together (LIBRA_MODEL_MEMORY)`,
          { details: { bytes: wanted, limit } },
        )
      evict(wanted)
      entry.bytes = wanted
      const { value, tensors, dispose } = await load()
      entry.bytes = sum([...tensors].map(({ size }) => 4 * size))
      entry.dispose = dispose
      evict(0) // files may hold half precision
      return value
    })()
    entry.loading.catch(() => map.delete(key))
    return entry
  }

  const takeBase = (folder: string): Entry<Base> =>
    take(bases, folder, [folder], async () => {
      const { hash, files } = await verifyFolder(folder)
      const tokenizer = await loadTokenizer(folder)
      const model = await loadBase(folder)
      return {
        value: { tokenizer, model, hash, files: within(folder, files) },
        tensors: model.weights.values(),
        dispose: () => disposeBase(model),
      }
    })

  const takeStack = (files: ModelFiles): Entry<Resident> =>
    take(stacks, JSON.stringify(files), files.adapters, async () => {
      const base = takeBase(files.base)
      const release = (): void => void base.users--
      try {
        const value = await stack(await base.loading, files)
        const dispose = (): void => {
          disposePairs(value.pairs)
          tf.dispose([...value.heads.values()])
          release()
        }
        const tensors = [...value.pairs.values()].flatMap(({ a, b }) => [a, b])
        return { value, tensors: [...tensors, ...value.heads.values()], dispose }
      } catch (error) {
        release()
        throw error
      }
    })

  return {
    async use(files, work) {
      const entry = takeStack(files)
      try {
        return await work(await entry.loading)
      } finally {
        entry.users--
        evict(0)
      }
    },
    count: () => stacks.size,
    async close() {
      for (const map of [stacks, bases] as Map<string, Entry<unknown>>[]) {
        for (const entry of map.values()) {
          await entry.loading.catch(() => {}) // what did not load holds nothing
          entry.dispose()
        }
        map.clear()
      }
    },
  }
}

const within = (folder: string, files: Files): Files =>
  Object.fromEntries(Object.entries(files).map(([name, sum]) => [join(folder, name), sum]))

async function stack({ model, tokenizer, ...base }: Base, files: ModelFiles): Promise<Resident> {
  const hash = createHash('sha256').update(base.hash)
  const all: Files = { ...base.files }
  const loaded = []
  for (const folder of files.adapters) {
    const own = await verifyFolder(folder)
    hash.update(own.hash)
    Object.assign(all, within(folder, own.files))
    loaded.push(await loadAdapter(model, folder))
  }
  const card = await readCard(files.adapters.at(-1) ?? files.base)
  const pairs = stackAdapters(loaded.map(({ pairs }) => pairs))
  for (const { pairs } of loaded) disposePairs(pairs)
  const heads = new Map(loaded.flatMap(({ heads }) => [...heads]))
  const trunk = cutBy(model, card, files.adapters.at(-1) ?? files.base)
  return {
    model: { ...trunk, weights: new Map([...model.weights, ...heads]), adapter: pairs },
    tokenizer,
    calibration: card?.calibration ?? null,
    window: card?.max_length ?? model.config.context,
    version: hash.digest('hex'),
    files: all,
    pairs,
    heads,
  }
}

/** Bytes of a folder's weight files. Throws `damaged_checkpoint` where there is no such folder. */
async function weightBytes(folder: string): Promise<number> {
  const names = await readdir(folder).catch((cause: unknown) => {
    throw new LibraError('damaged_checkpoint', `${folder} is not a folder that can be read`, {
      cause,
    })
  })
  const sizes = names
    .filter((name) => name.endsWith('.safetensors'))
    .map(async (name) => (await stat(join(folder, name))).size)
  return sum(await Promise.all(sizes))
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0)
