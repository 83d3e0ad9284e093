import { LibraError } from '../errors.ts'
import { AXES } from '../schemas/feedback.ts'
import type { Axis } from '../schemas/feedback.ts'
import type { ScoreRow, Store } from '../store/store.ts'
import { movedSince, versionOf } from './scorers.ts'
import type { Services } from './services.ts'

/** A stored score with the conversation that it is of. */
export type StoredScore = Omit<ScoreRow, 'messages'> & {
  /** of the model's files */
  version: string
  messages: NonNullable<ScoreRow['messages']>
}

/** The axis that a row's id names; undefined where it is the id of a score of all axes. */
const axisOf = (id: string): Axis | undefined => AXES.find((axis) => id.endsWith(`_${axis}`))

/** The id of the score that an id is of: its own, or that of one of its rows. */
export function scoreOf(id: string): string {
  const axis = axisOf(id)
  return axis === undefined ? id : id.slice(0, -axis.length - 1)
}

/**
 * The rows of a score, one for each axis; `id_safety` names one of them. Throws `not_found`.
 */
export async function findScores(store: Store, id: string): Promise<StoredScore[]> {
  const [axis, score] = [axisOf(id), scoreOf(id)]
  const found = await Promise.all(AXES.map((a) => store.scores.get(`${score}_${a}`)))
  const rows = found.flatMap((row) => row ?? [])
  const messages = rows.flatMap((row) => row.messages ?? [])
  const wanted = rows.filter((row) => axis === undefined || row.axis === axis)
  if (wanted.length === 0) throw new LibraError('not_found', `no score ${id}`)
  return Promise.all(
    wanted.map(async (row) => ({
      ...row,
      version: await versionOf(store, row.modelVersion),
      // rows from before conversations were kept once have their own
      messages: row.messages ?? messages,
    })),
  )
}

export type Replayed = {
  axis: string
  logit: number
  replayed: number
  difference: number
  scorer: string
  /** the version that its files have now */
  scorer_now: string
  /** what is otherwise than when the score was given: files by name, TensorFlow, device, processor, Libra and its code */
  moved: string[]
  /** the same place in a pass of the same size: the same machine and build give the same bits */
  same_place: boolean
}

/**
 * Gives a score again, by the model that gave it and, where that was kept, at the same place of a pass of the same
 * shape. Throws `not_found`, or what the engine says where the model's files are gone.
 */
export async function replayScore(
  { serving, store }: Pick<Services, 'serving' | 'store'>,
  id: string,
): Promise<Replayed[]> {
  const wanted = await findScores(store, id)
  // models that shared a pass share it again
  const rows = await findScores(store, scoreOf(id))
  const team = rows.toSorted((a, b) => (a.placed?.model ?? 0) - (b.placed?.model ?? 0))
  const together = team.every(({ placed }) => placed?.models === team.length)
  const replay = async (part: StoredScore[]): Promise<Replayed[]> => {
    const [{ placed, messages } = { placed: null, messages: [] }] = part
    const models = await Promise.all(part.map((row) => filesThen(store, row)))
    const again = await serving.scoreAll({
      ...{ models, conversations: [messages], onTooLong: 'truncate' },
      ...(placed === null || placed.models !== part.length ? {} : { placed }),
    })
    return Promise.all(
      part.map(async (row, i) => {
        const replayed = again[i]?.scores[0]?.logit ?? NaN
        const scorer = await store.scorers.get(row.modelVersion)
        const now = await serving.describe(models[i] ?? { base: '', adapters: [] })
        return {
          ...{ axis: row.axis, logit: row.logit, replayed, difference: replayed - row.logit },
          ...{ scorer: row.version, scorer_now: now.version },
          moved: scorer === null ? [] : await movedSince(serving, scorer, now),
          same_place: placed !== null && placed.models === part.length,
        }
      }),
    )
  }
  const all = together
    ? await replay(team)
    : (await Promise.all(team.map((r) => replay([r])))).flat()
  return all.filter(({ axis }) => wanted.some((row) => row.axis === axis))
}

/** Where the model lay when it gave the score; for rows from before that was kept: where it lies now. */
async function filesThen(store: Store, { modelVersion, model }: StoredScore) {
  const source = (await store.scorers.get(modelVersion)) ?? (await store.models.get(model))
  if (source === null)
    throw new LibraError('model_not_found', `the model ${model} that gave this score is gone`)
  return { base: source.base, adapters: source.adapters }
}
