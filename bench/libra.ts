import { createInterface } from 'node:readline'
import { createLocalEngine } from '../src/engine/local.ts'
import { generate } from '../src/model/generate.ts'
import { SCORE_HEAD } from '../src/model/heads.ts'
import { disposeBase, loadBase } from '../src/model/resident.ts'
import type { Llama } from '../src/model/llama.ts'
import type { Message } from '../src/schemas/chat.ts'
import type { PreferenceRow } from '../src/schemas/feedback.ts'
import {
  LoraOptions,
  OptimizerOptions,
  RewardModelOptions,
} from '../src/schemas/training-options.ts'
import { device, tensorflowVersion } from '../src/tensor/backend.ts'
import { createAdamW } from '../src/training/optimizer.ts'
import { pairLoss } from '../src/training/reward-model.ts'
import { guardedStep, tokenLoss } from '../src/training/tokens.ts'
import { loadTrainee } from '../src/training/trainee.ts'

/**
 * Libra's side of the bench: a process that does one piece of work per line of JSON and says how long it took. Loading
 * stands outside the clock on both sides; tokenising texts that are scored stands inside.
 */
type Job = {
  work: 'score' | 'sft' | 'reward' | 'generate'
  model: string
  rows: Message[][]
  length: number
  ids: number[][]
  counts: number[][]
  prompts: number[][]
  batch: number
  new: number
  lora: boolean
}
type Reply = { seconds: number; tokens: number; check?: number[] }

const engine = createLocalEngine()
let resident: { key: string; value: unknown; free: () => void } | null = null
async function once<T>(key: string, make: () => Promise<{ value: T; free(): void }>): Promise<T> {
  if (resident?.key !== key) {
    resident?.free()
    resident = { key, ...(await make()) }
  }
  return resident.value as T
}
const clock = async (work: () => Promise<Omit<Reply, 'seconds'>>): Promise<Reply> => {
  const start = performance.now()
  const result = await work()
  return { seconds: (performance.now() - start) / 1000, ...result }
}
const total = (rows: readonly (readonly number[])[]): number =>
  rows.reduce((n, row) => n + row.length, 0)

const OPTIMIZER = OptimizerOptions.parse({ learning_rate: 1e-5, schedule: 'constant' })
const openTrainee = (job: Job, heads: string[]) =>
  once(`${job.work} ${job.model} ${job.lora}`, async () => {
    const files = { base: job.model, adapters: [] }
    const trainee = await loadTrainee(files, job.lora ? LoraOptions.parse({}) : null, heads, 1)
    const optimizer = createAdamW(trainee.parameters, OPTIMIZER)
    const free = (): void => {
      optimizer.dispose()
      trainee.dispose()
    }
    return { value: { trainee, optimizer, bad: { count: 0 } }, free }
  })

const works: Record<Job['work'], (job: Job) => Promise<Reply>> = {
  async score({ model, rows }) {
    const files = { base: model, adapters: [] }
    await engine.describe(files)
    return clock(async () => {
      const scores = await engine.score({
        ...{ model: files, conversations: rows, onTooLong: 'truncate' },
      })
      const tokens = scores.reduce((n, s) => n + s.tokens, 0)
      return { tokens, check: scores.slice(0, 4).map(({ logit }) => logit) }
    })
  },
  async sft(job) {
    const { trainee, optimizer, bad } = await openTrainee(job, [])
    const sequences = job.ids.map((ids, i) => ({ ids, counts: job.counts[i] ?? [] }))
    return clock(async () => {
      let last = NaN
      for (let i = 0; i < sequences.length; i += job.batch) {
        const rows = sequences.slice(i, i + job.batch).map((_, k) => i + k)
        const { loss, gradients } = tokenLoss(
          ...([trainee.model, sequences, rows, trainee.trainable, 16384] as const),
        )
        guardedStep(optimizer, gradients, 1e-5, bad)
        last = loss
      }
      return { tokens: total(job.ids), check: [last] }
    })
  },
  async reward(job) {
    const { trainee, optimizer, bad } = await openTrainee(job, [SCORE_HEAD])
    const options = RewardModelOptions.parse({
      ...{ axis: 'helpfulness', margin: 'none', micro_batch_tokens: 16384 },
    })
    const pair: PreferenceRow = { axis: 'helpfulness', prompt: [], chosen: '', rejected: '' }
    const pairs = job.ids.slice(0, job.ids.length / 2).map(() => pair)
    return clock(async () => {
      let last = NaN
      for (let i = 0; i < pairs.length; i += job.batch) {
        const rows = pairs.slice(i, i + job.batch).map((_, k) => i + k)
        const { loss, gradients } = pairLoss(
          ...([trainee.model, job.ids, pairs, rows, options, trainee.trainable] as const),
        )
        guardedStep(optimizer, gradients, 1e-5, bad)
        last = loss
      }
      return { tokens: total(job.ids), check: [last] }
    })
  },
  async generate(job) {
    const model = await once<Llama>(`generate ${job.model}`, async () => {
      const value = await loadBase(job.model)
      return { value, free: () => disposeBase(value) }
    })
    return clock(async () => {
      const sampling = { maxTokens: job.new, temperature: 1, topP: 1, topK: 0 }
      const samples = await generate(model, job.prompts, sampling, {
        ...{ key: (row) => [1, row], stopIds: new Set<number>() },
      })
      return { tokens: total(samples.map(({ ids }) => ids)) }
    })
  },
}

const say = (reply: unknown): boolean => process.stdout.write(`${JSON.stringify(reply)}\n`)
say({ ready: `TensorFlow ${tensorflowVersion} on ${device}` })
for await (const line of createInterface({ input: process.stdin })) {
  const job = JSON.parse(line) as Job
  say(await works[job.work](job).catch((error: unknown) => ({ error: String(error) })))
}
