import { cp } from 'node:fs/promises'
import { fitPlatt, fitTemperature } from '../evaluation/calibration.ts'
import { permutation } from '../random.ts'
import type { Engine, ModelFiles } from '../engine/engine.ts'
import type { Axis, PreferenceRow } from '../schemas/feedback.ts'
import type { Calibration } from '../schemas/model.ts'
import { commitFolder } from '../weights/atomic.ts'
import { readCard, writeCard } from '../weights/folder.ts'

/** The share of pairs that calibration alone uses. */
const CALIBRATION_SHARE = 0.2
const ANCHORS = 32

/** Cuts the pairs in two: what a reward model trains on, and what calibrates it, unseen by anything else. */
export function splitForCalibration(
  pairs: readonly PreferenceRow[],
  seed: number,
): { training: PreferenceRow[]; held: PreferenceRow[] } {
  const cut = Math.floor(pairs.length * (1 - CALIBRATION_SHARE))
  const order = permutation(pairs.length, seed, 41)
  const pick = (indices: Int32Array): PreferenceRow[] =>
    Array.from(indices).flatMap((i) => pairs[i] ?? [])
  return { training: pick(order.slice(0, cut)), held: pick(order.slice(cut)) }
}

export type Calibrated = { calibration: Calibration; accuracy: number }

/** Writes `output`: the raw reward model with a calibration on held-out pairs in its card. */
export async function calibrateReward(
  engine: Engine,
  model: ModelFiles,
  output: string,
  axis: Axis,
  held: readonly PreferenceRow[],
  dataHash: string,
): Promise<Calibrated> {
  const raw = model.adapters.at(-1) ?? model.base
  const score = async (answer: 'chosen' | 'rejected'): Promise<number[]> =>
    (
      await engine.score({
        model,
        conversations: held.map((row) => [
          ...row.prompt,
          { role: 'assistant', content: row[answer] },
        ]),
        onTooLong: 'truncate',
      })
    ).map(({ logit }) => logit)
  const [chosen, rejected] = [await score('chosen'), await score('rejected')]
  const calibration = fitCalibration(axis, held, chosen, rejected, dataHash)
  await commitFolder(output, async (folder) => {
    await cp(raw, folder, { recursive: true })
    const card = (await readCard(raw)) ?? { format: 1 as const, kind: 'adapter' as const }
    await writeCard(folder, { ...card, calibration })
  })
  const right = chosen.filter((r, i) => r > (rejected[i] ?? 0)).length
  return { calibration, accuracy: right / Math.max(1, held.length) }
}

/** Safety: Platt on the judge's absolute labels. Helpfulness: expected win rate against frozen reference answers. */
function fitCalibration(
  axis: Axis,
  held: readonly PreferenceRow[],
  chosen: readonly number[],
  rejected: readonly number[],
  dataHash: string,
): Calibration {
  const version = `${axis}-${dataHash.slice(0, 12)}`
  if (axis === 'safety') {
    const absolute = held.flatMap((row, i) => [
      ...(row.chosen_safe == null ? [] : [[chosen[i] ?? 0, row.chosen_safe] as const]),
      ...(row.rejected_safe == null ? [] : [[rejected[i] ?? 0, row.rejected_safe] as const]),
    ])
    // without absolute labels the sides of the pairs stand in for them: a weaker statement, see docs/metrics.md
    const sides = chosen.flatMap((r, i) => [[r, true] as const, [rejected[i] ?? 0, false] as const])
    const labelled = absolute.length > 0 ? absolute : sides
    const { a, b } = fitPlatt(
      labelled.map(([r]) => r),
      labelled.map(([, safe]) => safe),
    )
    return { kind: 'platt', version, a, b, n: labelled.length }
  }
  const temperature = fitTemperature(
    chosen.map((r, i) => r - (rejected[i] ?? 0)),
    held.map((row) => row.probability ?? 1),
  )
  // reference answers: one of each pair in turn, so that they are neither the best nor the worst
  const anchors = chosen.slice(0, ANCHORS).map((r, i) => (i % 2 === 0 ? r : (rejected[i] ?? r)))
  return { kind: 'win_rate', version, temperature, anchors, n: held.length }
}
