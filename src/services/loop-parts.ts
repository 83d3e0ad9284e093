import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Grade } from '../rlaif/follow.ts'
import { iterationOf } from '../rlaif/parts.ts'
import type { Parts } from '../rlaif/parts.ts'
import type { RunRequest } from '../schemas/run.ts'
import type { Store } from '../store/store.ts'
import { trainExactly } from './exact.ts'
import type { Lend } from './exact.ts'
import { metricsOf } from './run-records.ts'
import { recordPart } from './runs.ts'
import type { RunContext } from './runs.ts'
import type { Services } from './services.ts'

/** Where a loop was branched off: it has all parts of another up to the end of one of its iterations. */
export type Branch = NonNullable<Extract<RunRequest, { kind: 'rlaif' }>['branch']>

/** An event of a loop's log that keeps the result of a short part. */
const NOTE = 'part'

type Result = Record<string, unknown>

/** The result of a part that was done, in this loop or in one that it is a branch of; null: it was not. */
async function resultOf(
  store: Store,
  loop: string,
  branch: Branch | null,
  name: string,
): Promise<Result | null> {
  const run = await store.partOf(loop, name)
  if (run?.state === 'succeeded') return run.summary
  const noted = (await store.events(loop, 0)).findLast(
    ({ type, data }) => type === NOTE && data['part'] === name,
  )
  if (noted !== undefined) return noted.data['result'] as Result
  if (branch === null || iterationOf(name) > branch.iteration) return null
  return resultOf(store, branch.run, await branchOf(store, branch.run), name)
}

/** Of a loop that is a branch itself. */
const branchOf = async (store: Store, loop: string): Promise<Branch | null> =>
  ((await store.runs.get(loop))?.config['branch'] as Branch | undefined) ?? null

/** The names of all parts that a loop has done itself. */
export async function partsDone(store: Store, loop: string): Promise<string[]> {
  const runs = (await store.partsOf(loop)).filter(({ state }) => state === 'succeeded')
  const notes = (await store.events(loop, 0)).filter(({ type }) => type === NOTE)
  return [
    ...runs.flatMap(({ part }) => part ?? []),
    ...notes.map(({ data }) => String(data['part'])),
  ]
}

/** The last part of an iteration. */
export const evaluationOf = (iteration: number): string => `${iteration}/evaluate`

/** How many iterations a loop has come through, those before its branch included. */
export async function iterationsDone(
  store: Store,
  loop: string,
  branch: Branch | null,
): Promise<number> {
  const own = (await partsDone(store, loop)).filter(
    (name) => name === evaluationOf(iterationOf(name)),
  )
  return Math.max(branch?.iteration ?? 0, ...own.map(iterationOf))
}

/** Parts that are recorded: each a run under the loop's, or a note in its log. */
export function recordedParts(
  services: Services,
  context: RunContext,
  {
    seed,
    lend,
    grade,
    branch = null,
  }: { seed: number; lend: Lend; grade?: Grade | undefined; branch?: Branch | null },
): Parts {
  const { store } = services
  const before = (name: string): Promise<Result | null> => resultOf(store, context.id, branch, name)
  return {
    async run(name, about, work) {
      const done = await before(name)
      if (done !== null) return done as Awaited<ReturnType<typeof work>>
      const start = { ...about, seed, parent: context.id, part: name }
      return recordPart(
        store,
        start,
        (part) =>
          work({
            emit: part.emit,
            async train(spec, onStep) {
              await mkdir(dirname(spec.output), { recursive: true })
              const every = spec.kind === 'pretrain' ? Infinity : spec.options.checkpoint_every
              const folder = `${spec.output}-checkpoints`
              await trainExactly(services, part, spec, every, { folder, lend, grade, onStep })
              const rows = await metricsOf(store, part.id)
              return rows.map(({ step: _step, at: _at, ...metrics }) => metrics)
            },
          }),
        context.signal,
      )
    },
    async note(name, work) {
      const done = await before(name)
      if (done !== null) return done as Awaited<ReturnType<typeof work>>
      const result = await work()
      await context.emit({ type: NOTE, part: name, result })
      return result
    },
  }
}
