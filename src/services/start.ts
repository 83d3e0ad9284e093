import type { RunRequest } from '../schemas/run.ts'
import type { Run } from '../store/store.ts'
import { planEvaluation } from './evaluate.ts'
import { planLabel } from './label.ts'
import { planLoop } from './loop.ts'
import { planRevision } from './revise.ts'
import { planPolicyUpdate, planPretrain, planRewardModel, planSft } from './train.ts'
import type { RunContext } from './runs.ts'
import type { Services } from './services.ts'

/** A run that has been checked: everything that it names is there and every row of its data is sound. */
export type Plan = {
  seed: number
  dataHash?: string
  parentCheckpoint?: string
  work(context: RunContext): Promise<Record<string, unknown>>
}

/** Checks a run, stores it as queued and hands it to the queue. What can be refused is refused here. */
export async function startRun(services: Services, request: RunRequest): Promise<Run> {
  const { seed, dataHash, parentCheckpoint, work } = await plan(services, request)
  // both engines are of one TensorFlow
  const { device } = await services.serving.status()
  return services.runner.submit(
    { kind: request.kind, config: request, seed, dataHash, parentCheckpoint, device },
    work,
  )
}

function plan(services: Services, request: RunRequest): Promise<Plan> {
  switch (request.kind) {
    case 'pretrain':
      return planPretrain(services, request)
    case 'sft':
      return planSft(services, request)
    case 'reward_model':
      return planRewardModel(services, request)
    case 'policy_update':
      return planPolicyUpdate(services, request)
    case 'label':
      return planLabel(services, request)
    case 'revision':
      return planRevision(services, request)
    case 'evaluation':
      return planEvaluation(services, request)
    case 'rlaif':
      return planLoop(services, request)
  }
}
