import { availableParallelism, cpus } from 'node:os'
import { Command } from 'commander'
import { generate } from '../src/model/generate.ts'
import { disposeGradients, SCORE_HEAD } from '../src/model/heads.ts'
import type { Llama } from '../src/model/llama.ts'
import { disposeBase, initialize } from '../src/model/resident.ts'
import { uniform } from '../src/random.ts'
import { device, tensorflowVersion, tf } from '../src/tensor/backend.ts'
import type { Tensor } from '../src/tensor/backend.ts'
import { measurePeak } from '../src/tensor/peak.ts'
import { scoreSequences } from '../src/training/reward-model.ts'
import { tokenLoss } from '../src/training/tokens.ts'
import { parseConfig } from '../src/weights/config.ts'
import { SIZES } from './sizes.ts'

/**
 * Tokens per second against batch, length and size, next to what the machine reaches in one large matrix product: cost
 * should grow in proportion to batch and parameters, and barely with length. GFLOP/s counts 2 per parameter and token
 * (6 where gradients are computed) and leaves attention out.
 */
const { sizes, seconds } = new Command()
  .option('--sizes <names>', `of ${Object.keys(SIZES).join(', ')}`, '1M,7M,30M')
  .option('--seconds <n>', 'of each cell', '3')
  .parse()
  .opts<{ sizes: string; seconds: string }>()
const SECONDS = Number(seconds)
const MICRO_TOKENS = 8192

type Work = { rate: number; flops: number }

/** The best of the repetitions that fit the time, at least two after a first that warms up. */
async function timed(tokens: number, work: () => Promise<unknown> | unknown): Promise<number> {
  await work()
  let best = Infinity
  const start = performance.now()
  for (let i = 0; i < 2 || performance.now() - start < 1000 * SECONDS; i++) {
    const before = performance.now()
    await work()
    best = Math.min(best, performance.now() - before)
  }
  return (1000 * tokens) / best
}

const random = (vocabulary: number, B: number, T: number): number[][] =>
  Array.from({ length: B }, (_, b) =>
    Array.from({ length: T }, (_, t) => 5 + Math.floor(uniform(1, b, t) * (vocabulary - 5))),
  )

async function score(model: Llama, B: number, T: number): Promise<Work> {
  const rows = random(model.config.vocabularySize, B, T)
  const rate = await timed(B * T, () =>
    scoreSequences(
      model,
      rows.map((ids) => ({ ids, answer: 0 })),
      MICRO_TOKENS,
    ),
  )
  return { rate, flops: 2 }
}
async function train(model: Llama, B: number, T: number): Promise<Work> {
  const rows = random(model.config.vocabularySize, B, T)
  const sequences = rows.map((ids) => ({ ids, counts: ids.map(() => 1) }))
  const order = rows.map((_, b) => b)
  const rate = await timed(B * T, () =>
    disposeGradients(tokenLoss(model, sequences, order, 'all', MICRO_TOKENS).gradients),
  )
  return { rate, flops: 6 }
}
async function sample(model: Llama, B: number, T: number): Promise<Work> {
  const prompts = random(model.config.vocabularySize, B, 32)
  const sampling = { maxTokens: T - 32, temperature: 1, topP: 1, topK: 0 }
  const hooks = { key: (row: number) => [1, row], stopIds: new Set<number>() }
  const rate = await timed(B * (T - 32), () => generate(model, prompts, sampling, hooks))
  return { rate, flops: 2 }
}

const WORKS = { score, train, generate: sample }
type Cell = [work: keyof typeof WORKS, batch: number, length: number]

const { gflops, bandwidth } = measurePeak()
console.log(
  `${cpus()[0]?.model ?? 'unknown processor'}, ${availableParallelism()} threads, node ${process.version}, TensorFlow ${tensorflowVersion} on ${device}; peak ${gflops.toFixed(0)} GFLOP/s in a product of 2048², ${bandwidth.toFixed(0)} GB/s read and written\n`,
)
console.log('| parameters | work | batch | length | tokens/s | GFLOP/s | of the peak |')
console.log('| --- | --- | --- | --- | --- | --- | --- |')
for (const name of sizes.split(',')) {
  const size = SIZES[name]
  if (size === undefined) throw new Error(`--sizes: ${name} is none of ${Object.keys(SIZES)}`)
  const config = parseConfig({ ...size, model_type: 'llama', tie_word_embeddings: true }, name)
  const plain = initialize(config, 1)
  const head = tf.keep(tf.randomNormal([1, config.hiddenSize]) as Tensor)
  const model = { ...plain, weights: new Map([...plain.weights, [SCORE_HEAD, head]]) }
  const parameters = [...plain.weights.values()].reduce((n, { size }) => n + size, 0)
  const embedding = config.vocabularySize * config.hiddenSize
  const cells: Cell[] = [
    ...[1, 8, 32].flatMap((B): Cell[] => [
      ['score', B, 128],
      ['train', B, 128],
    ]),
    ...[32, 512].flatMap((T): Cell[] => [
      ['score', 8, T],
      ['train', 8, T],
    ]),
    ...[1, 16, 64].map((B): Cell => ['generate', B, 96]),
    ['generate', 16, 256],
  ]
  for (const [work, B, T] of cells.toSorted(([a], [b]) => b.localeCompare(a))) {
    const { rate, flops } = await WORKS[work](model, B, T)
    // a score needs no unembedding
    const used = work === 'score' ? parameters - embedding : parameters
    const speed = (flops * used * rate) / 1e9
    console.log(
      `| ${name} | ${work} | ${B} | ${T} | ${rate.toFixed(0)} | ${speed.toFixed(1)} | ${((100 * speed) / gflops).toFixed(0)} % |`,
    )
  }
  tf.dispose(head)
  disposeBase(plain)
}
