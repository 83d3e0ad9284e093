import { copyFile, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { LibraError } from '../errors.ts'
import { MEAN_HEAD } from './readout.ts'
import { tf } from '../tensor/backend.ts'
import { add, matMul, read, scale, upload } from '../tensor/ops.ts'
import { loadTokenizer } from '../text/tokenizer.ts'
import { commitFolder } from '../weights/atomic.ts'
import { parseConfig } from '../weights/config.ts'
import { readAdapter, readCard, writeBase } from '../weights/folder.ts'
import type { AdapterFile } from '../weights/folder.ts'
import { readJson } from '../weights/json.ts'
import { deriveConfig } from '../weights/render.ts'
import type { Array32, Dtype, LazyArray } from '../weights/safetensors.ts'
import { weightShapes } from '../weights/shapes.ts'
import { openWeights } from '../weights/shards.ts'

export type MergeOptions = {
  /** a folder that does not exist yet */
  output: string
  dtype: Dtype
  /** weights above this many bytes are written in shards */
  shardBytes: number
}
/** `architecture`: the class of transformers that loads it */
export type Merged = { path: string; bytes: number; parameters: number; architecture: string }

/** What lies beside the weights and goes along; only what is there. */
const BESIDE = [
  ...['tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json', 'tokenizer.model'],
  ...['chat_template.jinja', 'generation_config.json'],
]

/**
 * Writes a base and the adapters on it as one Hugging Face folder: W + Σ scale·B·A, a causal model, or a sequence
 * classifier where there is a score head, with tokenizer and chat template. Tensor by tensor: memory for one of them.
 * Throws `already_exists`, and what reading throws.
 */
export async function writeMerged(
  files: { base: string; adapters: readonly string[] },
  { output, dtype, shardBytes }: MergeOptions,
): Promise<Merged> {
  // 1. what there is
  const source = await readJson(join(files.base, 'config.json'))
  const shapes = weightShapes(parseConfig(source, join(files.base, 'config.json')))
  const adapters: AdapterFile[] = []
  for (const folder of files.adapters) adapters.push(await readAdapter(folder))
  const card = await readCard(files.adapters.at(-1) ?? files.base)
  const given = source['pad_token_id']
  const pad = typeof given === 'number' ? given : (await loadTokenizer(files.base)).pad
  const base = await openWeights(files.base)
  try {
    // 2. the head decides what it is; a value head is PPO's own and stays behind
    const heads = new Map<string, Array32 | LazyArray>(adapters.flatMap(({ heads }) => [...heads]))
    const score = heads.get('score.weight') ?? base.tensors.get('score.weight')
    if (heads.has(MEAN_HEAD))
      throw new LibraError(
        'unsupported_architecture',
        `${files.adapters.at(-1) ?? files.base} is a readout: no class of transformers reads the mean of hidden states; it scores in Libra alone`,
      )
    if (score !== undefined) shapes.delete('lm_head.weight')
    const tensors: Record<string, Array32 | LazyArray> = {}
    for (const [name, shape] of shapes) {
      const stored = base.tensors.get(name)
      if (stored === undefined)
        throw new LibraError('damaged_checkpoint', `${files.base}: ${name} is missing`)
      tensors[name] = { shape, data: () => merged(name, stored, adapters) }
    }
    if (score !== undefined) tensors['score.weight'] = score
    const config = deriveConfig(source, { scores: score !== undefined, dtype, pad })
    // 3. all or nothing
    await commitFolder(output, async (folder) => {
      for (const file of BESIDE)
        await copyFile(join(files.base, file), join(folder, file)).catch(() => {})
      const { role, axis, calibration, max_length } = card ?? {}
      const kept = JSON.parse(JSON.stringify({ role, axis, calibration, max_length })) as object
      await writeBase(
        folder,
        config,
        tensors,
        { format: 1, kind: 'base', ...kept },
        dtype,
        shardBytes,
      )
    })
    const count = Object.values(tensors).reduce(
      (n, { shape }) => n + shape.reduce((a, b) => a * b, 1),
      0,
    )
    const [architecture = ''] = config['architectures'] as string[]
    return { path: output, bytes: await sizeOf(output), parameters: count, architecture }
  } finally {
    base.close()
  }
}

/** W + Σ scale·B·A (Hu et al. 2021, eq. 3, for a stack of adapters). */
function merged(
  name: string,
  { shape, data }: LazyArray,
  adapters: readonly AdapterFile[],
): Float32Array {
  const module = name.replace(/\.weight$/, '')
  const updates = adapters.flatMap(({ pairs }) => pairs.get(module) ?? [])
  if (updates.length === 0) return data()
  const sum = tf.tidy(() =>
    updates.reduce(
      (w, { a, b, scale: s }) =>
        add(w, scale(matMul(upload(b.data, b.shape), upload(a.data, a.shape)), s)),
      upload(data(), shape),
    ),
  )
  const values = read(sum)
  sum.dispose()
  return values
}

async function sizeOf(folder: string): Promise<number> {
  const sizes = (await readdir(folder)).map(async (name) => (await stat(join(folder, name))).size)
  return (await Promise.all(sizes)).reduce((a, b) => a + b, 0)
}
