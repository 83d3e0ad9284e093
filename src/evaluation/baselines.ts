import { rightWayRound } from '../schemas/feedback.ts'
import type { PreferenceRow } from '../schemas/feedback.ts'
import { isTie, rightBy } from './pair-labels.ts'
import { dot, fitDifferences, sparse } from './logistic.ts'
import type { Sparse } from './logistic.ts'

/**
 * Preference models that only count. A reward model which does not beat them on the same pairs has learned nothing
 * that counting would not give. Each returns 1 where it prefers the answer that the label calls better, ½ where it
 * tells neither, else 0.
 */
export type Baseline = (pair: Pick<PreferenceRow, 'chosen' | 'rejected' | 'probability'>) => number

/** 1 where the longer answer is the better one, ½ where both are as long. */
export const longerWins: Baseline = (pair) =>
  rightBy(pair, won([...pair.chosen].length - [...pair.rejected].length))

export const won = (difference: number): number => (difference > 0 ? 1 : difference === 0 ? 0.5 : 0)

const BUCKETS = 2 ** 18
/** Of the weights of hashed words: from 10 to 300 the accuracy on human pairs moves by two points, best near 100. */
const RIDGE = 100

const wordsOf = (text: string): string[] =>
  text.toLowerCase().match(/\p{Script=Han}|[\p{L}\p{N}']+/gu) ?? []

/** FNV-1a. */
function bucketOf(token: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < token.length; i++)
    hash = Math.imul(hash ^ token.charCodeAt(i), 0x01000193) >>> 0
  return (hash ^ (hash >>> 18)) % BUCKETS
}

/** Words and pairs of neighbouring words, hashed into buckets; counts are damped by a square root. */
function hashedWords(words: readonly string[]): Map<number, number> {
  const counts = new Map<number, number>()
  const add = (token: string): void => {
    const bucket = bucketOf(token)
    counts.set(bucket, (counts.get(bucket) ?? 0) + 1)
  }
  words.forEach((word, i) => {
    add(word)
    if (i > 0) add(`${words[i - 1] ?? ''} ${word}`)
  })
  for (const [bucket, n] of counts) counts.set(bucket, Math.sqrt(n))
  return counts
}

/** a − b; places that cancel fall out. */
function difference(
  a: ReadonlyMap<number, number>,
  b: ReadonlyMap<number, number>,
): Map<number, number> {
  const delta = new Map(a)
  for (const [place, x] of b) {
    const left = (delta.get(place) ?? 0) - x
    if (left === 0) delta.delete(place)
    else delta.set(place, left)
  }
  return delta
}

/** Bradley–Terry on hashed words (and log-length), learned of pairs of which one answer is better. */
export function fitHashedWords(pairs: readonly PreferenceRow[], withLength: boolean): Baseline {
  const of = ({ chosen, rejected }: Parameters<Baseline>[0]): Sparse => {
    const delta = difference(hashedWords(wordsOf(chosen)), hashedWords(wordsOf(rejected)))
    if (withLength)
      delta.set(BUCKETS, Math.log([...chosen].length + 1) - Math.log([...rejected].length + 1))
    return sparse(delta)
  }
  const told = pairs.filter((pair) => !isTie(pair)).map(rightWayRound)
  const weights = fitDifferences(told.map(of), BUCKETS + 1, RIDGE)
  return (pair) => rightBy(pair, won(dot(weights, of(pair))))
}
