import { randomBytes } from 'node:crypto'
import { CODE_VERSION } from '../config.ts'
import { LibraError, serializeError } from '../errors.ts'
import type { TrainEvent } from '../schemas/training.ts'
import type { Run, Store } from '../store/store.ts'

export type RunContext = {
  id: string
  emit(event: { type: string } & Record<string, unknown>): Promise<void>
}
export type StartRun = {
  kind: Run['kind']
  config: Record<string, unknown>
  seed: number
  parent?: string | undefined
  dataHash?: string | undefined
  parentCheckpoint?: string | undefined
  output?: string | undefined
  device?: string | undefined
}

export const newId = (prefix: string): string =>
  `${prefix}_${Date.now().toString(36)}${randomBytes(6).toString('hex')}`

/**
 * Records a run around some work: durable before the work begins, every event appended, the end and its reason
 * written whatever happens. The work's result becomes the run's summary.
 */
export async function recordRun<T extends Record<string, unknown>>(
  store: Store,
  start: StartRun,
  work: (context: RunContext) => Promise<T>,
): Promise<T & { runId: string }> {
  const id = newId('run')
  const now = Date.now()
  await store.insertRun({
    id,
    kind: start.kind,
    state: 'running',
    parent: start.parent ?? null,
    config: start.config,
    seed: start.seed,
    dataHash: start.dataHash ?? null,
    parentCheckpoint: start.parentCheckpoint ?? null,
    output: start.output ?? null,
    device: start.device ?? null,
    codeVersion: CODE_VERSION,
    createdAt: now,
    startedAt: now,
  })
  let seq = 0
  const emit: RunContext['emit'] = ({ type, ...data }) =>
    store.appendEvents([{ run: id, seq: ++seq, at: Date.now(), type, data }])
  try {
    const result = await work({ id, emit })
    await store.updateRun(id, { state: 'succeeded', endedAt: Date.now(), summary: result })
    return { ...result, runId: id }
  } catch (error) {
    const { code, message } = serializeError(error)
    const state = error instanceof LibraError && error.code === 'cancelled' ? 'cancelled' : 'failed'
    await store.updateRun(id, { state, endedAt: Date.now(), error: { code, message } })
    throw error
  }
}

/** Runs one training run to its end, appending its events; `onEvent` sees them too. */
export async function consume(
  events: AsyncIterable<TrainEvent>,
  context: RunContext,
  onEvent: (event: TrainEvent) => void,
): Promise<Record<string, number>> {
  let summary: Record<string, number> = {}
  for await (const event of events) {
    await context.emit(event)
    onEvent(event)
    if (event.type === 'metrics') summary = event.metrics
  }
  return summary
}
