import { createHash } from 'node:crypto'
import type { PreferenceRow } from '../schemas/feedback.ts'

/**
 * Preference models that only count. A reward model which does not beat them on the same pairs has learned nothing
 * that counting would not give.
 */
export type Baseline = (pair: Pick<PreferenceRow, 'chosen' | 'rejected'>) => number

/** 1 where the longer answer is the chosen one, ½ where both are as long. */
export const longerWins: Baseline = ({ chosen, rejected }) =>
  won([...chosen].length - [...rejected].length)

export const won = (difference: number): number => (difference > 0 ? 1 : difference === 0 ? 0.5 : 0)

const BUCKETS = 2 ** 16
const EPOCHS = 12
const RATE = 0.5
const DECAY = 1e-4

/** Words and pairs of neighbouring words, hashed into buckets; counts are damped by a square root. */
function features(text: string): Map<number, number> {
  const words = text.toLowerCase().match(/\p{Script=Han}|[\p{L}\p{N}']+/gu) ?? []
  const counts = new Map<number, number>()
  const add = (token: string): void => {
    const bucket = createHash('md5').update(token).digest().readUInt32LE(0) % BUCKETS
    counts.set(bucket, (counts.get(bucket) ?? 0) + 1)
  }
  words.forEach((word, i) => {
    add(word)
    if (i > 0) add(`${words[i - 1] ?? ''} ${word}`)
  })
  for (const [bucket, n] of counts) counts.set(bucket, Math.sqrt(n))
  return counts
}

/**
 * Bradley–Terry on hashed words (and log-length): logistic regression of chosen − rejected by AdaGrad.
 * Returns 1, ½ or 0 for a pair.
 */
export function fitHashedWords(pairs: readonly PreferenceRow[], withLength: boolean): Baseline {
  const weights = new Float64Array(BUCKETS + 1)
  const squares = new Float64Array(BUCKETS + 1).fill(1e-8)
  const difference = ({ chosen, rejected }: Parameters<Baseline>[0]): Map<number, number> => {
    const delta = features(chosen)
    for (const [bucket, n] of features(rejected)) delta.set(bucket, (delta.get(bucket) ?? 0) - n)
    if (withLength)
      delta.set(BUCKETS, Math.log([...chosen].length + 1) - Math.log([...rejected].length + 1))
    return delta
  }
  const value = (delta: ReadonlyMap<number, number>): number => {
    let sum = 0
    for (const [bucket, x] of delta) sum += x * (weights[bucket] ?? 0)
    return sum
  }
  const deltas = pairs.map(difference)
  for (let epoch = 0; epoch < EPOCHS; epoch++)
    for (const delta of deltas) {
      const slope = -1 / (1 + Math.exp(value(delta)))
      for (const [bucket, x] of delta) {
        const g = slope * x + DECAY * (weights[bucket] ?? 0)
        squares[bucket] = (squares[bucket] ?? 0) + g * g
        weights[bucket] = (weights[bucket] ?? 0) - (RATE * g) / Math.sqrt(squares[bucket] ?? 1)
      }
    }
  return (pair) => won(value(difference(pair)))
}
