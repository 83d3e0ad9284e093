import { uniform } from '../random.ts'
import { isTie, labelOf } from './pair-labels.ts'
import { fitTemperature, sigmoid } from './calibration.ts'
import { reliabilityOf } from './reliability.ts'
import type { Forecast, Reliability } from './reliability.ts'
import type { ScoredPair } from './reward-measures.ts'

/** A pair, scored by a model that has not learned from its fold. */
export type HeldOutPair = ScoredPair & { fold: number }

/**
 * P(the first answer is better) = σ(Δ/T) of held-out pairs. T is fitted on the other folds' pairs, so that no forecast
 * knows its own outcome; which answer is called the first is drawn by the seed, as "the chosen one" would always be right.
 * A soft label comes true as often as it says, drawn by the seed; pairs of which neither answer is better are left out.
 */
export function pairForecasts(given: readonly HeldOutPair[], seed: number): Forecast[] {
  const rows = given.filter(({ pair }) => !isTie(pair))
  const delta = ({ chosen, rejected }: ScoredPair): number => chosen - rejected
  const temperatures = new Map<number, number>()
  for (const fold of new Set(rows.map((row) => row.fold))) {
    const others = rows.filter((row) => row.fold !== fold)
    const labels = others.map(({ pair }) => labelOf(pair))
    temperatures.set(fold, fitTemperature(others.map(delta), labels))
  }
  return rows.map((row, i) => {
    const chosenFirst = uniform(seed, 64, i) < 0.5
    const chosenWins = uniform(seed, 65, i) < labelOf(row.pair)
    const p = sigmoid(delta(row) / (temperatures.get(row.fold) ?? NaN))
    return {
      p: chosenFirst ? p : 1 - p,
      outcome: chosenWins === chosenFirst,
      cluster: row.cluster,
    }
  })
}

/** How far the probabilities of held-out pairs can be believed. */
export const pairReliability = (rows: readonly HeldOutPair[], seed: number): Reliability =>
  reliabilityOf(pairForecasts(rows, seed), seed)
