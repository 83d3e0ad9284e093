import { isDeepStrictEqual } from 'node:util'
import { LibraError, serializeError } from '../errors.ts'
import { RunRequest } from '../schemas/run.ts'
import type { Run } from '../store/store.ts'
import { planEvaluation } from './evaluate.ts'
import type { LoopProgress } from './loop-evaluation.ts'
import { planLabel } from './label.ts'
import { planLoop } from './loop.ts'
import { planRevision } from './revise.ts'
import { findRun } from './run-records.ts'
import { RESUMABLE } from './runs.ts'
import { planDpo, planPolicyUpdate, planPretrain, planSft } from './train.ts'
import { planRewardModel } from './train-reward.ts'
import type { RunContext } from './runs.ts'
import type { Services } from './services.ts'

/** A run that has been checked: everything that it names is there and every row of its data is sound. */
export type Plan = {
  seed: number
  /** the request with what it left open: names of models in place of roles, which may be given to others before a run goes on */
  request?: RunRequest
  /** what measures and is measured, by id and version: stands in the configuration beside the request */
  measuredBy?: Record<string, unknown>
  dataHash?: string
  parentCheckpoint?: string
  work(context: RunContext): Promise<Record<string, unknown>>
}

/** Checks a run, stores it as queued and hands it to the queue. What can be refused is refused here. */
export async function startRun(services: Services, request: RunRequest): Promise<Run> {
  const planned = await plan(services, request)
  const { seed, dataHash, parentCheckpoint, measuredBy, work } = planned
  const config = {
    ...(planned.request ?? request),
    ...(measuredBy === undefined ? {} : { [MEASURED_BY]: measuredBy }),
  }
  // both engines are of one TensorFlow
  const { device } = await services.serving.status()
  return services.runner.submit(
    { kind: request.kind, config, seed, dataHash, parentCheckpoint, device },
    work,
  )
}

/**
 * Takes up a run that was paused, interrupted, failed or cancelled: planned again from what it was asked with, it goes
 * on from its last checkpoint. Throws `not_found`, `not_resumable`, `data_changed`.
 */
export async function resumeRun(services: Services, id: string): Promise<Run> {
  const { work } = await planAgain(services, id)
  return services.runner.resume(id, work)
}

/** What stands in a configuration beside the request. */
const MEASURED_BY = 'measured_by'

/** The plan of a run that is to go on. Throws `not_found`, `not_resumable`, `data_changed`. */
export async function planAgain(
  services: Services,
  id: string,
  progress?: LoopProgress,
): Promise<Plan> {
  const run = await findRun(services.store, id)
  const { [MEASURED_BY]: measuredBy, ...asked } = run.config
  const request = RunRequest.safeParse(asked)
  if (!RESUMABLE.includes(run.kind) || !request.success)
    throw new LibraError(
      'not_resumable',
      `run ${id} is ${run.parent === null ? `a run of kind ${run.kind}` : `a part of ${run.parent}`}: what goes on by itself are runs of kind ${RESUMABLE.join(', ')}`,
    )
  if (run.state === 'succeeded')
    throw new LibraError('not_resumable', `run ${id} has succeeded: there is nothing left to do`)
  const again = await plan(services, request.data, { progress, run })
  const changed = (what: string): LibraError =>
    new LibraError(
      'data_changed',
      `run ${id} began with ${what} than there is now: start a new one`,
    )
  if ((again.dataHash ?? null) !== run.dataHash) throw changed('other data')
  if (measuredBy !== undefined && !isDeepStrictEqual(measuredBy, again.measuredBy))
    throw changed('another judge or model')
  return again
}

/** How often a run is taken up again at the same step before it counts as what ends the service. */
const MOST_TRIES = 3

/** Takes up every run that the service left behind when it ended. What can't go on fails and says why. */
export async function resumeInterrupted(services: Services): Promise<void> {
  const { store, runner } = services
  for (const { id } of runner.interrupted) {
    try {
      await checkTries(services, id)
      await resumeRun(services, id)
    } catch (error) {
      const { code, message } = serializeError(error)
      await store.runs.update(id, {
        state: 'failed',
        endedAt: Date.now(),
        error: { code, message },
      })
    }
  }
}

async function checkTries({ store }: Services, id: string): Promise<void> {
  const last = (await store.events(id, 0))
    .filter(({ type }) => type === 'resumed')
    .slice(-MOST_TRIES)
    .map(({ data }) => data)
  const [first] = last
  if (first === undefined || last.length < MOST_TRIES) return
  // of parts that go side by side one may get on while the other ends the service again and again
  const partsAt = last.map(({ at = {} }) => at as Record<string, number>)
  const stuck = Object.entries(partsAt[0] ?? {}).find(
    ([part, steps]) => steps > 0 && partsAt.every((at) => at[part] === steps),
  )
  if (stuck === undefined && last.some(({ step }) => step !== first['step'])) return
  const where = stuck === undefined ? String(first['step']) : `${stuck[1]} of part ${stuck[0]}`
  throw new LibraError(
    'crash_loop',
    `the service ended ${MOST_TRIES} times at step ${where} of the run: POST /v1/runs/${id}/resume tries once more`,
  )
}

/** `again`: of a run that is to go on. */
function plan(
  services: Services,
  request: RunRequest,
  again?: { run: Run; progress: LoopProgress | undefined },
): Promise<Plan> {
  switch (request.kind) {
    case 'pretrain':
      return planPretrain(services, request)
    case 'sft':
      return planSft(services, request)
    case 'reward_model':
      return planRewardModel(services, request)
    case 'dpo':
      return planDpo(services, request)
    case 'policy_update':
      return planPolicyUpdate(services, request)
    case 'label':
      return planLabel(services, request, again?.run)
    case 'revision':
      return planRevision(services, request)
    case 'evaluation':
      return planEvaluation(services, request)
    case 'rlaif':
      return planLoop(services, request, again?.progress)
  }
}
