import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { LibraError } from '../errors.ts'
import { readJson, writeJson } from './json.ts'
import { openSafetensors, storedBytes, writeSafetensors } from './safetensors.ts'
import type { Array32, Dtype, LazyArray, Safetensors } from './safetensors.ts'

const WHOLE = 'model.safetensors'
const INDEX = 'model.safetensors.index.json'

/** A checkpoint's tensors by name, in the order of the disk; `data` reads one. Close it after use. */
export type Weights = { tensors: ReadonlyMap<string, LazyArray>; close(): void }

/**
 * Opens model.safetensors, or the shards that its index names. Throws `damaged_checkpoint` naming the file and the tensor
 * that the index promised and no shard holds.
 */
export async function openWeights(folder: string): Promise<Weights> {
  const files = await filesOf(folder)
  const shards: Safetensors[] = []
  const tensors = new Map<string, LazyArray>()
  const close = (): void => {
    for (const shard of shards) shard.close()
  }
  try {
    for (const [file, promised] of files) {
      const path = join(folder, file)
      const shard = openSafetensors(path)
      shards.push(shard)
      for (const name of shard.names)
        tensors.set(name, { shape: shard.shape(name), data: () => shard.read(name).data })
      const missing = promised.find((name) => !tensors.has(name))
      if (missing !== undefined)
        throw new LibraError(
          'damaged_checkpoint',
          `${path}: ${missing} is missing, ${INDEX} says it is there`,
        )
    }
  } catch (error) {
    close()
    throw error
  }
  return { tensors, close }
}

/** Files with the names that the index says they hold. */
async function filesOf(folder: string): Promise<Map<string, string[]>> {
  const index = join(folder, INDEX)
  if (!existsSync(index)) {
    const pickled = ['pytorch_model.bin', 'pytorch_model.bin.index.json'].find((file) =>
      existsSync(join(folder, file)),
    )
    if (pickled !== undefined && !existsSync(join(folder, WHOLE)))
      throw new LibraError(
        'unsupported_architecture',
        `${join(folder, pickled)}: pickled weights are not read; save the model as safetensors (model.save_pretrained does)`,
      )
    return new Map([[WHOLE, []]])
  }
  const { weight_map: map } = await readJson(index)
  const entries = Object.entries((map ?? {}) as Record<string, string>)
  const files = new Map(entries.map(([, file]) => [file, [] as string[]]))
  for (const [name, file] of entries) files.get(file)?.push(name)
  return files
}

/** Bytes of a shard unless told otherwise. */
const SHARD_BYTES = 5e9

/**
 * Writes model.safetensors, or above `shardBytes` numbered shards with model.safetensors.index.json, as transformers
 * names and reads them. Tensors go in the order given; each file holds at least one.
 */
export async function writeWeights(
  folder: string,
  tensors: Readonly<Record<string, Array32 | LazyArray>>,
  dtype: Dtype = 'F32',
  shardBytes = SHARD_BYTES,
): Promise<void> {
  const shards: Record<string, Array32 | LazyArray>[] = []
  let [room, total] = [0, 0]
  for (const [name, tensor] of Object.entries(tensors)) {
    const bytes = storedBytes(tensor.shape, dtype)
    total += bytes
    if (shards.length === 0 || bytes > room) {
      shards.push({})
      room = shardBytes
    }
    Object.assign(shards.at(-1) ?? {}, { [name]: tensor })
    room -= bytes
  }
  const [only] = shards
  if (shards.length === 1 && only !== undefined)
    return writeSafetensors(join(folder, WHOLE), only, dtype)
  const five = (n: number): string => String(n).padStart(5, '0')
  const weight_map: Record<string, string> = {}
  for (const [i, shard] of shards.entries()) {
    const file = `model-${five(i + 1)}-of-${five(shards.length)}.safetensors`
    for (const name of Object.keys(shard)) weight_map[name] = file
    await writeSafetensors(join(folder, file), shard, dtype)
  }
  const index = { metadata: { total_size: total }, weight_map }
  await writeJson(join(folder, INDEX), index)
}
