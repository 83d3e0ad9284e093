import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Command } from 'commander'
import { peersPython } from '../scripts/peers.mjs'
import { readHumanData } from '../src/text/data-folder.ts'
import { encodeChat } from '../src/text/template.ts'
import { loadTokenizer } from '../src/text/tokenizer.ts'
import { permutation } from '../src/random.ts'
import { makeCheckpoints } from './checkpoints.ts'
import { SIZES } from './sizes.ts'
import { median, start } from './worker.ts'
import type { Reply, Worker } from './worker.ts'

/**
 * Libra beside PyTorch on the same checkpoints, texts, batches and threads: one process each, one piece of work
 * after the other in turn, so that what the machine does meanwhile hits both. Prints a Markdown table of ratios.
 */
const LENGTH = 256

const { data, sizes, works, repetitions, threads, json } = new Command()
  .requiredOption('--data <folder>', 'human pairs, laid out as for `npm run rlaif -- --data`')
  .option('--sizes <names>', `of ${Object.keys(SIZES).join(', ')}`, '1M,7M,30M')
  .option('--works <names>', 'of score, sft, sft-lora, reward, reward-lora, generate-N', '')
  .option('--repetitions <n>', 'of each side', '5')
  .option('--threads <n>', 'of each side', String(availableParallelism()))
  .option('--json <file>', 'also write every reading there')
  .parse()
  .opts<
    Record<'data' | 'sizes' | 'works' | 'repetitions' | 'threads', string> & { json?: string }
  >()

const folder = mkdtempSync(join(tmpdir(), 'libra-bench-'))
const { train } = await readHumanData(data)
const picked = Array.from(permutation(train.length, 1, 1).slice(0, 256)).flatMap(
  (i) => train[i] ?? [],
)
const env = {
  ...process.env,
  ...{ BENCH_THREADS: threads, OMP_NUM_THREADS: threads, TF_CPP_MIN_LOG_LEVEL: '3' },
  ...{ TF_NUM_INTRAOP_THREADS: threads, NVIDIA_TF32_OVERRIDE: '0', HF_HUB_OFFLINE: '1' },
  TF_FORCE_GPU_ALLOW_GROWTH: 'true',
}
const here = (file: string): string => fileURLToPath(new URL(file, import.meta.url))
const ours = await start(process.execPath, ['--import', 'tsx', here('libra.ts')], env)
const peer = await start(peersPython(), [here('peer.py')], env)
console.log(
  `${cpus()[0]?.model ?? 'unknown processor'}, ${threads} threads, node ${process.version}; ${ours.ready}; ${peer.ready}\n`,
)
console.log('| parameters | work | Libra, tokens/s | PyTorch, tokens/s | Libra ÷ PyTorch |')
console.log('| --- | --- | --- | --- | --- |')

const all: unknown[] = []
try {
  for (const name of sizes.split(',')) await benchSize(name)
} finally {
  ours.close()
  peer.close()
  rmSync(folder, { recursive: true, force: true })
  if (json !== undefined) writeFileSync(json, JSON.stringify(all, null, 1))
}

async function benchSize(name: string): Promise<void> {
  const config = SIZES[name]
  if (config === undefined) throw new Error(`--sizes: ${name} is none of ${Object.keys(SIZES)}`)
  const { lm, rm } = await makeCheckpoints(peer, folder, name, config, train)
  const tokenizer = await loadTokenizer(lm)
  const chat = (answer: 'chosen' | 'rejected') =>
    picked.map((row) => [...row.prompt, { role: 'assistant' as const, content: row[answer] }])
  const encode = (rows: ReturnType<typeof chat>) =>
    rows.map((messages) => {
      const { ids, assistant } = encodeChat(tokenizer, messages)
      return { ids: ids.slice(-LENGTH), counts: assistant.slice(-LENGTH) }
    })
  const [chosen, rejected] = [encode(chat('chosen')), encode(chat('rejected'))]
  const pairs = chosen.flatMap(({ ids }, i) => [ids, rejected[i]?.ids ?? []])
  const short = chat('chosen').filter((_, i) => (chosen[i]?.ids.length ?? LENGTH) < LENGTH)
  const rows = chosen.slice(0, 48)
  const sftJob = {
    model: lm,
    batch: 16,
    ids: rows.map((r) => r.ids),
    counts: rows.map((r) => r.counts),
  }
  const rewardJob = { work: 'reward', model: rm, batch: 8, ids: pairs.slice(0, 48) }
  const jobs: Record<string, object> = {
    score: { work: 'score', model: rm, rows: short.slice(0, 128), length: LENGTH, batch: 32 },
    sft: { work: 'sft', ...sftJob, lora: false },
    'sft-lora': { work: 'sft', ...sftJob, lora: true },
    reward: { ...rewardJob, lora: false },
    'reward-lora': { ...rewardJob, lora: true },
  }
  for (const batch of [1, 16, 64]) {
    const prompts = chosen.filter(({ ids }) => ids.length >= 32).map(({ ids }) => ids.slice(0, 32))
    jobs[`generate-${batch}`] = {
      ...{ work: 'generate', model: lm, new: 128 },
      prompts: Array.from({ length: batch }, (_, i) => prompts[i % prompts.length]),
    }
  }
  for (const [work, job] of Object.entries(jobs)) {
    if (works !== '' && !works.split(',').includes(work)) continue
    await bench(name, work, job)
  }
}

async function bench(name: string, work: string, job: object): Promise<void> {
  const [a, b] = [await ours.ask(job), await peer.ask(job)] // warm-up, and the check that both do the same
  const off = (a.check ?? []).map((x, i) => Math.abs(x - (b.check?.[i] ?? NaN)))
  if (off.some((d) => !(d < 1e-3))) throw new Error(`${work}: the sides differ by ${off.join()}`)
  const [speeds, others, ratios]: number[][] = [[], [], []]
  for (let i = 0; i < Number(repetitions); i++) {
    const turn = i % 2 === 0 ? [ours, peer] : [peer, ours]
    const replies = new Map<Worker, Reply>()
    for (const worker of turn) replies.set(worker, await worker.ask(job))
    const rate = (worker: Worker): number => {
      const { tokens, seconds } = replies.get(worker) ?? { tokens: NaN, seconds: NaN }
      return tokens / seconds
    }
    speeds?.push(rate(ours))
    others?.push(rate(peer))
    ratios?.push(rate(ours) / rate(peer))
  }
  const [mine, theirs, ratio] = [speeds ?? [], others ?? [], ratios ?? []]
  all.push({ name, work, mine, theirs, ratio })
  const spread = `${Math.min(...ratio).toFixed(2)}–${Math.max(...ratio).toFixed(2)}`
  console.log(
    `| ${name} | ${work} | ${median(mine).toFixed(0)} | ${median(theirs).toFixed(0)} | ${median(ratio).toFixed(2)} (${spread}) |`,
  )
}
