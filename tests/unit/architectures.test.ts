import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, test } from 'vitest'
import { loadBase } from '../../src/model/resident.ts'
import { parseConfig } from '../../src/weights/config.ts'
import { openSafetensors, writeSafetensors } from '../../src/weights/safetensors.ts'

const folder = mkdtempSync(join(tmpdir(), 'libra-architectures-'))
afterAll(() => rmSync(folder, { recursive: true }))
const fixture = (name: string): string =>
  fileURLToPath(new URL(`../../fixtures/parity/architectures/${name}`, import.meta.url))

const SIZES = {
  ...{ vocab_size: 96, hidden_size: 16, intermediate_size: 24, num_hidden_layers: 4 },
  num_attention_heads: 4,
}
const parse = (json: object) => parseConfig({ ...SIZES, ...json }, 'config.json')

// the keys of older transformers releases, and what a silent config.json means (the defaults of the config classes)
test('older keys and defaults', () => {
  const llama3 = parse({
    ...{ model_type: 'llama', rope_theta: 5e5, num_key_value_heads: 2 },
    rope_scaling: {
      ...{ rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4 },
      original_max_position_embeddings: 8192,
    },
  })
  expect(llama3).toMatchObject({ ropeTheta: 5e5, context: 2048, kvHeads: 2, headDim: 4 })
  expect(llama3.ropeScaling).toMatchObject({ type: 'llama3', originalContext: 8192 })
  const mistral = parse({ model_type: 'mistral', num_key_value_heads: 4 })
  expect(mistral).toMatchObject({ slidingWindow: 4096, sliding: [true, true, true, true] })
  const open = parse({ model_type: 'mistral', num_key_value_heads: 4, sliding_window: null })
  expect(open.slidingWindow).toBeNull()
  const qwen2 = { model_type: 'qwen2', num_key_value_heads: 4, sliding_window: 8 }
  expect(parse(qwen2)).toMatchObject({
    slidingWindow: null,
    biases: ['q_proj', 'k_proj', 'v_proj'],
  })
  expect(parse({ ...qwen2, use_sliding_window: true, max_window_layers: 3 }).sliding).toEqual([
    ...[false, false, false, true],
  ])
  expect(parse({ model_type: 'qwen3', num_key_value_heads: 4 })).toMatchObject({
    ...{ headDim: 128, qkNorm: true, biases: [] },
  })
  expect(parse({ model_type: 'smollm3' })).toMatchObject({
    ...{ rotary: [true, true, true, false], tieWordEmbeddings: true, ropeTheta: 2e6, kvHeads: 4 },
  })
})

test.each([
  [{ model_type: 'gemma2', architectures: ['Gemma2ForCausalLM'] }, /Gemma2ForCausalLM.*Llama, Mis/],
  [{ model_type: 'mixtral', num_local_experts: 8 }, /mixture of experts \(num_local_experts 8\)/],
  [{ model_type: 'llama', architectures: ['LlamaForTokenClassification'] }, /LlamaForSequenceC/],
  [{ model_type: 'llama', quantization_config: { quant_method: 'gptq' } }, /\(gptq\).*bfloat16/],
  [{ model_type: 'llama', hidden_act: 'gelu' }, /hidden_act "gelu".*silu/],
  [{ model_type: 'llama', rope_scaling: { rope_type: 'yarn', factor: 4 } }, /"yarn".*llama3 are/],
  [{ model_type: 'llama', rope_scaling: { type: 'longrope' } }, /"longrope"/],
  [{ model_type: 'llama', rope_parameters: { partial_rotary_factor: 0.5 } }, /partial_rotary/],
])('%j is refused with what is missing', (json, message) => {
  expect(() => parse(json)).toThrow(message)
  expect(() => parse(json)).toThrow(expect.objectContaining({ code: 'unsupported_architecture' }))
})

test('a field that must be there is named', () => {
  expect(() => parse({ model_type: 'llama', rope_scaling: { type: 'llama3', factor: 2 } })).toThrow(
    /low_freq_factor must be a positive number, it is undefined/,
  )
  expect(() => parse({ model_type: 'llama', num_key_value_heads: 3 })).toThrow(/4 heads.*3 key/)
})

/** A copy of a checkpoint with other tensors. */
async function altered(
  name: string,
  change: (tensors: Record<string, { shape: number[]; data: Float32Array }>) => void,
): Promise<string> {
  const copy = mkdtempSync(join(folder, 'copy-'))
  cpSync(fixture(name), copy, { recursive: true })
  const path = join(copy, 'model.safetensors')
  const file = openSafetensors(path)
  const tensors = Object.fromEntries(file.names.map((key) => [key, file.read(key)]))
  file.close()
  change(tensors)
  await writeSafetensors(path, tensors)
  return copy
}

test('tensors that are missing, too many, misshapen or not finite are named', async () => {
  const q = 'model.layers.0.self_attn.q_proj'
  const without = await altered('qwen2', (t) => delete t[`${q}.bias`])
  await expect(loadBase(without)).rejects.toThrow(`missing: ${q}.bias`)
  const bias = { shape: [16], data: new Float32Array(16) }
  const more = await altered('llama2', (t) => (t[`${q}.bias`] = bias))
  await expect(loadBase(more)).rejects.toThrow(`${q}.bias is there, though`)
  const labels = await altered('qwen3_rm', (t) => {
    t['score.weight'] = { shape: [2, 16], data: new Float32Array(32) }
  })
  await expect(loadBase(labels)).rejects.toThrow(/score\.weight has shape \[2,16\].*\[1,16\]/)
  const infinite = await altered('llama2', (t) => {
    t['model.norm.weight']?.data.fill(Infinity, 15)
  })
  await expect(loadBase(infinite)).rejects.toThrow('model.norm.weight holds numbers')
})

test('a tensor that the index promises and no shard holds is named; pickled weights are refused', async () => {
  const copy = mkdtempSync(join(folder, 'copy-'))
  cpSync(fixture('llama3'), copy, { recursive: true })
  const path = join(copy, 'model.safetensors.index.json')
  const index = JSON.parse(readFileSync(path, 'utf8')) as { weight_map: Record<string, string> }
  const last = Object.values(index.weight_map).at(-1) ?? ''
  index.weight_map['model.layers.9.mlp.up_proj.weight'] = last
  writeFileSync(path, JSON.stringify(index))
  await expect(loadBase(copy)).rejects.toThrow(
    `${last}: model.layers.9.mlp.up_proj.weight is missing`,
  )
  const pickled = mkdtempSync(join(folder, 'copy-'))
  cpSync(fixture('llama2/config.json'), join(pickled, 'config.json'))
  writeFileSync(join(pickled, 'pytorch_model.bin'), '')
  await expect(loadBase(pickled)).rejects.toThrow(/pickled weights are not read/)
})
