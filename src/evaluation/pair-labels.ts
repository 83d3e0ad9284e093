import type { PreferenceRow } from '../schemas/feedback.ts'

type Labelled = Pick<PreferenceRow, 'probability'>

/** P(chosen is better) as the label says it; 1 where it names no probability. */
export const labelOf = ({ probability }: Labelled): number => probability ?? 1

/** Closer to ½ than this a label is even: what is left is rounding. */
const ROUNDING = 1e-6
/** Neither answer is better: right and wrong mean nothing there. */
export const isTie = (pair: Labelled): boolean => Math.abs(labelOf(pair) - 0.5) < ROUNDING

/** Whether the answer that is called rejected is the better one. */
export const isTurned = (pair: Labelled): boolean => labelOf(pair) < 0.5

/** A share of right answers as the label sees it, from what would be right were the chosen one better. */
export const rightBy = (pair: Labelled, right: number): number =>
  isTurned(pair) ? 1 - right : right

/** Closer to ½ a label or verdict is undecided, as a judge's tie in audits. */
const DECIDED = 0.6
export const isDecided = (pair: Labelled): boolean =>
  Math.max(labelOf(pair), 1 - labelOf(pair)) >= DECIDED
