import { LibraError } from '../errors.ts'

/** What the model room needs of a config.json. */
export type LlamaConfig = {
  vocabularySize: number
  hiddenSize: number
  intermediateSize: number
  layers: number
  heads: number
  kvHeads: number
  headDim: number
  rmsNormEpsilon: number
  ropeTheta: number
  ropeScaling:
    | null
    | { type: 'linear' | 'dynamic'; factor: number }
    | {
        type: 'llama3'
        factor: number
        lowFreqFactor: number
        highFreqFactor: number
        originalContext: number
      }
  context: number
  tieWordEmbeddings: boolean
  /** projections with a bias, e.g. `q_proj` */
  biases: readonly Projection[]
  /** Qwen3: an RMSNorm over each head of queries and keys */
  qkNorm: boolean
  /** keys that a token of a sliding layer sees, itself among them; null: no layer slides */
  slidingWindow: number | null
  /** for each layer: does its attention slide? */
  sliding: readonly boolean[]
  /** for each layer: are queries and keys turned by their positions? SmolLM3 has layers without */
  rotary: readonly boolean[]
}

export const ATTENTION = ['q_proj', 'k_proj', 'v_proj', 'o_proj'] as const
export const FEED_FORWARD = ['gate_proj', 'up_proj', 'down_proj'] as const
export type Projection = (typeof ATTENTION)[number] | (typeof FEED_FORWARD)[number]

type Json = Readonly<Record<string, unknown>>

/** A family: its class name, what a config.json that is silent means (transformers' defaults), its biases. */
type Family = { name: string; defaults: Json; biases(json: Json): Projection[] }

const never = (): Projection[] => []
const optional = (json: Json): Projection[] => [
  ...(json['attention_bias'] === true ? ATTENTION : []),
  ...(json['mlp_bias'] === true ? FEED_FORWARD : []),
]
const FAMILIES: Readonly<Record<string, Family>> = {
  llama: { name: 'Llama', defaults: { max_position_embeddings: 2048 }, biases: optional },
  mistral: {
    name: 'Mistral',
    defaults: { max_position_embeddings: 131072, num_key_value_heads: 8, sliding_window: 4096 },
    biases: never,
  },
  qwen2: {
    name: 'Qwen2',
    defaults: { max_position_embeddings: 32768, num_key_value_heads: 32, max_window_layers: 28 },
    biases: () => ['q_proj', 'k_proj', 'v_proj'],
  },
  qwen3: {
    name: 'Qwen3',
    defaults: {
      ...{ max_position_embeddings: 32768, num_key_value_heads: 32, head_dim: 128 },
      max_window_layers: 28,
    },
    biases: optional,
  },
  smollm3: {
    name: 'SmolLM3',
    defaults: {
      ...{ max_position_embeddings: 32768, num_key_value_heads: 4, rope_theta: 2e6 },
      ...{ tie_word_embeddings: true, no_rope_layer_interval: 4 },
    },
    biases: optional,
  },
}
const HEADS = ['ForCausalLM', 'ForSequenceClassification'] as const

/** transformers' class for a config.json that `parseConfig` took. */
export const className = (json: Json, scores: boolean): string =>
  `${FAMILIES[String(json['model_type'])]?.name ?? ''}${HEADS[scores ? 1 : 0]}`

const unsupported = (file: string, what: string): LibraError =>
  new LibraError('unsupported_architecture', `${file}: ${what}`, { details: { file } })

/**
 * A config.json of either generation of keys → what the model needs. Throws `unsupported_architecture` with what is
 * missing, or `damaged_checkpoint` naming the field.
 */
export function parseConfig(given: Json, file: string): LlamaConfig {
  const family = familyOf(given, file)
  const json: Json = { ...family.defaults, ...given }
  refuseUnknownParts(json, file)
  const number = (key: string, fallback?: number): number =>
    positive(json[key] ?? fallback, key, file)
  const heads = number('num_attention_heads')
  const kvHeads = number('num_key_value_heads', heads)
  const hiddenSize = number('hidden_size')
  const headDim = number('head_dim', hiddenSize / heads)
  if (heads % kvHeads !== 0 || headDim % 2 !== 0)
    throw new LibraError(
      'damaged_checkpoint',
      `${file}: ${heads} heads of ${headDim} over ${kvHeads} key-value heads; the first must be a multiple of the last, and the width even`,
    )
  const layers = number('num_hidden_layers')
  const newer = json['rope_parameters'] as Json | null | undefined
  const rope = newer ?? (json['rope_scaling'] as Json | null | undefined) ?? {}
  const rotary = Array.from({ length: layers }, (_, layer) => isRotary(json, layer))
  const slidingWindow = windowOf(json)
  return {
    vocabularySize: number('vocab_size'),
    hiddenSize,
    intermediateSize: number('intermediate_size'),
    layers,
    heads,
    kvHeads,
    headDim,
    rmsNormEpsilon: number('rms_norm_eps', 1e-6),
    ropeTheta: positive(newer?.['rope_theta'] ?? json['rope_theta'] ?? 10000, 'rope_theta', file),
    ropeScaling: parseScaling(rope, file),
    context: number('max_position_embeddings'),
    tieWordEmbeddings: json['tie_word_embeddings'] === true,
    biases: family.biases(json),
    qkNorm: json['model_type'] === 'qwen3',
    slidingWindow,
    sliding: rotary.map(
      (turned, layer) => slidingWindow !== null && isSliding(json, layer, turned),
    ),
    rotary,
  }
}

function familyOf(json: Json, file: string): Family {
  const type = String(json['model_type'])
  const family = FAMILIES[type]
  const architecture = (json['architectures'] as string[] | null | undefined)?.[0]
  if (family !== undefined) {
    const known = HEADS.map((head) => family.name + head)
    if (architecture === undefined || known.includes(architecture)) return family
    throw unsupported(file, `${architecture} is not supported; ${known.join(' and ')} are`)
  }
  const names = Object.values(FAMILIES).map(({ name }) => name)
  const experts = EXPERTS.find((key) => json[key] != null)
  const missing =
    experts === undefined
      ? `the layers of model_type ${JSON.stringify(type)} are not known here`
      : `it is a mixture of experts (${experts} ${String(json[experts])}): the router and the experts are missing here`
  throw unsupported(
    file,
    `${architecture ?? type} is not supported: ${missing}. Supported: ${names.join(', ')} (${HEADS.join(', ')})`,
  )
}

const EXPERTS = ['num_local_experts', 'num_experts', 'n_routed_experts']

function refuseUnknownParts(json: Json, file: string): void {
  const quantization = json['quantization_config'] as Json | null | undefined
  if (quantization != null)
    throw unsupported(
      file,
      `quantization_config (${String(quantization['quant_method'] ?? 'unnamed')}) is not supported: give the weights as float32, float16 or bfloat16`,
    )
  const experts = EXPERTS.find((key) => json[key] != null)
  if (experts !== undefined)
    throw unsupported(file, `${experts}: a mixture of experts is not supported`)
  const activation = json['hidden_act'] ?? 'silu'
  if (activation !== 'silu' && activation !== 'swish')
    throw unsupported(file, `hidden_act ${JSON.stringify(activation)} is not supported; silu is`)
}

/** The window that some layers may have; Qwen's and SmolLM3's needs a switch. */
function windowOf(json: Json): number | null {
  const { model_type: type, use_sliding_window: used, sliding_window: window } = json
  const counts = type === 'mistral' || (type !== 'llama' && used === true)
  return counts && typeof window === 'number' ? window : null
}

function isSliding(json: Json, layer: number, rotary: boolean): boolean {
  const types = json['layer_types'] as string[] | null | undefined
  if (json['model_type'] === 'mistral') return true
  if (types != null) return types[layer] === 'sliding_attention'
  if (json['model_type'] === 'smollm3') return !rotary
  return layer >= Number(json['max_window_layers'])
}

function isRotary(json: Json, layer: number): boolean {
  if (json['model_type'] !== 'smollm3') return true
  const listed = json['no_rope_layers'] as number[] | null | undefined
  if (listed != null) return listed[layer] !== 0 // the name says the opposite: 1 is with rotary embedding
  return (layer + 1) % Number(json['no_rope_layer_interval']) !== 0
}

function positive(value: unknown, key: string, file: string): number {
  if (typeof value === 'number' && Number.isFinite(value) && value > 0) return value
  throw new LibraError(
    'damaged_checkpoint',
    `${file}: ${key} must be a positive number, it is ${String(value)}`,
  )
}

function parseScaling(rope: Json, file: string): LlamaConfig['ropeScaling'] {
  const type = (rope['rope_type'] ?? rope['type'] ?? 'default') as string
  const value = (key: string): number => positive(rope[key], `the rope scaling's ${key}`, file)
  if ((rope['partial_rotary_factor'] ?? 1) !== 1)
    throw unsupported(file, 'partial_rotary_factor is not supported')
  switch (type) {
    case 'default':
      return null
    case 'linear':
    case 'dynamic':
      return { type, factor: value('factor') }
    case 'llama3':
      return {
        type,
        factor: value('factor'),
        lowFreqFactor: value('low_freq_factor'),
        highFreqFactor: value('high_freq_factor'),
        originalContext: value('original_max_position_embeddings'),
      }
    default:
      throw unsupported(
        file,
        `rope type ${JSON.stringify(type)} is not supported; default, linear, dynamic and llama3 are`,
      )
  }
}

/** A Llama without the extras of its relatives. */
export const plainLlama = (
  sizes: Omit<LlamaConfig, 'biases' | 'qkNorm' | 'slidingWindow' | 'sliding' | 'rotary'>,
): LlamaConfig => ({
  ...sizes,
  ...{ biases: [], qkNorm: false, slidingWindow: null },
  sliding: new Array<boolean>(sizes.layers).fill(false),
  rotary: new Array<boolean>(sizes.layers).fill(true),
})
