import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Command } from 'commander'
import { peersPython } from '../scripts/peers.mjs'
import { permutation } from '../src/random.ts'
import { readHumanData } from '../src/text/data-folder.ts'
import { encodeChat } from '../src/text/template.ts'
import { loadTokenizer } from '../src/text/tokenizer.ts'
import { makeCheckpoints } from './checkpoints.ts'
import { SIZES } from './sizes.ts'
import { median, start } from './worker.ts'

/**
 * One whole PPO round (sample, score, learn; all weights) beside TRL's on the same prompts, sizes and threads, in
 * turn. Libra scores with two reward models and keeps its critic on the policy's trunk; TRL scores with one and
 * trains a critic of its own.
 */
const PROMPTS = 64
const NEW = 48
const LONGEST = 64

const { data, sizes, epochs, repetitions, threads } = new Command()
  .requiredOption('--data <folder>', 'human pairs, laid out as for `npm run rlaif -- --data`')
  .option('--sizes <names>', `of ${Object.keys(SIZES).join(', ')}`, '1M,7M,30M')
  .option('--epochs <n>', 'over the rollouts of a round, comma-separated', '1,4')
  .option('--repetitions <n>', 'of each side', '5')
  .option('--threads <n>', 'of each side', String(availableParallelism()))
  .parse()
  .opts<Record<'data' | 'sizes' | 'epochs' | 'repetitions' | 'threads', string>>()

const env = {
  ...process.env,
  ...{ BENCH_THREADS: threads, OMP_NUM_THREADS: threads, TF_CPP_MIN_LOG_LEVEL: '3' },
  ...{ TF_NUM_INTRAOP_THREADS: threads, HF_HUB_OFFLINE: '1' },
}
const here = (file: string): string => fileURLToPath(new URL(file, import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'libra-ppo-'))
const { train } = await readHumanData(data)
console.log(
  `${cpus()[0]?.model ?? 'unknown processor'}, ${threads} threads, node ${process.version}`,
)
console.log(`${PROMPTS} prompts of at most ${LONGEST} tokens, ${NEW} new tokens each\n`)
console.log('| parameters | epochs | Libra, s a round | TRL, s a round | TRL ÷ Libra |')
console.log('| --- | --- | --- | --- | --- |')
try {
  for (const name of sizes.split(',')) {
    const config = SIZES[name]
    if (config === undefined) throw new Error(`--sizes: ${name} is none of ${Object.keys(SIZES)}`)
    const maker = await start(peersPython(), [here('peer.py')], env)
    const { lm, rm } = await makeCheckpoints(maker, folder, name, config, train)
    maker.close()
    for (const n of epochs.split(',')) await bench(name, lm, rm, Number(n))
  }
} finally {
  rmSync(folder, { recursive: true, force: true })
}

async function bench(name: string, lm: string, rm: string, epochs: number): Promise<void> {
  const tokenizer = await loadTokenizer(lm)
  const asked = Array.from(permutation(train.length, 1, 1))
    .flatMap((i) => train[i] ?? [])
    .map(({ prompt }) => ({ messages: prompt, ids: encodeChat(tokenizer, prompt, true).ids }))
    .filter(({ ids }) => ids.length <= LONGEST)
    .slice(0, PROMPTS * 8)
  const path = join(folder, `${name}.jsonl`)
  writeFileSync(path, asked.map(({ messages }) => JSON.stringify({ messages })).join('\n'))
  const job = { lm, rm, data: path, prompts: PROMPTS, new: NEW, epochs, pad: 0 }
  const libra = await start(
    process.execPath,
    ['--import', 'tsx', here('ppo-libra.ts'), JSON.stringify(job)],
    env,
  )
  const withIds = { ...job, ids: asked.map(({ ids }) => ids) }
  const trl = await start(peersPython(), [here('ppo_peer.py'), JSON.stringify(withIds)], env)
  const [mine, theirs, ratios]: [number[], number[], number[]] = [[], [], []]
  for (let i = -1; i < Number(repetitions); i++) {
    const [a, b] = [await libra.ask({}), await trl.ask({})]
    if (i < 0) continue // the first warms up
    mine.push(a.seconds)
    theirs.push(b.seconds)
    ratios.push(b.seconds / a.seconds)
  }
  libra.close()
  trl.close()
  const spread = `${Math.min(...ratios).toFixed(2)}–${Math.max(...ratios).toFixed(2)}`
  console.log(
    `| ${name} | ${epochs} | ${median(mine).toFixed(2)} | ${median(theirs).toFixed(2)} | ${median(ratios).toFixed(2)} (${spread}) |`,
  )
}
