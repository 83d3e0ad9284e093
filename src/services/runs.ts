import { randomBytes } from 'node:crypto'
import PQueue from 'p-queue'
import { CODE_VERSION } from '../config.ts'
import { cancelled, LibraError, PAUSED, paused, serializeError, WAITING } from '../errors.ts'
import type { Emit } from '../rlaif/follow.ts'
import { RUN_STATES } from '../schemas/run.ts'
import type { Run, Store } from '../store/store.ts'

export type RunContext = {
  id: string
  emit: Emit
  /** takes off the log what came after a place, and says from where the run goes on */
  rewind(after: number, event: { type: 'resumed' } & Record<string, unknown>): Promise<void>
  signal: AbortSignal
}
export type StartRun = {
  kind: Run['kind']
  config: Record<string, unknown>
  seed: number
  parent?: string | undefined
  /** its name in the run that it is a part of */
  part?: string | undefined
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
      part: start.part ?? null,
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
  // a run that goes on counts on, also where it takes events back: a reader asks for those after a number
  let seq = await store.lastSeq(id)
  const next = ({ type, ...data }: { type: string }) => ({
    ...{ run: id, seq: ++seq, at: Date.now(), type, data },
  })
  const emit: Emit = (event) => store.appendEvents([next(event)])
  try {
    const rewind: RunContext['rewind'] = (after, event) => store.rewindEvents(after, next(event))
    if (signal.aborted) throw cancelled()
    const result = await work({ id, emit, rewind, signal })
    if (signal.aborted) throw cancelled()
    await store.runs.update(id, { state: 'succeeded', endedAt: Date.now(), summary: result })
    return { ...result, runId: id }
  } catch (error) {
    const reason: unknown = signal.aborted ? signal.reason : null
    const { code, message } = serializeError(reason instanceof LibraError ? reason : error)
    const endedAt = Date.now()
    if (code === PAUSED || code === WAITING) {
      await emit({ type: code, message })
      await store.runs.update(id, { state: code, endedAt })
    } else {
      const state = signal.aborted || code === 'cancelled' ? 'cancelled' : 'failed'
      await store.runs.update(id, { state, endedAt, error: { code, message } })
    }
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

/**
 * A part of a run, done once: of one that has succeeded the result is what it was then; one that was interrupted goes on
 * under its own id. Results are plain JSON.
 */
export async function recordPart<T extends Record<string, unknown>>(
  store: Store,
  start: StartRun & { parent: string; part: string },
  work: Work<T>,
  signal: AbortSignal,
): Promise<T> {
  const found = await store.partOf(start.parent, start.part)
  if (found?.state === 'succeeded') return found.summary as T
  if (found !== null)
    await store.runs.update(found.id, { state: 'running', endedAt: null, error: null })
  const id = found?.id ?? (await insert(store, start, 'running'))
  const { runId: _, ...result } = await perform(store, id, work, signal)
  return result as unknown as T
}

/** Goes on with a run that has not succeeded, at once. Throws `not_resumable`. */
export async function goOn<T extends Record<string, unknown>>(
  store: Store,
  id: string,
  work: Work<T>,
  signal: AbortSignal,
): Promise<T & { runId: string }> {
  const now = { state: 'running' as const, endedAt: null, error: null }
  if (!(await store.moveRun(id, UNFINISHED, now))) throw succeeded(id)
  return perform(store, id, work, signal)
}

const UNFINISHED = RUN_STATES.filter((state) => state !== 'succeeded')
const succeeded = (id: string): LibraError =>
  new LibraError('not_resumable', `run ${id} has succeeded: there is nothing left to do`)

export type Runner = {
  /** durable as `queued` before it returns; runs one after another */
  submit(start: StartRun, work: Work<Record<string, unknown>>): Promise<Run>
  /** takes up again a run that has not succeeded; throws `not_resumable` while it is queued or running */
  resume(id: string, work: Work<Record<string, unknown>>): Promise<Run>
  /** runs that a process which is gone left behind and that can go on, oldest first */
  interrupted: readonly Run[]
  /** throws `not_found`, or `already_ended` when there is nothing left to cancel */
  cancel(id: string): Promise<Run>
  /** stops a run where it is, to be resumed; throws `not_found`, `already_ended`, `not_resumable` */
  pause(id: string): Promise<Run>
  /** cancels what runs and waits for it */
  close(): Promise<void>
}

/** Kinds of runs that go on from their last checkpoint, a labelling run from its last part. */
export const RESUMABLE: readonly Run['kind'][] = [
  'pretrain',
  'sft',
  'reward_model',
  'dpo',
  'policy_update',
  'label',
  'rlaif',
]

/** The embedded queue: one run at a time, since each fills the machine. */
export async function createRunner(store: Store): Promise<Runner> {
  const interrupted: Run[] = []
  // what a process that is gone left behind can't be running
  for (const run of await store.unfinishedRuns())
    if (RESUMABLE.includes(run.kind) && run.parent === null) interrupted.push(run)
    else
      await store.runs.update(run.id, {
        state: 'failed',
        endedAt: Date.now(),
        error: {
          code: 'interrupted',
          message: 'the service ended before the run did; start it again',
        },
      })
  interrupted.sort((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1))
  const queue = new PQueue({ concurrency: 1 })
  const running = new Map<string, AbortController>()
  const waiting = new Set<string>()
  const load = async (id: string): Promise<Run> => {
    const run = await store.runs.get(id)
    if (run === null) throw new LibraError('not_found', `no run ${id}`)
    return run
  }
  const enqueue = (id: string, work: Work<Record<string, unknown>>): void => {
    waiting.add(id)
    void queue.add(async () => {
      waiting.delete(id)
      const { startedAt } = await load(id)
      const now = { state: 'running' as const, startedAt: startedAt ?? Date.now() }
      if (!(await store.moveRun(id, ['queued'], now))) return // cancelled while it waited
      const controller = new AbortController()
      running.set(id, controller)
      try {
        await perform(store, id, work, controller.signal)
      } catch (error) {
        // the run's row says the rest
        if (!(error instanceof LibraError || controller.signal.aborted)) console.error(error)
      } finally {
        running.delete(id)
      }
      // the last label may have come while the run was about to wait for it
      if ((await store.labelRequests.open(id)) > 0) return
      if (await store.moveRun(id, [WAITING], { state: 'queued', endedAt: null })) enqueue(id, work)
    })
  }
  return {
    interrupted,
    async submit(start, work) {
      const id = await insert(store, start, 'queued')
      enqueue(id, work)
      return load(id)
    },
    async resume(id, work) {
      if (running.has(id) || waiting.has(id))
        throw new LibraError('not_resumable', `run ${id} has not ended`)
      const again = { state: 'queued' as const, endedAt: null, error: null }
      if (!(await store.moveRun(id, UNFINISHED, again))) throw succeeded(id)
      enqueue(id, work)
      return load(id)
    },
    async cancel(id) {
      const run = await load(id)
      const cancelled = { state: 'cancelled' as const, endedAt: Date.now() }
      if (await store.moveRun(id, ['queued', 'paused', 'waiting_for_labels'], cancelled))
        return load(id)
      const controller = running.get(id)
      if (controller === undefined)
        throw new LibraError('already_ended', `run ${id} has ended: it ${run.state}`)
      controller.abort()
      return load(id)
    },
    async pause(id) {
      const run = await load(id)
      if (!RESUMABLE.includes(run.kind) || run.parent !== null)
        throw new LibraError(
          'not_resumable',
          `run ${id} ${run.parent === null ? `is of kind ${run.kind}: it can be cancelled, but would not go on` : `is a part of ${run.parent}: pause that`}`,
        )
      const halted = { state: 'paused' as const, endedAt: Date.now() }
      if (await store.moveRun(id, ['queued', 'waiting_for_labels'], halted)) return load(id)
      const controller = running.get(id)
      if (controller === undefined)
        throw new LibraError('already_ended', `run ${id} does not run: it is ${run.state}`)
      controller.abort(paused())
      return load(id)
    },
    async close() {
      queue.clear()
      for (const controller of running.values()) controller.abort()
      await queue.onIdle()
    },
  }
}
