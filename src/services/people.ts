import type { z } from 'zod'
import { LibraError, WAITING } from '../errors.ts'
import type { AnsweredTwice } from '../rlaif/label.ts'
import type { LoopWorld } from '../rlaif/world.ts'
import { AXES } from '../schemas/feedback.ts'
import type { BlindQuery, BlindReply } from '../schemas/preferences.ts'
import { comparedIn, fingerprint } from '../text/preference-formats.ts'
import { toPreferenceRow } from './data.ts'
import { agreementFigures } from './preferences.ts'
import { newId } from './runs.ts'
import type { RunContext } from './runs.ts'
import type { Services } from './services.ts'

/** People in place of the judge: pairs that a loop waits for, and what becomes of the labels that come. */

/** A loop that is resumed goes on without the rest when this share of its pairs is labelled. */
const ENOUGH = 0.5

const compared = ({ prompt, a, b }: AnsweredTwice): string =>
  comparedIn({ prompt, chosen: a, rejected: b })

/**
 * The labels of people on some pairs, both axes. Asks for them first, and throws `waiting_for_labels` until all are
 * there, or the loop is resumed with at least half of them.
 */
export const askPeople =
  ({ store }: Pick<Services, 'store'>, { id: run }: RunContext): NonNullable<LoopWorld['people']> =>
  async (iteration, texts) => {
    const part = `${iteration}/label`
    const before = await store.labelRequests.of(run, part)
    if (before.length === 0)
      await store.labelRequests.insert(
        AXES.flatMap((axis) =>
          texts.map((text) => ({
            ...{ id: newId('ask'), run, part, axis, ...text, compared: compared(text) },
            createdAt: Date.now(),
          })),
        ),
      )
    const asked = await store.labelRequests.of(run, part)
    const labelled = asked.flatMap(({ preference }) => preference ?? [])
    const enough = before.length > 0 && labelled.length >= ENOUGH * asked.length
    if (labelled.length < asked.length && !enough)
      throw new LibraError(
        WAITING,
        `${asked.length - labelled.length} of ${asked.length} pairs wait for people, who label them at /label`,
      )
    const rows = await Promise.all(labelled.map((id) => store.preferences.get(id)))
    return rows.flatMap((row) => (row === null ? [] : toPreferenceRow(row)))
  }

/** How the judge's labels stand to people's where both have labelled, for a loop's report. */
export const agreementInLoop =
  (seed: number): NonNullable<LoopWorld['agreement']> =>
  (people, judged) =>
    AXES.flatMap((axis) => {
      const byPair = new Map(
        judged.filter((row) => row.axis === axis).map((row) => [comparedIn(row), row]),
      )
      const doubly = people
        .filter((row) => row.axis === axis)
        .flatMap((person) => {
          const pair = byPair.get(comparedIn(person))
          return pair === undefined ? [] : [{ person, pair }]
        })
      return doubly.length === 0
        ? []
        : agreementFigures(axis, doubly, seed).map((figure) => ({
            ...figure,
            figure: `judge beside people, ${axis}: ${figure.figure}`,
          }))
    })

/**
 * A pair that an annotator has neither labelled nor skipped: first what a run waits for, then the oldest of those
 * stored. Its sides are by a hash of the answers and the annotator, so that neither the order nor the id tells which one
 * others chose.
 */
export async function nextBlind(
  { store }: Pick<Services, 'store'>,
  { axis, annotator, skip }: z.output<typeof BlindQuery>,
): Promise<z.input<typeof BlindReply>['data']> {
  const side = (prompt: unknown, answer: string): string => fingerprint([annotator, prompt, answer])
  const shown = ({ id, prompt, ...pair }: AnsweredTwice & { id: string }, waiting: number) => {
    const [a = '', b = ''] = [pair.a, pair.b].sort((x, y) =>
      side(prompt, x) < side(prompt, y) ? -1 : 1,
    )
    return { id, axis, prompt, a, b, waiting }
  }
  const { first, waiting } = await store.labelRequests.next(axis, skip)
  if (first !== null) return shown(first, waiting)
  const pairs = await store.pairsOf(axis)
  const done = new Set(pairs.filter((pair) => pair.annotator === annotator).map(comparedIn))
  const pair = pairs.find(
    (each) =>
      each.chosen !== each.rejected && // from before such a pair was refused
      !skip.includes(each.id) &&
      !done.has(comparedIn(each)),
  )
  return pair === undefined ? null : shown({ ...pair, a: pair.chosen, b: pair.rejected }, waiting)
}
