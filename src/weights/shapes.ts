import { ATTENTION, FEED_FORWARD } from './config.ts'
import type { LlamaConfig, Projection } from './config.ts'

/** Every weight's name and shape for a configuration: what a checkpoint must hold. */
export function weightShapes(c: LlamaConfig): Map<string, number[]> {
  const { hiddenSize: D, intermediateSize: F } = c
  const q = c.heads * c.headDim
  const kv = c.kvHeads * c.headDim
  const projections: Record<Projection, [out: number, input: number]> = {
    ...{ q_proj: [q, D], k_proj: [kv, D], v_proj: [kv, D], o_proj: [D, q] },
    ...{ gate_proj: [F, D], up_proj: [F, D], down_proj: [D, F] },
  }
  const shapes = new Map<string, number[]>([['model.embed_tokens.weight', [c.vocabularySize, D]]])
  const set = (part: string, projection: Projection): void => {
    shapes.set(`${part}.${projection}.weight`, projections[projection])
    if (c.biases.includes(projection))
      shapes.set(`${part}.${projection}.bias`, projections[projection].slice(0, 1))
  }
  for (let l = 0; l < c.layers; l++) {
    const name = `model.layers.${l}`
    shapes.set(`${name}.input_layernorm.weight`, [D])
    for (const projection of ATTENTION) set(`${name}.self_attn`, projection)
    if (c.qkNorm)
      for (const norm of ['q_norm', 'k_norm'])
        shapes.set(`${name}.self_attn.${norm}.weight`, [c.headDim])
    shapes.set(`${name}.post_attention_layernorm.weight`, [D])
    for (const projection of FEED_FORWARD) set(`${name}.mlp`, projection)
  }
  shapes.set('model.norm.weight', [D])
  if (!c.tieWordEmbeddings) shapes.set('lm_head.weight', [c.vocabularySize, D])
  return shapes
}
