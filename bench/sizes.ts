/** Architectures of the benches by their number of parameters, as a config.json names them. */
export const SIZES: Record<string, Record<string, number>> = {
  '1M': size(160, 5, 5, 1, 432, 2048),
  '7M': size(256, 6, 8, 4, 768, 8192),
  '30M': size(512, 8, 8, 4, 1408, 8192),
  '125M': size(768, 14, 12, 4, 2048, 16384),
}
function size(D: number, L: number, H: number, K: number, F: number, V: number) {
  return {
    ...{ hidden_size: D, num_hidden_layers: L, num_attention_heads: H, num_key_value_heads: K },
    ...{ intermediate_size: F, vocab_size: V, max_position_embeddings: 512 },
  }
}
