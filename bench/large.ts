import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { starterFolder } from '../src/config.ts'
import { spawnEngine } from '../src/engine/process/spawn.ts'
import type { Engine } from '../src/engine/engine.ts'
import { RewardModelOptions } from '../src/schemas/training-options.ts'
import { pretrainDialogues } from '../src/starter/corpus.ts'
import { parseConfig } from '../src/weights/config.ts'
import { writeJson } from '../src/weights/json.ts'
import { weightShapes } from '../src/weights/shapes.ts'
import { writeWeights } from '../src/weights/shards.ts'

/**
 * A random checkpoint of a billion parameters (TinyLlama's shape with a score head, bfloat16, in shards): how long
 * loading, scoring and one LoRA step take, and the peak memory of the process that does it (VmHWM, Linux).
 * `npm run bench:large`; LIBRA_BENCH_LAYERS for fewer than 22 layers.
 */
const layers = Number(process.env['LIBRA_BENCH_LAYERS'] ?? 22)
const CONFIG = {
  ...{ architectures: ['LlamaForSequenceClassification'], model_type: 'llama', num_labels: 1 },
  ...{ vocab_size: 32000, hidden_size: 2048, intermediate_size: 5632, num_hidden_layers: layers },
  ...{ num_attention_heads: 32, num_key_value_heads: 4, max_position_embeddings: 2048 },
  ...{ rms_norm_eps: 1e-5, torch_dtype: 'bfloat16' },
}

const folder = await mkdtemp(join(tmpdir(), 'libra-large-'))
try {
  console.log(
    `${cpus()[0]?.model ?? 'unknown processor'}, ${cpus().length} cores, node ${process.version}`,
  )
  const size = await timed('write the checkpoint', writeRandom)
  const bytes = 4 * size
  console.log(`${(size / 1e9).toFixed(3)} billion parameters, ${gigabytes(bytes)} as float32`)
  const model = { base: folder, adapters: [] }
  const conversations = pretrainDialogues(1, 4).map(({ messages }) => messages)

  const serving = await spawnEngine()
  const idle = await peak(serving)
  await timed('load', () => serving.describe(model))
  const loaded = await peak(serving)
  console.log(
    `peak after loading ${gigabytes(loaded)}: ${(loaded / bytes).toFixed(2)} × the weights (before: ${gigabytes(idle)})`,
  )
  const score = () => serving.score({ model, conversations, onTooLong: 'error' })
  const scores = await timed(`score ${conversations.length} texts`, score)
  console.log(
    `${scores.reduce((n, { tokens }) => n + tokens, 0)} tokens; ${await peakText(serving)}`,
  )
  await timed(`score them again`, score)
  await serving.close()

  const training = await spawnEngine({ training: true })
  await timed('load and take one LoRA step on 2 pairs', () => step(training))
  console.log(await peakText(training))
  await training.close()
} finally {
  await rm(folder, { recursive: true, force: true })
}

/** Writes normal-like weights in reading order and returns how many. */
async function writeRandom(): Promise<number> {
  await writeJson(join(folder, 'config.json'), CONFIG)
  for (const file of ['tokenizer.json', 'tokenizer_config.json'])
    await copyFile(join(starterFolder, 'base', file), join(folder, file))
  const shapes = weightShapes(parseConfig(CONFIG, 'config.json'))
  shapes.delete('lm_head.weight')
  shapes.set('score.weight', [1, CONFIG.hidden_size])
  let seed = 1
  let total = 0
  const tensors = Object.fromEntries(
    [...shapes].map(([name, shape]) => {
      const n = shape.reduce((a, b) => a * b, 1)
      total += n
      return [name, { shape, data: () => random(name, n) }]
    }),
  )
  await writeWeights(folder, tensors, 'BF16', 5e8)
  return total

  function random(name: string, n: number): Float32Array {
    const data = new Float32Array(n)
    if (name.includes('norm')) return data.fill(1)
    for (let i = 0; i < n; i++) {
      seed ^= seed << 13 // xorshift32 (Marsaglia 2003)
      seed ^= seed >>> 17
      seed ^= seed << 5
      data[i] = (seed / 2 ** 31) * 0.035 // uniform with deviation 0.02
    }
    return data
  }
}

async function step(engine: Engine): Promise<void> {
  const data = join(folder, 'pairs.jsonl')
  const rows = pretrainDialogues(2, 4).map(({ messages }) => messages)
  const pairs = [0, 2].map((i) => ({
    ...{ axis: 'helpfulness', prompt: rows[i]?.slice(0, -1) },
    ...{ chosen: rows[i]?.at(-1)?.content, rejected: rows[i + 1]?.at(-1)?.content },
  }))
  await writeFile(data, pairs.map((pair) => JSON.stringify(pair)).join('\n'))
  const options = RewardModelOptions.parse({
    ...{ axis: 'helpfulness', batch_size: 2, seed: 1, epochs: 1 },
    optimizer: { learning_rate: 1e-4 },
  })
  const spec = { kind: 'reward_model' as const, output: join(folder, 'adapter'), data, options }
  for await (const event of engine.train({ ...spec, model: { base: folder, adapters: [] } }))
    if (event.type === 'metrics')
      console.log(
        `loss ${event.metrics['loss']?.toFixed(4)}, gradient norm ${event.metrics['grad_norm']?.toFixed(3)}`,
      )
}

async function timed<T>(what: string, work: () => Promise<T>): Promise<T> {
  const started = performance.now()
  const result = await work()
  console.log(`${what}: ${((performance.now() - started) / 1000).toFixed(1)} s`)
  return result
}

/** Bytes that an engine's process has held at most. */
async function peak(engine: Engine): Promise<number> {
  const { pid } = await engine.status()
  const [, kilobytes] =
    /VmHWM:\s+(\d+) kB/.exec(await readFile(`/proc/${pid}/status`, 'utf8')) ?? []
  return Number(kilobytes) * 1024
}
async function peakText(engine: Engine): Promise<string> {
  return `peak so far ${gigabytes(await peak(engine))}`
}
function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(2)} GB`
}
