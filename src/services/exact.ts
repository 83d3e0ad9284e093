import { existsSync } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { LibraError } from '../errors.ts'
import { follow } from '../rlaif/follow.ts'
import type { Emit } from '../rlaif/follow.ts'
import type { TrainEvent, TrainSpec } from '../schemas/training.ts'
import type { RunEvent } from '../store/store.ts'
import type { Lend } from './engines.ts'
import { metricsOf } from './run-records.ts'
import type { RunContext } from './runs.ts'
import { withTraining } from './services.ts'
import type { Services } from './services.ts'

/**
 * Training that a kill does not spoil: the log of the run and the checkpoints in its folder say together how far it
 * was. What the log holds beyond the checkpoint is taken off before the run goes on, so that log and weights are in the
 * end those of a run that was never interrupted.
 */

/** How often the training engine may be lost at the same step. */
const MOST_LOSSES = 3

const isMetrics = ({ type }: RunEvent): boolean => type === 'metrics'
const stepOf = ({ data }: RunEvent): number => Number(data['step'] ?? 0)

/** Whether a run has begun to train. What was checked before holds then. */
export const hasBegun = async ({ store }: Services, { id }: RunContext): Promise<boolean> =>
  (await store.events(id, 0)).some(({ type }) => type === 'started')

/** Where the log is cut for a run that goes on behind a step: after its metrics; at 0 before all of the training. */
function cutAt(log: readonly RunEvent[], step: number): number {
  const [last] = log.filter((event) => isMetrics(event) && stepOf(event) === step).slice(-1)
  if (step > 0 && last !== undefined) return last.seq
  const begun = log.find(({ type }) => type === 'started')
  return (begun?.seq ?? Infinity) - 1
}

/** A run's training events; the first of them takes off the log what will come again. */
async function* rewound(
  { store }: Services,
  context: RunContext,
  events: AsyncIterable<TrainEvent>,
): AsyncGenerator<TrainEvent> {
  for await (const event of events) {
    if (event.type !== 'started' && event.type !== 'resumed') {
      yield event
      continue
    }
    const log = await store.events(context.id, 0)
    const begun = log.some(({ type }) => type === 'started')
    if (event.type === 'resumed') await context.rewind(cutAt(log, event.step), event)
    else if (begun)
      await context.rewind(cutAt(log, 0), { ...event, type: 'resumed', step: 0, done: 0 })
    yield event
  }
}

/** What a process that is no more had begun to write: another training of a loop may be writing there now. */
export async function removePartial(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const [, writer] = /^\..*\.(\d+)\.partial$/.exec(name) ?? []
    if (writer !== undefined && !isRunning(Number(writer)))
      await rm(join(folder, name), { recursive: true, force: true })
  }
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM' // somebody else's
  }
}

type Exactly = Parameters<typeof follow>[2] & {
  /** where checkpoints lie; default: in the run's folder */
  folder?: string
  lend?: Lend
}

/**
 * Trains in a run's folder, going on from its last checkpoint where there is one; a lost training engine is started
 * again. Gives the metrics of the last step. Throws what the engine throws.
 */
export async function trainExactly(
  services: Services,
  context: RunContext,
  spec: TrainSpec,
  every: number,
  { folder: own, lend = (work) => withTraining(services, work), ...how }: Exactly = {},
): Promise<Record<string, number>> {
  const { store, dataDir } = services
  const folder = own ?? join(dataDir, 'runs', context.id, 'checkpoints')
  await removePartial(dirname(spec.output))
  let [before, losses] = [-1, 0]
  for (;;) {
    const log = await store.events(context.id, 0)
    if (log.some(({ type }) => type === 'done')) break
    // weights that the log does not know of
    if (existsSync(spec.output)) await rm(spec.output, { recursive: true })
    const recorded = Math.max(0, ...log.filter(isMetrics).map(stepOf))
    losses = recorded === before ? losses : 0
    before = recorded
    try {
      const planned = { ...spec, checkpoints: { folder, every, recorded } }
      // where it goes on was written when the log was cut
      const emit: Emit = (event) =>
        event.type === 'resumed' ? Promise.resolve() : context.emit(event)
      await lend((engine) =>
        follow(rewound(services, context, engine.train(planned, context.signal)), emit, how),
      )
      break
    } catch (error) {
      const lost = error instanceof LibraError && error.code === 'engine_lost'
      if (!lost || context.signal.aborted || ++losses >= MOST_LOSSES) throw error
    }
  }
  await rm(folder, { recursive: true, force: true })
  const {
    step: _step,
    at: _at,
    ...metrics
  } = (await metricsOf(store, context.id)).at(-1) ?? {
    ...{ step: 0, at: 0 },
  }
  return metrics
}
