import { randomBytes } from 'node:crypto'
import PQueue from 'p-queue'
import { CODE_VERSION } from '../config.ts'
import { cancelled, LibraError, serializeError } from '../errors.ts'
import type { Emit } from '../rlaif/follow.ts'
import type { Run, Store } from '../store/store.ts'

export type RunContext = { id: string; emit: Emit; signal: AbortSignal }
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
type Work<T> = (context: RunContext) => Promise<T>

export const newId = (prefix: string): string =>
  `${prefix}_${Date.now().toString(36)}${randomBytes(6).toString('hex')}`

async function insert(store: Store, start: StartRun, state: 'queued' | 'running'): Promise<string> {
  const id = newId('run')
  const now = Date.now()
  const { kind, config, seed } = start
  const startedAt = state === 'running' ? now : null
  // a part of a run is on its device
  const above = start.parent === undefined ? null : await store.runs.get(start.parent)
  await store.runs.insert([
    {
      ...{ id, kind, state, config, seed, createdAt: now, startedAt, codeVersion: CODE_VERSION },
      parent: start.parent ?? null,
      dataHash: start.dataHash ?? null,
      parentCheckpoint: start.parentCheckpoint ?? null,
      output: start.output ?? null,
      device: start.device ?? above?.device ?? null,
    },
  ])
  return id
}

/** Does a run's work: every event appended, the end and its reason written whatever happens. */
async function perform<T extends Record<string, unknown>>(
  store: Store,
  id: string,
  work: Work<T>,
  signal: AbortSignal,
): Promise<T & { runId: string }> {
  let seq = 0
  const emit: Emit = ({ type, ...data }) =>
    store.appendEvents([{ run: id, seq: ++seq, at: Date.now(), type, data }])
  try {
    if (signal.aborted) throw cancelled()
    const result = await work({ id, emit, signal })
    if (signal.aborted) throw cancelled()
    await store.runs.update(id, { state: 'succeeded', endedAt: Date.now(), summary: result })
    return { ...result, runId: id }
  } catch (error) {
    const { code, message } = serializeError(error)
    const state = signal.aborted || code === 'cancelled' ? 'cancelled' : 'failed'
    await store.runs.update(id, { state, endedAt: Date.now(), error: { code, message } })
    throw error
  }
}

/** Records a run around work that begins at once. The work's result becomes the run's summary. */
export async function recordRun<T extends Record<string, unknown>>(
  store: Store,
  start: StartRun,
  work: Work<T>,
  signal: AbortSignal = new AbortController().signal,
): Promise<T & { runId: string }> {
  return perform(store, await insert(store, start, 'running'), work, signal)
}

export type Runner = {
  /** durable as `queued` before it returns; runs one after another */
  submit(start: StartRun, work: Work<Record<string, unknown>>): Promise<Run>
  /** throws `not_found`, or `already_ended` when there is nothing left to cancel */
  cancel(id: string): Promise<Run>
  /** cancels what runs and waits for it */
  close(): Promise<void>
}

/** The embedded queue: one run at a time, since each fills the machine. */
export async function createRunner(store: Store): Promise<Runner> {
  // what a process that is gone left behind can't be running
  for (const { id } of await store.unfinishedRuns())
    await store.runs.update(id, {
      state: 'failed',
      endedAt: Date.now(),
      error: {
        code: 'interrupted',
        message: 'the service ended before the run did; start it again',
      },
    })
  const queue = new PQueue({ concurrency: 1 })
  const running = new Map<string, AbortController>()
  const load = async (id: string): Promise<Run> => {
    const run = await store.runs.get(id)
    if (run === null) throw new LibraError('not_found', `no run ${id}`)
    return run
  }
  return {
    async submit(start, work) {
      const id = await insert(store, start, 'queued')
      void queue.add(async () => {
        const now = { state: 'running' as const, startedAt: Date.now() }
        if (!(await store.moveRun(id, ['queued'], now))) return // cancelled while it waited
        const controller = new AbortController()
        running.set(id, controller)
        try {
          await perform(store, id, work, controller.signal)
        } catch (error) {
          if (!(error instanceof LibraError)) console.error(error) // the run's row says the rest
        } finally {
          running.delete(id)
        }
      })
      return load(id)
    },
    async cancel(id) {
      const run = await load(id)
      const cancelled = { state: 'cancelled' as const, endedAt: Date.now() }
      if (await store.moveRun(id, ['queued'], cancelled)) return load(id)
      const controller = running.get(id)
      if (controller === undefined)
        throw new LibraError('already_ended', `run ${id} has ended: it ${run.state}`)
      controller.abort()
      return load(id)
    },
    async close() {
      queue.clear()
      for (const controller of running.values()) controller.abort()
      await queue.onIdle()
    },
  }
}
