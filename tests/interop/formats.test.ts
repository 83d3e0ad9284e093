import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, test } from 'vitest'
import { peersPython } from '../../scripts/peers.mjs'
import { starterFolder } from '../../src/config.ts'
import { withCheckpoint } from '../../src/engine/engine.ts'
import type { ModelFiles } from '../../src/engine/engine.ts'
import { onePack } from '../helpers/one-pack.ts'
import { writeMerged } from '../../src/model/export.ts'
import { logits, scalarHead } from '../../src/model/heads.ts'
import { hiddenStates } from '../../src/model/llama.ts'
import {
  disposeBase,
  disposePairs,
  loadAdapter,
  loadBase,
  stackAdapters,
} from '../../src/model/resident.ts'
import { RewardModelOptions, SftOptions } from '../../src/schemas/training-options.ts'
import { pretrainDialogues } from '../../src/starter/corpus.ts'
import { dispose } from '../../src/tensor/backend.ts'
import { read } from '../../src/tensor/ops.ts'
import { encodeChat } from '../../src/text/template.ts'
import { loadTokenizer } from '../../src/text/tokenizer.ts'
import { createFeatures } from '../../src/training/readout.ts'
import { rewardModel } from '../../src/training/reward-model.ts'
import { sft } from '../../src/training/sft.ts'

/** What Libra trains and exports, loaded by PEFT and transformers: the same scores and logits. */
const folder = mkdtempSync(join(tmpdir(), 'libra-formats-'))
afterAll(() => rmSync(folder, { recursive: true }))
const python = peersPython()
const parity = (path: string): string =>
  fileURLToPath(new URL(`../../fixtures/parity/${path}`, import.meta.url))

type Job = ModelFiles & { kind: 'causal' | 'score'; rows: number[][] }
function theirs(jobs: Job[]): number[][] {
  const script = fileURLToPath(new URL('./formats.py', import.meta.url))
  const options = { input: JSON.stringify(jobs), encoding: 'utf8' as const, maxBuffer: 2 ** 28 }
  const out = execFileSync(python, [script], options)
  return (JSON.parse(out) as number[][][]).map((rows) => rows.flat())
}

async function ours({ base, adapters, kind, rows }: Job): Promise<number[]> {
  const model = await loadBase(base)
  const loaded = await Promise.all(adapters.map((path) => loadAdapter(model, path)))
  const pairs = stackAdapters(loaded.map((adapter) => adapter.pairs))
  const weights = new Map([...model.weights, ...loaded.flatMap(({ heads }) => [...heads])])
  const whole = { ...model, weights, adapter: pairs }
  const pack = onePack(rows)
  const hidden = hiddenStates(whole, pack, { last: true })
  const out =
    kind === 'score'
      ? scalarHead(whole, 'score.weight', hidden, pack.ends)
      : logits(whole, hidden, pack.ends)
  const values = Array.from(read(out))
  dispose([hidden, out])
  for (const { pairs: own, heads } of loaded) {
    disposePairs(own)
    dispose([...heads.values()])
  }
  disposePairs(pairs)
  disposeBase(model)
  const width = values.length / rows.length
  return rows.flatMap((_, row) => {
    const at = pack.rows.indexOf(row) * width
    return values.slice(at, at + width)
  })
}

function near(actual: readonly number[], wanted: readonly number[]): void {
  expect(actual.length).toBe(wanted.length)
  actual.forEach((x, i) => expect(Math.abs(x - (wanted[i] ?? NaN)), `at ${i}`).toBeLessThan(1e-4))
}

async function finish(events: AsyncIterable<unknown>): Promise<void> {
  for await (const event of events) void event
}

test('adapters that Libra trains, with patterns, rsLoRA and a score head; exports of stacks in every shape', async () => {
  const base = join(starterFolder, 'base')
  const tokenizer = await loadTokenizer(base)
  const dialogues = pretrainDialogues(1, 12).map(({ messages }) => messages)
  const rows = dialogues.slice(0, 4).map((messages) => encodeChat(tokenizer, messages).ids)
  // 1. an SFT adapter, then a reward model on the base alone and one on the SFT adapter
  const data = join(folder, 'rows.jsonl')
  writeFileSync(data, dialogues.map((messages) => JSON.stringify({ messages })).join('\n'))
  const pairs = join(folder, 'pairs.jsonl')
  const pair = (i: number) => ({
    ...{ axis: 'safety', prompt: dialogues[i]?.slice(0, -1) },
    ...{ chosen: dialogues[i]?.at(-1)?.content, rejected: dialogues[i + 1]?.at(-1)?.content },
  })
  writeFileSync(pairs, [0, 2, 4, 6].map((i) => JSON.stringify(pair(i))).join('\n'))
  const lora = { rank: 4, alpha: 6, rank_pattern: { q_proj: 2 }, alpha_pattern: { up_proj: 3 } }
  const optimizer = { learning_rate: 1e-2 }
  const start = { base, adapters: [] }
  const tuned = join(folder, 'sft')
  const sftOptions = SftOptions.parse({ epochs: 2, batch_size: 4, lora, optimizer })
  await finish(sft({ kind: 'sft', output: tuned, model: start, data, options: sftOptions }))
  const options = RewardModelOptions.parse({
    ...{ axis: 'safety', batch_size: 2, optimizer },
    lora: { ...lora, use_rslora: true },
  })
  const reward = { kind: 'reward_model' as const, data: pairs, options }
  const [alone, above] = [join(folder, 'rm'), join(folder, 'rm-on-sft')]
  await finish(rewardModel({ ...reward, output: alone, model: start }, createFeatures()))
  const stack = withCheckpoint(start, tuned, {})
  await finish(rewardModel({ ...reward, output: above, model: stack }, createFeatures()))
  // 2. adapters as PEFT sees them
  const jobs: Job[] = [
    { base, adapters: [tuned], kind: 'causal', rows },
    { base, adapters: [alone], kind: 'score', rows },
  ]
  // 3. stacks merged into one folder: as the adapters on the base
  const whole = { base, adapters: [tuned, above] }
  const exported = join(folder, 'exported')
  await writeMerged(whole, { output: exported, dtype: 'F32', shardBytes: 2e6 })
  const policy = { base, adapters: [tuned] }
  const merged = join(folder, 'policy')
  await writeMerged(policy, { output: merged, dtype: 'F32', shardBytes: 5e9 })
  jobs.push(
    { base: exported, adapters: [], kind: 'score', rows },
    { base: merged, adapters: [], kind: 'causal', rows },
  )
  const wanted = theirs(jobs)
  const mine = [jobs[0], jobs[1], { ...whole, kind: 'score', rows }, jobs[0]] as Job[]
  for (const [i, job] of mine.entries()) near(await ours(job), wanted[i] ?? [])
}, 600_000)

test('exports of every architecture, adapters merged, in bfloat16 and float16 too', async () => {
  const { prompts } = JSON.parse(readFileSync(parity('architectures/expected.json'), 'utf8')) as {
    prompts: number[][]
  }
  const jobs: Job[] = []
  for (const [base, adapter, dtype] of [
    ['qwen3_rm', 'rm_patterns', 'F32'],
    ['mistral', 'lm_regex', 'F32'],
    ['smollm3', null, 'BF16'],
    ['qwen2_sliding', null, 'F16'],
    ['llama3', null, 'F32'],
  ] as const) {
    const output = join(folder, `${base}-${dtype}`)
    const adapters = adapter === null ? [] : [parity(`peft/${adapter}`)]
    const files = { base: parity(`architectures/${base}`), adapters }
    const { architecture } = await writeMerged(files, { output, dtype, shardBytes: 6000 })
    const kind = architecture.endsWith('CausalLM') ? 'causal' : 'score'
    jobs.push({ base: output, adapters: [], kind, rows: prompts })
  }
  const wanted = theirs(jobs)
  for (const [i, job] of jobs.entries()) near(await ours(job), wanted[i] ?? [])
}, 600_000)
