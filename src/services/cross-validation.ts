import { createHash } from 'node:crypto'
import { fitHashedWords, longerWins, won } from '../evaluation/baselines.ts'
import type { Baseline } from '../evaluation/baselines.ts'
import { clusteredMean, pairedDifference } from '../evaluation/statistics.ts'
import type { Interval } from '../evaluation/statistics.ts'
import { AXES } from '../schemas/feedback.ts'
import type { Axis, PreferenceRow } from '../schemas/feedback.ts'

export type CrossFigure = { figure: string; axis: Axis; tranche: string } & Interval
/** Scores of both answers of each pair by a reward model trained on some of them. */
export type TrainAndScore = (
  axis: Axis,
  fold: number,
  training: readonly PreferenceRow[],
  held: readonly PreferenceRow[],
) => Promise<{ chosen: number[]; rejected: number[] }>

const FOLDS = 5
export const conversationOf = (pair: PreferenceRow): string => pair.prompt[0]?.content ?? ''
/** The fold of a conversation: all pairs of one first user turn lie in one fold. */
export const foldOf = (pair: PreferenceRow): number =>
  createHash('sha256').update(conversationOf(pair)).digest().readUInt32LE(0) % FOLDS

type Outcome = { pair: PreferenceRow; judge: string; right: number; own: boolean }

/**
 * Accuracy of reward models and of counting baselines on the same held-out folds: in their own domain by tranche,
 * and on the other domain's pairs, where a drop below one half shows that the two aims conflict.
 */
export async function crossValidate(
  pairs: Record<Axis, readonly PreferenceRow[]>,
  trainAndScore: TrainAndScore,
  seed: number,
  progress: (done: number, total: number) => void,
): Promise<CrossFigure[]> {
  const outcomes: Outcome[] = []
  for (let fold = 0; fold < FOLDS; fold++)
    for (const axis of AXES) {
      const training = pairs[axis].filter((pair) => foldOf(pair) !== fold)
      const held = AXES.flatMap((a) => pairs[a].filter((pair) => foldOf(pair) === fold))
      const { chosen, rejected } = await trainAndScore(axis, fold, training, held)
      const baselines: [string, Baseline][] = [
        ['longer wins', longerWins],
        ['hashed words', fitHashedWords(training, false)],
        ['hashed words and length', fitHashedWords(training, true)],
      ]
      held.forEach((pair, i) => {
        const own = pair.axis === axis
        const right = won((chosen[i] ?? NaN) - (rejected[i] ?? NaN))
        outcomes.push({ pair, judge: 'reward model', right, own })
        if (own)
          for (const [judge, wins] of baselines)
            outcomes.push({ pair, judge, right: wins(pair), own })
      })
      progress(2 * fold + AXES.indexOf(axis) + 1, 2 * FOLDS)
    }
  return AXES.flatMap((axis) => figuresOf(axis, outcomes, seed))
}

function figuresOf(axis: Axis, outcomes: readonly Outcome[], seed: number): CrossFigure[] {
  const mine = outcomes.filter(({ pair }) => pair.axis === axis)
  const tranches = ['all', ...new Set(mine.map(({ pair }) => pair.source ?? ''))]
  return tranches.flatMap((tranche) => {
    const rows = mine.filter(({ pair }) => tranche === 'all' || pair.source === tranche)
    const mean = (figure: string, list: readonly Outcome[]): CrossFigure[] =>
      list.length === 0
        ? []
        : [
            {
              ...{ figure, axis, tranche },
              ...clusteredMean(
                list.map(({ right }) => right),
                list.map(({ pair }) => conversationOf(pair)),
                seed,
              ),
            },
          ]
    const own = rows.filter((row) => row.own)
    const by = (judge: string): Outcome[] => own.filter((row) => row.judge === judge)
    const model = by('reward model')
    const words = by('hashed words and length')
    const difference = pairedDifference(
      words.map(({ right }) => right),
      model.map(({ right }) => right),
      model.map(({ pair }) => conversationOf(pair)),
      seed,
    )
    return [
      ...[...new Set(own.map(({ judge }) => judge))].flatMap((judge) => mean(judge, by(judge))),
      { figure: 'reward model − hashed words and length', axis, tranche, ...difference },
      ...mean(
        'the other domain’s reward model',
        rows.filter((row) => !row.own),
      ),
    ]
  })
}
