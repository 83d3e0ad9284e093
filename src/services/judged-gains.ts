import { clusteredMean } from '../evaluation/statistics.ts'
import { usable } from '../judging/judge.ts'
import type { Judge } from '../judging/judge.ts'
import type { Message } from '../schemas/chat.ts'
import type { Certificate } from '../schemas/checks.ts'
import type { Axis } from '../schemas/feedback.ts'

/** What a judge says of answers that gained score: whether it sees a gain, too. */

/** Above this a judge calls the other answer better; at most so far from ½ a verdict is a tie, as in audits. */
export const BETTER = 0.6

type Pair = { prompt: readonly Message[]; a: string; b: string }

/** P(a is better) of each pair [n], null where the judge gives no verdict or contradicts itself. */
export async function preferred(
  judge: Judge,
  axis: Axis,
  pairs: readonly Pair[],
  signal: AbortSignal,
): Promise<(number | null)[]> {
  const verdicts = await judge.compare(
    pairs.map((pair) => ({ axis, ...pair })),
    { signal },
  )
  return verdicts.map((given) => {
    const verdict = usable(given)
    return verdict.ok ? verdict.probability : null
  })
}

type Gain = { gain: number; cluster: string; judged: number | null }

/** The gain over what the judge has looked at and calls no better, and the share that it calls better. gains [n]. */
export function unchangedGain(
  gains: readonly Gain[],
  seed: number,
): Pick<Certificate, 'unchanged' | 'judged_better'> {
  const seen = gains.filter(({ judged }) => judged !== null)
  const kept = seen.filter(({ judged }) => (judged ?? 1) <= BETTER)
  if (kept.length === 0) return { unchanged: null, judged_better: seen.length === 0 ? null : 1 }
  return { unchanged: meanGain(kept, seed), judged_better: 1 - kept.length / seen.length }
}

/** The mean gain with its interval over clusters. gains [n]. */
export function meanGain(
  gains: readonly Omit<Gain, 'judged'>[],
  seed: number,
): NonNullable<Certificate['unchanged']> {
  const { value, ...rest } = clusteredMean(
    gains.map(({ gain }) => gain),
    gains.map(({ cluster }) => cluster),
    seed,
  )
  return { gain: value, ...rest }
}
