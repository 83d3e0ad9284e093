import { LibraError } from '../errors.ts'
import { dispose } from '../tensor/backend.ts'
import { uniform } from '../random.ts'
import { ROUND, roundUp } from './batch.ts'
import type { Chosen } from './decoder.ts'
import type { Llama } from './llama.ts'
import { readPrompts } from './prompts.ts'

export type Sampling = { maxTokens: number; temperature: number; topP: number; topK: number }

export type Sampled = {
  ids: number[]
  /** log-probability of each token at temperature 1, without warping */
  logprobs: number[]
  finish: 'stop' | 'length'
}

export type GenerateHooks = {
  /** keys of row i's random numbers; the position is appended */
  key: (row: number) => readonly number[]
  stopIds: ReadonlySet<number>
  /** asked after each token of a row; true ends it (stop strings) */
  done?: (row: number, ids: readonly number[]) => boolean
  /** called between decode steps, so that other work may go in between */
  between?: () => Promise<void> | void
}

const LARGEST_BELOW_ONE = 1 - 2 ** -24 // float32
/** The cache grows by this many slots at a time: kernels are compiled for each size. */
const GROWTH = 64

/** A row of the cache: the prompt it answers, the tokens of that prompt and at most to come, whether it goes on. */
type Row = { row: number; length: number; room: number; live: boolean }

/**
 * Samples a continuation of each prompt with a KV cache. Each token takes one keyed uniform from the host
 * and the inverse of the cumulative distribution on the device, so the same keys and batch give the same
 * tokens on every run. Temperature 0 is greedy.
 * Throws `non_finite_output` when the model gives no finite probability.
 */
export async function generate(
  model: Llama,
  prompts: readonly ArrayLike<number>[],
  sampling: Sampling,
  hooks: GenerateHooks,
): Promise<Sampled[]> {
  if (prompts.length === 0) return []
  const results: Sampled[] = prompts.map(() => ({ ids: [], logprobs: [], finish: 'length' }))
  let rows = prompts.map(({ length }, row): Row => {
    const room = Math.min(sampling.maxTokens, model.config.context - length)
    return { row, length, room, live: true }
  })
  const draws = (at: number): number[] =>
    rows.map(({ row }) => Math.min(uniform(...hooks.key(row), at), LARGEST_BELOW_ONE))
  /** Slots for rows that take in their token number `at`, and for some to come. */
  const slotsFor = (at: number): number => {
    const now = Math.max(...rows.map(({ length, live }) => (live ? length + at : 0)))
    const end = Math.max(...rows.map(({ length, room, live }) => (live ? length + room : 0)))
    return Math.min(roundUp(now, GROWTH), roundUp(Math.max(now, end - 1), ROUND))
  }

  const decoder = model.decoders.acquire(model)
  try {
    const prompt = readPrompts(model, prompts)
    let slots = Math.max(prompt.width, slotsFor(1))
    decoder.begin(prompt.cache, slots, sampling)
    let chosen = decoder.choose(prompt.next, draws(0))
    dispose(prompt)
    for (let at = 1; ; at++) {
      take(chosen)
      const live = rows.flatMap(({ live }, b) => (live ? [b] : []))
      if (live.length === 0) return results
      // An ended row still costs a full row each step: drop such rows once they are half of the batch.
      const kept = live.length <= rows.length / 2 ? live : rows.map((_, b) => b)
      const tokens = kept.map((b) => chosen.tokens[b] ?? 0)
      const wanted = Math.max(slots, slotsFor(at))
      if (kept === live || wanted > slots) decoder.resize(kept, wanted)
      slots = wanted
      rows = kept.flatMap((b) => rows[b] ?? [])
      const positions = rows.map(({ length }) => Math.min(length + at - 1, slots - 1))
      await hooks.between?.()
      chosen = decoder.step(tokens, positions, draws(at))
    }
  } finally {
    decoder.release()
  }

  /** Hands each live row its token. */
  function take({ tokens, logprobs }: Chosen): void {
    rows.forEach((slot, b) => {
      const result = results[slot.row]
      if (!slot.live || result === undefined) return
      const token = tokens[b] ?? 0
      result.ids.push(token)
      result.logprobs.push(finite(logprobs[b] ?? NaN))
      const stopped = hooks.stopIds.has(token) || hooks.done?.(slot.row, result.ids) === true
      if (stopped) result.finish = 'stop'
      slot.live = !stopped && result.ids.length < slot.room
    })
  }
}

function finite(logprob: number): number {
  if (Number.isFinite(logprob)) return logprob
  throw new LibraError(
    'non_finite_output',
    'the model gave no finite probability: its weights are damaged or have diverged',
    { fault: 'engine' },
  )
}
