import { spawn } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Command } from 'commander'
import { peersPython } from '../scripts/peers.mjs'
import { starterFolder } from '../src/config.ts'
import { read } from '../src/tensor/ops.ts'
import { loadScorer } from '../src/training/ppo/scorers.ts'
import { readJson } from '../src/weights/json.ts'
import { writeSafetensors } from '../src/weights/safetensors.ts'

/**
 * From the start of a process to its first score: `libra score` with the starter models, both axes, against a Python
 * that scores the same text by transformers with the helpfulness model alone, merged. In turn, one at a time.
 */
const { repetitions } = new Command()
  .option('--repetitions <n>', 'of each side', '7')
  .parse()
  .opts<{ repetitions: string }>()

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'libra-start-'))
const messages = [
  { role: 'user', content: '世界上有几大洲？' },
  { role: 'assistant', content: '七大洲' },
]
const input = join(folder, 'input.jsonl')
writeFileSync(input, `${JSON.stringify({ messages })}\n`)

/** The helpfulness model as one LlamaForSequenceClassification that transformers loads. */
async function merged(): Promise<string> {
  const base = join(starterFolder, 'base')
  const adapters = ['sft', 'helpfulness'].map((name) => join(starterFolder, name))
  const scorer = await loadScorer({ files: { base, adapters }, calibration: null })
  const target = join(folder, 'merged')
  mkdirSync(target)
  const config = await readJson(join(base, 'config.json'))
  const classifier = { architectures: ['LlamaForSequenceClassification'], num_labels: 1 }
  writeFileSync(
    join(target, 'config.json'),
    JSON.stringify({ ...config, ...classifier, torch_dtype: 'float32' }),
  )
  await writeSafetensors(
    join(target, 'model.safetensors'),
    Object.fromEntries(
      [...scorer.model.weights].map(([name, tensor]) => [
        name,
        { shape: tensor.shape, data: Float32Array.from(read(tensor)) },
      ]),
    ),
  )
  for (const file of ['tokenizer.json', 'tokenizer_config.json'])
    copyFileSync(join(base, file), join(target, file))
  scorer.dispose()
  return target
}

/** Seconds from the start of a process to its first line, and the logit in it. */
function first(command: string, args: string[], env: NodeJS.ProcessEnv) {
  const start = performance.now()
  const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-2000)))
  return new Promise<{ seconds: number; logit: number }>((resolve, reject) => {
    let seconds = NaN
    let line = ''
    child.stdout.on('data', (chunk: Buffer) => {
      if (Number.isNaN(seconds)) seconds = (performance.now() - start) / 1000
      line += chunk.toString()
    })
    child.on('close', (code) => {
      if (code !== 0) return reject(new Error(`${command} ended with ${code}: ${said}`))
      const { score } = JSON.parse(line) as { score: { helpfulness: { logit: number } } }
      resolve({ seconds, logit: score.helpfulness.logit })
    })
  })
}

const PYTHON = `
import json, sys
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
folder, source = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
messages = json.loads(open(source).readline())["messages"]
text = tokenizer.apply_chat_template(messages, tokenize=False)
ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
with torch.inference_mode():
    logit = model(input_ids=ids).logits[0, 0].item()
print(json.dumps({"score": {"helpfulness": {"logit": logit}}}), flush=True)
`

try {
  const model = await merged()
  const python = peersPython()
  const env = { ...process.env, HF_HUB_OFFLINE: '1', LIBRA_PORT: '1' } // no server is asked
  const sides = {
    libra: () =>
      first(process.execPath, [here('../bin/libra.js'), 'score', input], {
        ...{ ...env, LIBRA_DATA_DIR: join(folder, 'data') },
      }),
    python: () => first(python, ['-c', PYTHON, model, input], env),
  }
  const [ours, theirs] = [await sides.libra(), await sides.python()] // files into memory
  if (!(Math.abs(ours.logit - theirs.logit) < 1e-3))
    throw new Error(`the sides differ: ${ours.logit} and ${theirs.logit}`)
  const times = { libra: [] as number[], python: [] as number[] }
  for (let i = 0; i < Number(repetitions); i++)
    for (const side of i % 2 === 0
      ? (['libra', 'python'] as const)
      : (['python', 'libra'] as const))
      times[side].push((await sides[side]()).seconds)
  const ratios = times.libra.map((t, i) => t / (times.python[i] ?? NaN))
  const middle = (values: number[]): string =>
    (values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN).toFixed(2)
  const spread = `${Math.min(...ratios).toFixed(2)}–${Math.max(...ratios).toFixed(2)}`
  console.log(`${cpus()[0]?.model ?? 'unknown processor'}, node ${process.version}\n`)
  console.log('| process start to first score | Libra, s | Python, s | Libra ÷ Python |')
  console.log('| --- | --- | --- | --- |')
  console.log(
    `| starter model | ${middle(times.libra)} | ${middle(times.python)} | ${middle(ratios)} (${spread}) |`,
  )
} finally {
  rmSync(folder, { recursive: true, force: true })
}
