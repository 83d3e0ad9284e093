import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { LibraError } from '../errors.ts'
import { ModelCard } from '../schemas/model.ts'
import { parseConfig } from './config.ts'
import type { LlamaConfig } from './config.ts'
import { openSafetensors, writeSafetensors } from './safetensors.ts'
import type { Array32, Dtype, LazyArray } from './safetensors.ts'
import { readJson, writeJson } from './json.ts'
import { writeWeights } from './shards.ts'

export async function readConfig(folder: string): Promise<LlamaConfig> {
  const file = join(folder, 'config.json')
  return parseConfig(await readJson(file), file)
}

/** A PEFT LoRA adapter: pairs by module name, and the other tensors it saves (score and value heads). */
export type AdapterFile = {
  pairs: Map<string, { a: Array32; b: Array32; scale: number }>
  heads: Map<string, Array32>
  card: ModelCard | null
}

const PREFIX = 'base_model.model.'

/** Reads adapter_config.json and adapter_model.safetensors. Refuses an adapter that lost its head. */
export async function readAdapter(folder: string): Promise<AdapterFile> {
  const configFile = join(folder, 'adapter_config.json')
  const config = await readJson(configFile)
  if (config['peft_type'] !== 'LORA' || config['use_dora'] === true)
    throw new LibraError(
      'unsupported_architecture',
      `${configFile}: only LoRA adapters are supported`,
    )
  const file = join(folder, 'adapter_model.safetensors')
  const tensors = openSafetensors(file)
  const adapter: AdapterFile = { pairs: new Map(), heads: new Map(), card: await readCard(folder) }
  try {
    for (const name of tensors.names) {
      const bare = name.startsWith(PREFIX) ? name.slice(PREFIX.length) : name
      if (!bare.endsWith('.lora_A.weight')) {
        if (!bare.includes('.lora_'))
          adapter.heads.set(bare.replace('.modules_to_save', ''), tensors.read(name))
        continue
      }
      const module = bare.slice(0, -'.lora_A.weight'.length)
      const scale = adapterScale(config, module)
      const b = tensors.read(name.replace('lora_A', 'lora_B'))
      adapter.pairs.set(module, { a: tensors.read(name), b, scale })
    }
  } finally {
    tensors.close()
  }
  for (const module of (config['modules_to_save'] as string[] | null | undefined) ?? [])
    if (!adapter.heads.has(`${module}.weight`))
      throw new LibraError(
        'damaged_checkpoint',
        `${file}: ${module}.weight is missing, though adapter_config.json says it is saved`,
      )
  return adapter
}

/** α/r, or α/√r for rsLoRA, with PEFT's patterns by module suffix. */
function adapterScale(config: Record<string, unknown>, module: string): number {
  const pattern = (key: string, fallback: number): number => {
    const entries = Object.entries((config[key] as Record<string, number> | undefined) ?? {})
    return (
      entries.find(([suffix]) => module === suffix || module.endsWith(`.${suffix}`))?.[1] ??
      fallback
    )
  }
  const r = pattern('rank_pattern', Number(config['r']))
  const alpha = pattern('alpha_pattern', Number(config['lora_alpha']))
  return config['use_rslora'] === true ? alpha / Math.sqrt(r) : alpha / r
}

/** Writes an adapter that PEFT loads, its heads included, into a folder that exists. */
export async function writeAdapter(
  folder: string,
  adapter: {
    rank: number
    alpha: number
    targets: readonly string[]
    pairs: ReadonlyMap<string, { a: Array32; b: Array32 }>
    heads: ReadonlyMap<string, Array32>
    card: ModelCard
    base: string
    dtype?: Dtype
  },
): Promise<void> {
  const tensors: Record<string, Array32> = {}
  for (const [module, { a, b }] of adapter.pairs) {
    tensors[`${PREFIX}${module}.lora_A.weight`] = a
    tensors[`${PREFIX}${module}.lora_B.weight`] = b
  }
  for (const [name, head] of adapter.heads) tensors[PREFIX + name] = head
  const heads = [...adapter.heads.keys()].map((name) => name.replace(/\.weight$/, ''))
  await writeSafetensors(join(folder, 'adapter_model.safetensors'), tensors, adapter.dtype)
  await writeJson(join(folder, 'adapter_config.json'), {
    peft_type: 'LORA',
    task_type: heads.includes('score') ? 'SEQ_CLS' : 'CAUSAL_LM',
    base_model_name_or_path: adapter.base,
    r: adapter.rank,
    lora_alpha: adapter.alpha,
    lora_dropout: 0,
    bias: 'none',
    fan_in_fan_out: false,
    inference_mode: true,
    target_modules: adapter.targets,
    modules_to_save: heads.length > 0 ? heads : null,
  })
  await writeCard(folder, adapter.card)
}

export async function writeBase(
  folder: string,
  config: Record<string, unknown>,
  tensors: Readonly<Record<string, Array32 | LazyArray>>,
  card: ModelCard,
  dtype: Dtype = 'F32',
  shardBytes?: number,
): Promise<void> {
  await writeJson(join(folder, 'config.json'), config)
  await writeWeights(folder, tensors, dtype, shardBytes)
  await writeCard(folder, card)
}

const CARD = 'libra.json'

/** What Libra knows of a folder beyond its weights; null where it wrote nothing. */
export async function readCard(folder: string): Promise<ModelCard | null> {
  const file = join(folder, CARD)
  if (!existsSync(file)) return null
  const card = ModelCard.safeParse(await readJson(file))
  if (!card.success)
    throw new LibraError(
      'damaged_checkpoint',
      `${file}: ${card.error.issues[0]?.message ?? 'invalid'}`,
    )
  return card.data
}

export const writeCard = (folder: string, card: ModelCard): Promise<void> =>
  writeJson(join(folder, CARD), card)
