import { LibraError } from '../errors.ts'
import { dispose, scoped, tf } from '../tensor/backend.ts'
import type { Tensor } from '../tensor/backend.ts'
import {
  argMax,
  countUpTo,
  cumulativeSum,
  floats,
  gatherRows,
  ints,
  mul,
  read,
  readInts,
  scale,
  slice,
  softmax,
  sparseCrossEntropy,
  sub,
  topK,
} from '../tensor/ops.ts'
import { uniform } from '../random.ts'
import { padRows } from './batch.ts'
import { logits } from './heads.ts'
import { step } from './llama.ts'
import type { KeyValues, Llama } from './llama.ts'
import { causalMasks, decodeMasks } from './masks.ts'

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
  const results: Sampled[] = prompts.map(() => ({ ids: [], logprobs: [], finish: 'length' }))
  const {
    ids,
    B,
    T: P,
    lengths: allLengths,
    rows,
  } = padRows(
    prompts,
    prompts.map((_, i) => i),
    0,
  )
  const everyPosition = Int32Array.from({ length: B * P }, (_, i) => i % P)
  const first = scoped(() => {
    const masks = causalMasks(model.config, P) // a large one lives for this pass alone
    return step(model, ids, everyPosition, B, P, masks, null)
  })
  const lastRows = Int32Array.from(allLengths, (length, b) => b * P + length - 1)
  let cache = first.cache
  let next = tf.tidy(() => logits(model, first.hidden, lastRows))
  first.hidden.dispose()
  /** one entry per row of the tensors: the prompt it answers, its prompt's length, whether it goes on */
  let slots = rows.map((row, b) => ({ row, length: allLengths[b] ?? 0, live: true }))

  try {
    for (let position = 0; ; position++) {
      const draws = slots.map(({ row }) => uniform(...hooks.key(row), position))
      const chosen = choose(next, sampling, draws)
      next.dispose()
      slots.forEach((slot, b) => {
        const result = results[slot.row]
        if (!slot.live || result === undefined) return
        const token = chosen.tokens[b] ?? 0
        result.ids.push(token)
        result.logprobs.push(finite(chosen.logprobs[b] ?? NaN))
        const stopped = hooks.stopIds.has(token) || hooks.done?.(slot.row, result.ids) === true
        if (stopped) result.finish = 'stop'
        const room = Math.min(sampling.maxTokens, model.config.context - slot.length)
        slot.live = !stopped && result.ids.length < room
      })
      const live = slots.flatMap(({ live }, b) => (live ? [b] : []))
      if (live.length === 0) break
      let kept = slots.map((_, b) => b)
      // An ended row still costs a full row each step: drop such rows once they are half of the batch.
      if (live.length <= slots.length / 2) {
        kept = live
        cache = keepRows(cache, live)
        slots = slots.filter(({ live }) => live)
      }
      const tokens = Int32Array.from(kept, (b) => chosen.tokens[b] ?? 0)
      const positions = Int32Array.from(slots, ({ length }) => length + position)
      const lengths = slots.map(({ length }) => length)
      const grown = decode(model, tokens, positions, lengths, P, position, cache)
      cache = grown.cache
      next = grown.next
      await hooks.between?.()
    }
  } finally {
    dispose(cache)
    next.dispose()
  }
  return results
}

function finite(logprob: number): number {
  if (Number.isFinite(logprob)) return logprob
  throw new LibraError(
    'non_finite_output',
    'the model gave no finite probability: its weights are damaged or have diverged',
    { fault: 'engine' },
  )
}

function decode(
  model: Llama,
  tokens: Int32Array,
  positions: Int32Array,
  lengths: number[],
  P: number,
  position: number,
  cache: KeyValues[],
): { next: Tensor; cache: KeyValues[] } {
  const masks = decodeMasks(model.config, lengths, P, P + position + 1)
  const grown = step(model, tokens, positions, tokens.length, 1, masks, cache)
  const next = logits(model, grown.hidden, null)
  dispose([masks, grown.hidden])
  return { next, cache: grown.cache }
}

/** The cache of some rows; the old one is disposed. */
function keepRows(cache: KeyValues[], rows: number[]): KeyValues[] {
  const smaller = tf.tidy(() => {
    const index = ints(rows, [rows.length])
    return cache.map(({ k, v }) => ({ k: gatherRows(k, index), v: gatherRows(v, index) }))
  })
  dispose(cache)
  return smaller
}

/** One token per row of logits [M, V] and its log-probability without warping. */
function choose(
  next: Tensor,
  { temperature, topK: k, topP }: Sampling,
  draws: readonly number[],
): { tokens: Int32Array; logprobs: Float32Array } {
  const [M = 0, V = 0] = next.shape
  const [tokens, loss] = scoped((): [Tensor, Tensor] => {
    const tokens = temperature === 0 ? argMax(next) : sample()
    return [tokens, sparseCrossEntropy(next, tokens)[0]]

    function sample(): Tensor {
      const z = scale(next, 1 / temperature)
      if (topP >= 1 && (k <= 0 || k >= V)) return inverse(softmax(z))
      const [sorted, order] = topK(z, k <= 0 ? V : Math.min(k, V))
      const p = softmax(sorted)
      // nucleus: a token stays while the mass before it is below topP, so the first always stays
      const before = sub(cumulativeSum(p, 1), p)
      const stays = tf.cast(tf.less(before, topP), 'float32') as Tensor
      const rank = inverse(mul(p, stays))
      return tf.reshape(tf.gather(order, tf.reshape(rank, [M, 1]), 1, 1), [M]) as Tensor
    }
    function inverse(p: Tensor): Tensor {
      const cdf = cumulativeSum(p, 1)
      const width = cdf.shape[1] ?? 1
      const total = slice(cdf, [0, width - 1], [M, 1])
      const u = floats(
        Float32Array.from(draws, (u) => Math.min(u, LARGEST_BELOW_ONE)),
        [M, 1],
      )
      return countUpTo(cdf, mul(u, total))
    }
  })
  const chosen = { tokens: readInts(tokens).slice(), logprobs: read(loss).map((x) => -x) }
  tf.dispose([tokens, loss])
  return chosen
}
