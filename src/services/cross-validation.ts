import { createHash } from 'node:crypto'
import type { Engine, ModelFiles } from '../engine/engine.ts'
import { fitHashedWords, longerWins } from '../evaluation/baselines.ts'
import type { Baseline } from '../evaluation/baselines.ts'
import { pairReliability } from '../evaluation/pair-reliability.ts'
import type { HeldOutPair } from '../evaluation/pair-reliability.ts'
import type { PolicyFigure } from '../evaluation/policy-measures.ts'
import { accuracyFigures, crossFigures } from '../evaluation/reward-measures.ts'
import type { Rival } from '../evaluation/reward-measures.ts'
import { AXES } from '../schemas/feedback.ts'
import type { Axis, PreferenceRow } from '../schemas/feedback.ts'
import { conversationOf } from '../text/conversation.ts'

export const FOLDS = [0, 1, 2, 3, 4]
/** The fold of a conversation: all pairs of one first user turn lie in one fold. */
export const foldOf = (pair: PreferenceRow): number =>
  createHash('sha256').update(conversationOf(pair)).digest().readUInt32LE(0) % FOLDS.length

export type PairsByAxis = Record<Axis, readonly PreferenceRow[]>
/** By the axis of the reward model: pairs of both axes, each scored by the model of the fold that it lies in. */
export type HeldOut = Record<Axis, HeldOutPair[]>
/** Logits of both answers of the held pairs by a reward model of one axis that was trained on the others. */
export type TrainAndScore = (
  axis: Axis,
  fold: number,
  training: readonly PreferenceRow[],
  held: readonly PreferenceRow[],
) => Promise<BothLogits>
export type BothLogits = { chosen: number[]; rejected: number[] }

/** The pairs of a fold, of both axes, and by axis what the models that score them learn from. */
export function splitOf(
  pairs: PairsByAxis,
  fold: number,
): { held: PreferenceRow[]; training: Record<Axis, PreferenceRow[]> } {
  const apart = (axis: Axis): PreferenceRow[] => pairs[axis].filter((p) => foldOf(p) !== fold)
  return {
    held: AXES.flatMap((axis) => pairs[axis].filter((pair) => foldOf(pair) === fold)),
    training: { helpfulness: apart('helpfulness'), safety: apart('safety') },
  }
}

/** Scores every pair by reward models that were trained on the other folds, fold by fold. */
export async function scoreHeldOut(
  pairs: PairsByAxis,
  folds: readonly number[],
  trainAndScore: TrainAndScore,
  progress: (done: number, total: number) => void = () => {},
): Promise<HeldOut> {
  const out: HeldOut = { helpfulness: [], safety: [] }
  for (const [done, fold] of folds.entries()) {
    const { held, training } = splitOf(pairs, fold)
    for (const axis of AXES) {
      const { chosen, rejected } = await trainAndScore(axis, fold, training[axis], held)
      held.forEach((pair, i) =>
        out[axis].push({
          ...{ pair, fold, cluster: conversationOf(pair) },
          ...{ chosen: chosen[i] ?? NaN, rejected: rejected[i] ?? NaN },
        }),
      )
      progress(AXES.length * done + AXES.indexOf(axis) + 1, AXES.length * folds.length)
    }
  }
  return out
}

/** Both answers of pairs by several models, the end of what is too long: the models share the passes that they can. */
export async function scoreBoth(
  engine: Pick<Engine, 'scoreAll'>,
  models: readonly ModelFiles[],
  pairs: readonly PreferenceRow[],
): Promise<BothLogits[]> {
  // both answers to a prompt in one call: what they share is read once
  const conversations = pairs.flatMap(({ prompt, chosen, rejected }) =>
    [chosen, rejected].map((content) => [...prompt, { role: 'assistant' as const, content }]),
  )
  const all = await engine.scoreAll({ models, conversations, onTooLong: 'truncate' })
  return all.map(({ scores }) => ({
    chosen: pairs.map((_, i) => scores[2 * i]?.logit ?? NaN),
    rejected: pairs.map((_, i) => scores[2 * i + 1]?.logit ?? NaN),
  }))
}

const RIVALS: readonly { name: string; fit: (training: readonly PreferenceRow[]) => Baseline }[] = [
  { name: 'the longer answer wins', fit: () => longerWins },
  { name: 'hashed words', fit: (training) => fitHashedWords(training, false) },
  { name: 'hashed words and length', fit: (training) => fitHashedWords(training, true) },
]

/** What counting makes of pairs: trained on a file, else on the other conversations of the same one, fold by fold. */
export async function countingRivals(
  pairs: readonly PreferenceRow[],
  all: readonly PreferenceRow[],
  training: readonly PreferenceRow[] | null,
  progress: (done: number, total: number) => Promise<void> | void = () => {},
): Promise<Rival[]> {
  const folds = training === null ? [...new Set(pairs.map(foldOf))] : [null]
  const rivals = RIVALS.map(({ name }) => ({ name, right: new Array<number>(pairs.length) }))
  for (const [done, fold] of folds.entries()) {
    const known = training ?? all.filter((pair) => foldOf(pair) !== fold)
    for (const [k, { fit }] of RIVALS.entries()) {
      await new Promise(setImmediate) // fitting takes seconds on thousands of pairs; requests go between
      const wins = fit(known)
      pairs.forEach((pair, i) => {
        const rival = rivals[k]
        if (rival !== undefined && (fold === null || foldOf(pair) === fold))
          rival.right[i] = wins(pair)
      })
    }
    await progress(done + 1, folds.length)
  }
  return rivals
}

/** What counting makes of the pairs of one axis, with the same folds as its reward models. */
export const heldOutRivals = (axis: Axis, pairs: PairsByAxis): Promise<Rival[]> =>
  countingRivals(inFolds(pairs[axis]), pairs[axis], null)

/** Pairs in the order in which they are held out. */
const inFolds = (pairs: readonly PreferenceRow[]): PreferenceRow[] =>
  FOLDS.flatMap((fold) => pairs.filter((pair) => foldOf(pair) === fold))

/** Sources of one axis that are also looked at together. */
export type Together = { name: string; sources: readonly string[] }

/**
 * What a reward model of an axis is worth on pairs that were held out in all folds: accuracy beside the counting
 * baselines, over all of its own domain and by source; calibration of P(the first is better); and on the other domain's
 * pairs, where a drop below one half shows that the two aims conflict.
 */
export function heldOutFigures(
  axis: Axis,
  rows: readonly HeldOutPair[],
  rivals: readonly Rival[],
  seed: number,
  together: readonly Together[] = [],
): PolicyFigure[] {
  const own = rows.filter(({ pair }) => pair.axis === axis)
  const sources = [...new Set(own.map(({ pair }) => pair.source ?? ''))]
  const groups = [...together, ...sources.map((name) => ({ name, sources: [name] }))]
  const bySource = groups.flatMap(({ name, sources }) => {
    const here = own.flatMap(({ pair }, i) => (sources.includes(pair.source ?? '') ? [i] : []))
    if (here.length === 0 || here.length === own.length) return []
    const figures = accuracyFigures(
      here.flatMap((i) => own[i] ?? []),
      rivals.map(({ name, right }) => ({ name, right: here.map((i) => right[i] ?? NaN) })),
      seed,
      false,
    )
    return figures.map((each) => ({ ...each, figure: `${name}: ${each.figure}` }))
  })
  const { calibration_error, slope, skill } = pairReliability(own, seed)
  const other = AXES.find((each) => each !== axis) ?? axis
  return [
    ...accuracyFigures(own, rivals, seed),
    ...bySource,
    { figure: 'calibration error of P(better)', ...calibration_error },
    { figure: 'calibration slope of P(better)', ...slope },
    { figure: 'skill of P(better) over a constant', ...skill },
    ...crossFigures(
      `${axis} model on ${other} pairs`,
      rows.filter(({ pair }) => pair.axis === other),
      seed,
    ),
  ]
}
