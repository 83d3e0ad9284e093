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
}

const ARCHITECTURES = ['LlamaForCausalLM', 'LlamaForSequenceClassification']

/** A config.json of either generation of keys → what the model needs. Throws `unsupported_architecture` or `damaged_checkpoint`. */
export function parseConfig(json: Record<string, unknown>, file: string): LlamaConfig {
  const architecture = (json['architectures'] as string[] | undefined)?.[0]
  if (
    json['model_type'] !== 'llama' ||
    (architecture !== undefined && !ARCHITECTURES.includes(architecture))
  )
    throw new LibraError(
      'unsupported_architecture',
      `${file}: ${architecture ?? String(json['model_type'])} is not supported; ${ARCHITECTURES.join(' and ')} are`,
    )
  for (const key of ['attention_bias', 'mlp_bias'])
    if (json[key] === true)
      throw new LibraError('unsupported_architecture', `${file}: ${key} is not supported`)
  const number = (key: string, fallback?: number): number => {
    const value = json[key] ?? fallback
    if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0)
      throw new LibraError(
        'damaged_checkpoint',
        `${file}: ${key} must be a positive number, it is ${String(value)}`,
      )
    return value
  }
  const heads = number('num_attention_heads')
  const hiddenSize = number('hidden_size')
  const newer = json['rope_parameters'] as Record<string, unknown> | undefined
  const rope = newer ?? (json['rope_scaling'] as Record<string, unknown> | null | undefined) ?? {}
  return {
    vocabularySize: number('vocab_size'),
    hiddenSize,
    intermediateSize: number('intermediate_size'),
    layers: number('num_hidden_layers'),
    heads,
    kvHeads: number('num_key_value_heads', heads),
    headDim: number('head_dim', hiddenSize / heads),
    rmsNormEpsilon: number('rms_norm_eps', 1e-6),
    ropeTheta:
      typeof newer?.['rope_theta'] === 'number' ? newer['rope_theta'] : number('rope_theta', 10000),
    ropeScaling: parseScaling(rope, file),
    context: number('max_position_embeddings', 2048),
    tieWordEmbeddings: json['tie_word_embeddings'] === true,
  }
}

function parseScaling(rope: Record<string, unknown>, file: string): LlamaConfig['ropeScaling'] {
  const type = (rope['rope_type'] ?? rope['type'] ?? 'default') as string
  const value = (key: string): number => Number(rope[key])
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
      throw new LibraError(
        'unsupported_architecture',
        `${file}: rope type ${type} is not supported; default, linear, dynamic and llama3 are`,
      )
  }
}

/** The config.json of a base, in the keys that every transformers release reads. */
export function renderConfig(
  config: LlamaConfig,
  ids: { bos: number; eos: number; pad: number },
): Record<string, unknown> {
  const scaling = config.ropeScaling
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    vocab_size: config.vocabularySize,
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    num_key_value_heads: config.kvHeads,
    head_dim: config.headDim,
    hidden_act: 'silu',
    rms_norm_eps: config.rmsNormEpsilon,
    rope_theta: config.ropeTheta,
    rope_scaling:
      scaling === null
        ? null
        : scaling.type === 'llama3'
          ? {
              rope_type: 'llama3',
              factor: scaling.factor,
              low_freq_factor: scaling.lowFreqFactor,
              high_freq_factor: scaling.highFreqFactor,
              original_max_position_embeddings: scaling.originalContext,
            }
          : { rope_type: scaling.type, factor: scaling.factor },
    max_position_embeddings: config.context,
    attention_bias: false,
    mlp_bias: false,
    tie_word_embeddings: config.tieWordEmbeddings,
    bos_token_id: ids.bos,
    eos_token_id: ids.eos,
    pad_token_id: ids.pad,
    torch_dtype: 'float32',
  }
}
