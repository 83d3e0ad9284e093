import { serializeError, WAITING } from '../errors.ts'
import type { PreferenceRow } from '../schemas/feedback.ts'
import { comparedIn } from '../text/preference-formats.ts'
import { byPerson } from './data.ts'
import type { Services } from './services.ts'
import { resumeRun } from './start.ts'

/**
 * Gives people's labels to the runs that wait for them; a run that waits for no more goes on. `ids` are those under
 * which the pairs were stored.
 */
export async function answerRequests(
  services: Services,
  pairs: readonly PreferenceRow[],
  ids: readonly string[],
): Promise<void> {
  const { store } = services
  const touched = new Set<string>()
  for (const [i, pair] of pairs.entries()) {
    const id = ids[i]
    if (id === undefined || !byPerson({ annotatorKind: pair.annotator_kind ?? null, run: null }))
      continue
    for (const run of await store.labelRequests.answer(pair.axis, comparedIn(pair), id))
      touched.add(run)
  }
  for (const run of touched) {
    const { state } = (await store.runs.get(run)) ?? {}
    if (state === WAITING && (await store.labelRequests.open(run)) === 0) await goOn(services, run)
  }
}

/** The label is stored whatever becomes of the run: what keeps the run from going on stands in its record. */
async function goOn(services: Services, run: string): Promise<void> {
  try {
    await resumeRun(services, run)
  } catch (error) {
    const { code, message } = serializeError(error)
    if (code === 'not_resumable') return // the last label came twice: another request was faster
    const failed = { state: 'failed' as const, endedAt: Date.now(), error: { code, message } }
    await services.store.moveRun(run, [WAITING], failed)
  }
}
