import { copyFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { LibraError } from '../errors.ts'
import { commitFolder } from './atomic.ts'
import type { Dtype, LazyArray } from './safetensors.ts'
import { openWeights, writeWeights } from './shards.ts'
import type { Weights } from './shards.ts'

/**
 * Writes a checkpoint whose every weight is the mean of those of checkpoints that came one out of another, w = Σᵢ wᵢ / n
 * (Wortsman et al. 2022, model soups): what one training has by luck of its draws, the mean has less of. All else is the
 * last one's. Throws `damaged_checkpoint` where one lacks a tensor of the last or has another shape for it.
 */
export async function writeMean(
  target: string,
  folders: readonly [string, ...string[]],
  dtype: Dtype,
): Promise<void> {
  const last = folders.at(-1) ?? folders[0]
  const opened: Weights[] = []
  try {
    for (const folder of folders) opened.push(await openWeights(folder))
    const tensors = [...(opened.at(-1)?.tensors ?? [])].map(([name, { shape }]) => {
      const parts = opened.map(({ tensors }, i) => {
        return matching(tensors.get(name), shape, name, folders[i] ?? last)
      })
      return [name, { shape, data: () => mean(parts.map((part) => part.data())) }] as const
    })
    await commitFolder(target, async (folder) => {
      for (const file of await readdir(last))
        if (!file.includes('safetensors') && file !== 'manifest.json')
          await copyFile(join(last, file), join(folder, file))
      await writeWeights(folder, Object.fromEntries(tensors), dtype)
    })
  } finally {
    for (const { close } of opened) close()
  }
}

function matching(
  tensor: LazyArray | undefined,
  shape: readonly number[],
  name: string,
  folder: string,
): LazyArray {
  if (tensor === undefined || tensor.shape.join() !== shape.join())
    throw new LibraError(
      'damaged_checkpoint',
      `${folder}: ${name} is [${tensor?.shape.join() ?? 'missing'}], not [${shape.join()}]`,
    )
  return tensor
}

const mean = (arrays: readonly Float32Array[]): Float32Array =>
  Float32Array.from(arrays[0] ?? [], (_, i) => {
    return arrays.reduce((sum, array) => sum + (array[i] ?? NaN), 0) / arrays.length
  })
