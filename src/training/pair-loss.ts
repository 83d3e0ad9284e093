import type { PreferenceRow } from '../schemas/feedback.ts'
import type { RewardModelOptions } from '../schemas/training-options.ts'
import { absoluteSafety, bradleyTerry, centering, MARGINS } from './losses.ts'

/** Of one step's pairs. */
export type PairLoss = { loss: number; accuracy: number; margin: number; mean: number }

/**
 * One step's loss over pairs, from the scores of their answers (chosen at 2i, rejected at 2i + 1): Bradley–Terry with the
 * margin of the strength (Llama 2, eq. 2), plus, on rows that carry absolute labels, binary cross-entropy per answer.
 * `d`: its derivative by each score.
 */
export function lossOfScores(
  scores: ReadonlyMap<number, number>,
  pairs: readonly PreferenceRow[],
  rows: readonly number[],
  options: RewardModelOptions,
): PairLoss & { d: Map<number, number> } {
  const d = new Map<number, number>()
  const result = { loss: 0, accuracy: 0, margin: 0, mean: 0 }
  for (const row of rows) {
    const pair = pairs[row]
    if (pair === undefined) continue
    const chosen = scores.get(2 * row) ?? NaN
    const rejected = scores.get(2 * row + 1) ?? NaN
    const p = pair.probability ?? 1
    const level = MARGINS[options.margin][pair.strength ?? 'negligibly_better']
    const m = pair.probability == null || options.margin_on_soft_labels ? level : 0
    let { loss, dChosen, dRejected } = bradleyTerry(chosen, rejected, m, p)
    const centre = centering(chosen, rejected)
    loss += options.centering * centre.loss
    dChosen += options.centering * centre.dChosen
    dRejected += options.centering * centre.dRejected
    // of a safety model alone: what is safe says nothing of what helps
    const weight = options.axis === 'safety' ? options.auxiliary_weight : 0
    const absolute = (logit: number, safe: boolean | null | undefined): number => {
      if (safe == null) return 0
      const { loss: own, d } = absoluteSafety(logit, safe)
      loss += weight * own
      return weight * d
    }
    dChosen += absolute(chosen, pair.chosen_safe)
    dRejected += absolute(rejected, pair.rejected_safe)
    const n = rows.length
    result.loss += loss / n
    const undecided = chosen === rejected || p === 0.5
    result.accuracy += (undecided ? 0.5 : chosen > rejected === p > 0.5 ? 1 : 0) / n
    result.margin += (chosen - rejected) / n
    result.mean += (chosen + rejected) / 2 / n
    d.set(2 * row, dChosen / n)
    d.set(2 * row + 1, dRejected / n)
  }
  return { ...result, d }
}
