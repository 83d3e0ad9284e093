import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Grade } from '../rlaif/follow.ts'
import { iterationOf } from '../rlaif/parts.ts'
import type { Parts } from '../rlaif/parts.ts'
import type { RunRequest } from '../schemas/run.ts'
import type { Store } from '../store/store.ts'
import { trainExactly } from './exact.ts'
import type { Lend } from './engines.ts'
import { metricsOf } from './run-records.ts'
import { recordPart } from './runs.ts'
import type { RunContext } from './runs.ts'
import type { Services } from './services.ts'

/** Where a loop was branched off: it has all parts of another up to the end of one of its iterations. */
export type Branch = NonNullable<Extract<RunRequest, { kind: 'rlaif' }>['branch']>

/** An event of a loop's log that keeps the result of a short part. */
const NOTE = 'part'

type Result = Record<string, unknown>

/** The results of all parts that a loop has done itself, by name. */
async function ownResults(store: Store, loop: string): Promise<Map<string, Result>> {
  const runs = (await store.partsOf(loop)).flatMap(({ part, state, summary }) =>
    part !== null && state === 'succeeded' && summary !== null ? [[part, summary] as const] : [],
  )
  const notes = (await store.events(loop, 0))
    .filter(({ type }) => type === NOTE)
    .map(({ data }) => [String(data['part']), data['result'] as Result] as const)
  return new Map([...runs, ...notes])
}

/** With those of the loop that it is a branch of, as far as the iteration at which it left that. */
async function allResults(
  store: Store,
  loop: string,
  branch: Branch | null,
): Promise<Map<string, Result>> {
  const own = await ownResults(store, loop)
  if (branch === null) return own
  const above = ((await store.runs.get(branch.run))?.config['branch'] as Branch | undefined) ?? null
  const inherited = await allResults(store, branch.run, above)
  return new Map([
    ...[...inherited].filter(([name]) => iterationOf(name) <= branch.iteration),
    ...own,
  ])
}

/** The names of all parts that a loop has done itself. */
export const partsDone = async (store: Store, loop: string): Promise<string[]> => [
  ...(await ownResults(store, loop)).keys(),
]

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
export async function recordedParts(
  services: Services,
  context: RunContext,
  {
    seed,
    lend,
    grade,
    branch = null,
  }: { seed: number; lend: Lend; grade?: Grade | undefined; branch?: Branch | null },
): Promise<Parts> {
  const { store } = services
  // what is done from now on is not asked for again
  const before = await allResults(store, context.id, branch)
  return {
    async run(name, about, work) {
      const done = before.get(name)
      if (done !== undefined) return done as Awaited<ReturnType<typeof work>>
      const start = { ...about, seed, parent: context.id, part: name }
      return recordPart(
        store,
        start,
        (part) =>
          work({
            emit: part.emit,
            async train(spec, onStep) {
              await mkdir(dirname(spec.output), { recursive: true })
              const { checkpoint_every: every } = spec.options
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
      const done = before.get(name)
      if (done !== undefined) return done as Awaited<ReturnType<typeof work>>
      const result = await work()
      await context.emit({ type: NOTE, part: name, result })
      return result
    },
  }
}
