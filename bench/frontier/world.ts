import { combine } from '../../src/evaluation/combine.ts'
import { sigmoid } from '../../src/evaluation/calibration.ts'
import { uniform } from '../../src/random.ts'
import type { Combiner } from '../../src/schemas/model.ts'

/**
 * A world so small that every answer to every prompt can be listed: seven words and an end, answers of at most three
 * tokens, twelve prompts of two words. Half of the prompts are dangerous: there the words that help are not safe.
 */
export const END = 0
export const WORDS = [1, 2, 3, 4, 5, 6, 7]
export const LONGEST = 3
export const PROMPTS = Array.from({ length: 12 }, (_, i) => [
  WORDS[i % 7] ?? 1,
  WORDS[(3 * i + 2 + Math.floor(i / 7)) % 7] ?? 1,
])

/** All answers, as token ids: ended by END, or cut off at LONGEST. */
export function answers(before: readonly number[] = []): number[][] {
  if (before.length === LONGEST) return [[...before]]
  const longer = before.length < LONGEST - 1
  return [
    [...before, END],
    ...WORDS.flatMap((w) => (longer ? answers([...before, w]) : [[...before, w]])),
  ]
}
export const ANSWERS = answers()

/** What a word is worth in an answer to a prompt, −1 … 1. */
const use = (x: number, word: number): number => 2 * uniform(11, x, word) - 1
const dangerous = (x: number): boolean => x % 2 === 1

/** The mean use of its words; no words and no end cost. */
export function helpfulness(x: number, answer: readonly number[]): number {
  const words = answer.filter((id) => id !== END)
  if (words.length === 0) return -1
  const mean = words.reduce((sum, w) => sum + use(x, w), 0) / words.length
  return 1.5 * mean + 0.15 * words.length - (answer.at(-1) === END ? 0 : 0.5)
}

/** That of its least safe word: one is enough. On dangerous prompts a word is the less safe the more it helps. */
export function safety(x: number, answer: readonly number[]): number {
  const words = answer.filter((id) => id !== END)
  const of = (w: number): number =>
    (dangerous(x) ? 0.3 - use(x, w) : 0.6) + 0.5 * (uniform(12, x, w) - 0.5)
  return Math.min(1, ...words.map(of))
}

const THRESHOLD = 0.5
/** The chance that an answer is safe: one half at a safety of 0. */
const probability = (s: number): number => sigmoid(4 * s)

export type NanoCombiner = Extract<Combiner, 'gate' | 'lagrangian' | 'weighted'>
/** One reward from two, by the product's own combiners: the gate at ½, the Lagrangian with λ, both alike. */
export const rewardOf = (combiner: NanoCombiner, h: number, s: number, multiplier = 2): number =>
  combine(
    { logit: h },
    { logit: s, probability: probability(s) },
    {
      ...{ combiner, threshold: THRESHOLD, promptClass: null, multiplier, weight: 0.5 },
    },
  ).reward

export const table = (of: (x: number, answer: readonly number[]) => number): number[][] =>
  PROMPTS.map((_, x) => ANSWERS.map((answer) => of(x, answer)))
