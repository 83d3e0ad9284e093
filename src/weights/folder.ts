import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { LibraError } from '../errors.ts'
import { ModelCard } from '../schemas/model.ts'
import type { LoraOptions } from '../schemas/training-options.ts'
import { ATTENTION, FEED_FORWARD, parseConfig } from './config.ts'
import type { LlamaConfig } from './config.ts'
import { openSafetensors, writeSafetensors } from './safetensors.ts'
import type { Array32, Dtype, LazyArray } from './safetensors.ts'
import { readJson, writeJson } from './json.ts'
import { loraShape, parseLora, sizesOf } from './lora.ts'
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

/** Rows on top of the trunk that an adapter may bring. */
const HEADS = ['score.weight', 'score_mean.weight', 'value.weight']
const LORA_TENSOR = new RegExp(
  `^(model\\.layers\\.\\d+\\.(?:self_attn|mlp)\\.(?:${[...ATTENTION, ...FEED_FORWARD].join('|')}))\\.lora_([AB])\\.weight$`,
)

/**
 * Reads adapter_config.json and adapter_model.safetensors. Where the adapter lies is what its tensors' names say, so
 * `target_modules` may be a list, an expression or "all-linear". Throws `damaged_checkpoint` on an adapter that lost its
 * head or half of a pair, `unsupported_architecture` naming a field or tensor that would change the result.
 */
export async function readAdapter(folder: string): Promise<AdapterFile> {
  const configFile = join(folder, 'adapter_config.json')
  const config = await readJson(configFile)
  const sizes = parseLora(config, configFile)
  const file = join(folder, 'adapter_model.safetensors')
  const damaged = (what: string): LibraError =>
    new LibraError('damaged_checkpoint', `${file}: ${what}`)
  const tensors = openSafetensors(file)
  const adapter: AdapterFile = { pairs: new Map(), heads: new Map(), card: await readCard(folder) }
  try {
    for (const name of tensors.names) {
      const bare = name.startsWith(PREFIX) ? name.slice(PREFIX.length) : name
      const head = bare.replace('.modules_to_save', '')
      const [, module, half] = LORA_TENSOR.exec(bare) ?? []
      if (HEADS.includes(head)) adapter.heads.set(head, tensors.read(name))
      else if (module === undefined)
        throw new LibraError(
          'unsupported_architecture',
          `${file}: ${name} is not supported; LoRA on the projections of the layers is, and ${HEADS.join(' and ')}`,
        )
      else if (half === 'A') {
        const b = name.replace('lora_A', 'lora_B')
        if (!tensors.names.includes(b)) throw damaged(`${b} is missing`)
        const pair = { a: tensors.read(name), b: tensors.read(b) }
        const { rank, scale } = loraShape(sizes, module)
        if (pair.a.shape[0] !== rank)
          throw damaged(`${name} has rank ${pair.a.shape[0]}, adapter_config.json says ${rank}`)
        adapter.pairs.set(module, { ...pair, scale })
      } else if (!tensors.names.includes(name.replace('lora_B', 'lora_A')))
        throw damaged(`${name.replace('lora_B', 'lora_A')} is missing`)
    }
  } finally {
    tensors.close()
  }
  if (tensors.names.length === 0) throw damaged('it holds no tensor')
  for (const module of (config['modules_to_save'] as string[] | null | undefined) ?? []) {
    // PEFT lists `classifier` beside `score` for every sequence classifier
    const other = module === 'classifier' && adapter.heads.has('score.weight')
    if (!other && !adapter.heads.has(`${module}.weight`))
      throw damaged(`${module}.weight is missing, though adapter_config.json says it is saved`)
  }
  return adapter
}

/**
 * Writes an adapter that PEFT loads, its heads included, into a folder that exists. Throws when a reward model comes
 * without its head.
 */
export async function writeAdapter(
  folder: string,
  adapter: {
    lora: LoraOptions
    pairs: ReadonlyMap<string, { a: Array32; b: Array32 }>
    heads: ReadonlyMap<string, Array32>
    card: ModelCard
    base: string
    dtype?: Dtype
  },
): Promise<void> {
  if (adapter.card.role === 'reward_model' && !adapter.heads.has('score.weight'))
    throw new Error(`${folder}: a reward model must be saved with its score head`)
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
    ...sizesOf(adapter.lora),
    lora_dropout: 0,
    bias: 'none',
    fan_in_fan_out: false,
    inference_mode: true,
    target_modules: adapter.lora.target_modules,
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
