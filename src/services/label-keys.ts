import type { PreferenceRow } from '../schemas/feedback.ts'
import { fingerprint } from '../text/preference-formats.ts'
import { byPerson } from './data.ts'

/** Which labels are the same label: each is stored once, under its key. */

const comparedBy = ({ axis, prompt, chosen, rejected }: PreferenceRow): unknown[] => [
  ...[axis, prompt.map(({ role, content }) => [role, content]), chosen, rejected],
]

/** What makes a label the same label: what was compared, what was said, by whom and how it was asked. */
export const labelOf = (pair: PreferenceRow): string =>
  fingerprint([
    ...[...comparedBy(pair), pair.source ?? 'unknown', pair.annotator ?? null],
    ...[pair.judge_version ?? null, pair.prompt_version ?? null, pair.principle ?? null],
  ])

/** The same of the word of a person who gives a name, who is one and has one vote, by whatever source it comes. */
export const wordOf = (pair: PreferenceRow): string =>
  fingerprint(['person', ...comparedBy(pair), pair.annotator])

/** The same pair with the other answer as the better. */
export const turnedAround = (pair: PreferenceRow): PreferenceRow => ({
  ...pair,
  chosen: pair.rejected,
  rejected: pair.chosen,
})

/** The fingerprints of a word and of the same one with the other answer as the better: what a person's new word corrects. */
export const eitherWay = (pair: PreferenceRow, of: typeof wordOf): string[] => [
  // of equal answers both are one
  ...new Set([of(pair), of(turnedAround(pair))]),
]
/** Those under which a person's word may be stored; from before it was one whatever its source it has a label's. */
export const wordsOf = (pair: PreferenceRow): string[] => [
  ...eitherWay(pair, wordOf),
  ...eitherWay(pair, labelOf),
]

/** Whether a person who gives a name said so: such a label corrects what the same one said before. */
export const isNamed = (pair: PreferenceRow, run: string | null): boolean =>
  pair.annotator != null && byPerson({ annotatorKind: pair.annotator_kind ?? null, run })
