import { cpSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, test } from 'vitest'
import { onePack } from '../helpers/one-pack.ts'
import { writeMerged } from '../../src/model/export.ts'
import { logits, scalarHead } from '../../src/model/heads.ts'
import { hiddenStates } from '../../src/model/llama.ts'
import type { Llama } from '../../src/model/llama.ts'
import { disposeBase, disposePairs, loadAdapter, loadBase } from '../../src/model/resident.ts'
import { dispose } from '../../src/tensor/backend.ts'
import { read } from '../../src/tensor/ops.ts'
import { readAdapter } from '../../src/weights/folder.ts'
import { openSafetensors, writeSafetensors } from '../../src/weights/safetensors.ts'

// Expected numbers are PEFT's: fixtures/parity/peft/make.py
const fixture = (path: string): string =>
  fileURLToPath(new URL(`../../fixtures/parity/${path}`, import.meta.url))
const json = <T>(path: string): T => JSON.parse(readFileSync(fixture(path), 'utf8')) as T
const { prompts } = json<{ prompts: number[][] }>('architectures/expected.json')
const adapters = Object.entries(
  json<Record<string, { base: string; outputs: number[][] }>>('peft/expected.json'),
)
const folder = mkdtempSync(join(tmpdir(), 'libra-peft-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** The score, or the logits of the next token, of each prompt. */
function outputs(model: Llama): number[] {
  const pack = onePack(prompts)
  const hidden = hiddenStates(model, pack, { last: true })
  const out = model.weights.has('score.weight')
    ? scalarHead(model, 'score.weight', hidden, pack.ends)
    : logits(model, hidden, pack.ends)
  const values = Array.from(read(out))
  const width = values.length / prompts.length
  dispose([hidden, out])
  return prompts.flatMap((_, row) => {
    const at = pack.rows.indexOf(row) * width
    return values.slice(at, at + width)
  })
}
function near(actual: readonly number[], wanted: readonly number[], tolerance: number): void {
  expect(actual.length).toBe(wanted.length)
  actual.forEach((x, i) =>
    expect(Math.abs(x - (wanted[i] ?? NaN)), `at ${i}`).toBeLessThan(tolerance),
  )
}

test.each(adapters)('%s: as PEFT computes it, on its base and merged', async (name, expected) => {
  const base = fixture(`architectures/${expected.base}`)
  const adapter = fixture(`peft/${name}`)
  const model = await loadBase(base)
  const { pairs, heads } = await loadAdapter(model, adapter)
  const weights = new Map([...model.weights, ...heads])
  const wanted = expected.outputs.flat()
  near(outputs({ ...model, weights, adapter: pairs }), wanted, 1e-4)
  disposePairs(pairs)
  dispose([...heads.values()])
  disposeBase(model)

  const output = join(folder, name)
  const merged = await writeMerged(
    { base, adapters: [adapter] },
    { output, dtype: 'F32', shardBytes: 4096 },
  )
  expect(merged.architecture).toMatch(
    name.startsWith('rm') ? /ForSequenceClassification$/ : /ForCausalLM$/,
  )
  expect(readdirSync(output)).toContain('model.safetensors.index.json')
  const again = await loadBase(output)
  near(outputs(again), wanted, 1e-4)
  disposeBase(again)
})

/** A copy of an adapter with other settings or tensors. */
async function altered(
  name: string,
  settings: object,
  change: (tensors: Record<string, { shape: number[]; data: Float32Array }>) => void = () => {},
): Promise<string> {
  const copy = mkdtempSync(join(folder, 'copy-'))
  cpSync(fixture(`peft/${name}`), copy, { recursive: true })
  const config = json<object>(`peft/${name}/adapter_config.json`)
  writeFileSync(join(copy, 'adapter_config.json'), JSON.stringify({ ...config, ...settings }))
  const path = join(copy, 'adapter_model.safetensors')
  const file = openSafetensors(path)
  const tensors = Object.fromEntries(file.names.map((key) => [key, file.read(key)]))
  file.close()
  change(tensors)
  await writeSafetensors(path, tensors)
  return copy
}

test.each([
  [{ use_dora: true }, /use_dora true/],
  [{ bias: 'all' }, /bias "all"/],
  [{ peft_type: 'IA3' }, /IA3/],
  [{ init_lora_weights: 'pissa_niter_4' }, /pissa_niter_4.*base/],
  [{ layer_replication: [[0, 2]] }, /layer_replication/],
  [{ r: 5, rank_pattern: {} }, /has rank \d, adapter_config.json says 5/],
  [{ lora_alpha: null }, /lora_alpha must be a positive number/],
])('%j is refused by name', async (settings, message) => {
  await expect(readAdapter(await altered('rm_patterns', settings))).rejects.toThrow(message)
})

test('an adapter without its head, half a pair, and parts that are elsewhere are refused by name', async () => {
  const head = 'base_model.model.score.weight'
  const lost = await altered('rm_patterns', {}, (t) => delete t[head])
  await expect(readAdapter(lost)).rejects.toThrow(/is missing, though adapter_config.json/)
  const b = 'base_model.model.model.layers.1.mlp.gate_proj.lora_B.weight'
  const half = await altered('lm_regex', {}, (t) => delete t[b])
  await expect(readAdapter(half)).rejects.toThrow(`${b} is missing`)
  const lmHead = 'base_model.model.lm_head.weight'
  const elsewhere = await altered('lm_regex', { modules_to_save: ['lm_head'] }, (t) => {
    t[lmHead] = { shape: [1], data: new Float32Array(1) }
  })
  await expect(readAdapter(elsewhere)).rejects.toThrow(`${lmHead} is not supported`)
  const labels = await altered('rm_list', {}, (t) => {
    t[head] = { shape: [2, 16], data: new Float32Array(32) }
  })
  const model = await loadBase(fixture('architectures/mistral_rm'))
  await expect(loadAdapter(model, labels)).rejects.toThrow(/score\.weight has shape \[2,16\]/)
  disposeBase(model)
})
