import { className } from './config.ts'
import type { LlamaConfig } from './config.ts'
import type { Dtype } from './safetensors.ts'

/** As transformers spells them. */
const DTYPE_NAMES: Record<Dtype, string> = { F32: 'float32', BF16: 'bfloat16', F16: 'float16' }

/** The config.json of a plain Llama (`plainLlama`) that begins here, in the keys that every transformers release reads. */
export const renderLlama = (
  config: LlamaConfig,
  ids: { bos: number; eos: number; pad: number },
  dtype: Dtype,
): Record<string, unknown> => ({
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
  rope_scaling: null,
  max_position_embeddings: config.context,
  attention_bias: false,
  mlp_bias: false,
  tie_word_embeddings: config.tieWordEmbeddings,
  bos_token_id: ids.bos,
  eos_token_id: ids.eos,
  pad_token_id: ids.pad,
  torch_dtype: DTYPE_NAMES[dtype],
})

/**
 * The config.json of other weights in a base's shape: everything that the base's own says, with the head and the type
 * of what is written. A padding id is needed by transformers' classifiers.
 */
export function deriveConfig(
  source: Readonly<Record<string, unknown>>,
  { scores, dtype, pad }: { scores: boolean; dtype: Dtype; pad: number },
): Record<string, unknown> {
  const config = { ...source }
  for (const labels of ['num_labels', 'id2label', 'label2id']) delete config[labels]
  return {
    ...config,
    architectures: [className(source, scores)],
    ...(scores ? { num_labels: 1 } : {}),
    pad_token_id: pad,
    dtype: DTYPE_NAMES[dtype],
    torch_dtype: DTYPE_NAMES[dtype],
  }
}
