import { LibraError } from '../errors.ts'
import type { LoraOptions } from '../schemas/training-options.ts'

/** What decides a module's rank and scale, in PEFT's names. */
export type LoraSizes = {
  r: number
  lora_alpha: number
  /** by a regular expression on the end of a module's name */
  rank_pattern: Readonly<Record<string, number>>
  alpha_pattern: Readonly<Record<string, number>>
  use_rslora: boolean
}

/** Our options in PEFT's names. */
export const sizesOf = (lora: LoraOptions): LoraSizes => ({
  ...{ r: lora.rank, lora_alpha: lora.alpha, use_rslora: lora.use_rslora },
  ...{ rank_pattern: lora.rank_pattern, alpha_pattern: lora.alpha_pattern },
})

/**
 * Rank r and scale of a module's update: α/r, or with rsLoRA α/√r (Kalajdzievski 2023, eq. 3). The first pattern whose
 * expression meets the end of the module's name counts, as in PEFT's get_pattern_key.
 */
export function loraShape(sizes: LoraSizes, module: string): { rank: number; scale: number } {
  const pick = (pattern: Readonly<Record<string, number>>, otherwise: number): number =>
    Object.entries(pattern).find(([key]) => new RegExp(`^(.*\\.)?(${key})$`).test(module))?.[1] ??
    otherwise
  const rank = pick(sizes.rank_pattern, sizes.r)
  const alpha = pick(sizes.alpha_pattern, sizes.lora_alpha)
  return { rank, scale: alpha / (sizes.use_rslora ? Math.sqrt(rank) : rank) }
}

/** Parts of PEFT's LoRA that change what is computed and are not computed here; what says that they are off. */
const OFF: Readonly<Record<string, readonly unknown[]>> = {
  use_dora: [false],
  use_qalora: [false],
  use_bdlora: [false],
  lora_bias: [false],
  bias: ['none'],
  layer_replication: [],
  trainable_token_indices: [],
  target_parameters: [],
  alora_invocation_tokens: [],
  arrow_config: [],
  kasa_config: [],
  velora_config: [],
  monteclora_config: [],
}
/** Starts that change the base's weights, so that the adapter alone is not the model. */
const CHANGES_BASE = /^(pissa|olora|corda|loftq|lora_ga)/

/** adapter_config.json → sizes. Throws `unsupported_architecture` naming the field, or `damaged_checkpoint`. */
export function parseLora(json: Readonly<Record<string, unknown>>, file: string): LoraSizes {
  const refuse = (what: string): never => {
    throw new LibraError('unsupported_architecture', `${file}: ${what} is not supported`)
  }
  if (json['peft_type'] !== 'LORA')
    refuse(`peft_type ${JSON.stringify(json['peft_type'])}: LORA is; this`)
  for (const [key, off] of Object.entries(OFF)) {
    const value = json[key]
    const empty = value == null || (Array.isArray(value) && value.length === 0)
    if (!empty && !off.includes(value)) refuse(`${key} ${JSON.stringify(value)}`)
  }
  const start = json['init_lora_weights']
  if (typeof start === 'string' && CHANGES_BASE.test(start))
    refuse(`init_lora_weights ${JSON.stringify(start)} (it changes the base)`)
  const positive = (value: unknown, key: string): number => {
    if (typeof value === 'number' && value > 0) return value
    throw new LibraError(
      'damaged_checkpoint',
      `${file}: ${key} must be a positive number, it is ${String(value)}`,
    )
  }
  const pattern = (key: string): Record<string, number> =>
    Object.fromEntries(
      Object.entries((json[key] ?? {}) as Record<string, unknown>).map(([name, value]) => [
        name,
        positive(value, `${key}.${name}`),
      ]),
    )
  return {
    r: positive(json['r'], 'r'),
    lora_alpha: positive(json['lora_alpha'], 'lora_alpha'),
    rank_pattern: pattern('rank_pattern'),
    alpha_pattern: pattern('alpha_pattern'),
    use_rslora: json['use_rslora'] === true,
  }
}
