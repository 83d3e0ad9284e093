import { RunReply } from '../../schemas/http.ts'
import { LoopChange, LoopPause } from '../../schemas/run.ts'
import { branchRequest, changeLoop, pauseLoop } from '../../services/loop-plan.ts'
import type { Services } from '../../services/services.ts'
import { startRun } from '../../services/start.ts'
import { route } from '../contract.ts'
import type { Route } from '../contract.ts'
import { presentRun } from '../present.ts'

/** What can be done to a loop between its iterations. */
export const loopRoutes = (services: Services): Route[] => [
  route(
    {
      method: 'post',
      path: '/v1/rlaif/loops/{id}/pause',
      tag: 'training',
      summary: 'Let a loop wait after an iteration, to be changed and resumed',
      body: LoopPause,
      reply: RunReply,
    },
    async ({ id, body }) => presentRun(await pauseLoop(services.store, id, body.after)),
  ),
  route(
    {
      method: 'post',
      path: '/v1/rlaif/loops/{id}/changes',
      tag: 'training',
      summary: 'Change a loop that does not run, from an iteration on that has not begun',
      body: LoopChange,
      reply: RunReply,
    },
    async ({ id, body }) => presentRun(await changeLoop(services, id, body)),
  ),
  route(
    {
      method: 'post',
      path: '/v1/rlaif/loops/{id}/branch',
      tag: 'training',
      summary: 'Start a loop that goes on from another’s iteration, otherwise from there on',
      body: LoopChange,
      reply: RunReply,
      status: 202,
    },
    async ({ id, body }) =>
      presentRun(await startRun(services, await branchRequest(services.store, id, body))),
  ),
]
