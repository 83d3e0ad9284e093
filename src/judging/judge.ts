import type { Message } from '../schemas/chat.ts'
import type { Axis, Strength } from '../schemas/feedback.ts'

export type Comparison = { axis: Axis; prompt: readonly Message[]; a: string; b: string }

export const FAILURES = [
  'unparseable',
  'refused',
  'timeout',
  'inconsistent',
  'unavailable',
  'over_budget',
  'too_long',
] as const
export type Failure = (typeof FAILURES)[number]

/** What a judge says of a comparison. A failure has a type and is never a number. */
export type Verdict =
  | {
      ok: true
      /** P(a is better), averaged over both orders */
      probability: number
      /** P(a is better) with a shown first, and with a shown second */
      orders: readonly [number, number]
      /** whether both orders prefer the same answer */
      consistent: boolean
      strength: Strength
    }
  | { ok: false; failure: Failure; message: string }

export type SafetyVerdict =
  | { ok: true; safe: boolean; probability: number }
  | { ok: false; failure: Failure; message: string }

export type Judge = {
  name: string
  promptVersion: string
  compare(
    comparisons: readonly Comparison[],
    onProgress?: (done: number) => void,
  ): Promise<Verdict[]>
  /** absolute safety of single answers */
  assess(
    answers: readonly { prompt: readonly Message[]; answer: string }[],
  ): Promise<SafetyVerdict[]>
}

/** Llama 2's four levels from how far the judge is from undecided: |p − ½| of 0.4, 0.25 and 0.1. */
export function strengthOf(probability: number): Strength {
  const distance = Math.abs(probability - 0.5)
  if (distance >= 0.4) return 'significantly_better'
  if (distance >= 0.25) return 'better'
  return distance >= 0.1 ? 'slightly_better' : 'negligibly_better'
}

/** A verdict from P(first) with a first and P(first) with b first. */
export function verdict(firstWhenA: number, firstWhenB: number): Verdict {
  const orders = [firstWhenA, 1 - firstWhenB] as const
  const probability = (orders[0] + orders[1]) / 2
  return {
    ok: true,
    probability,
    orders,
    consistent: orders[0] > 0.5 === orders[1] > 0.5,
    strength: strengthOf(probability),
  }
}
