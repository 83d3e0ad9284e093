import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Context } from 'hono'
import { streamSSE } from 'hono/streaming'
import { LibraError } from '../../errors.ts'
import { Page, RunList, RunReply } from '../../schemas/http.ts'
import { bodyOf, RunRequest } from '../../schemas/run.ts'
import type { RunRequest as Request } from '../../schemas/run.ts'
import type { Services } from '../../services/services.ts'
import { startRun } from '../../services/start.ts'
import type { Run, Store } from '../../store/store.ts'
import { route } from '../contract.ts'
import type { Route } from '../contract.ts'
import { presentPage, presentRun } from '../present.ts'

export async function findRun(store: Store, id: string): Promise<Run> {
  const run = await store.runs.get(id)
  if (run === null) throw new LibraError('not_found', `no run ${id}`)
  return run
}

/** A face that starts one kind of run: its body is that of `/v1/runs` without the kind. */
function starts<K extends Request['kind']>(
  services: Services,
  kind: K,
  contract: { path: string; tag: string; summary: string },
): Route {
  return route(
    { ...contract, method: 'post', body: bodyOf(kind), reply: RunReply, status: 202 },
    async (input) =>
      presentRun(await startRun(services, { kind, ...(input.body as object) } as Request)),
  )
}

export const runRoutes = (services: Services): Route[] => [
  route(
    {
      method: 'get',
      path: '/v1/runs',
      tag: 'runs',
      summary: 'Runs, newest first',
      query: Page,
      reply: RunList,
    },
    async ({ query }) => {
      const { data, hasMore } = await services.store.runs.page(query)
      return presentPage(data.map(presentRun), hasMore)
    },
  ),
  route(
    {
      method: 'post',
      path: '/v1/runs',
      tag: 'runs',
      summary: 'Start a run: it is queued and answered at once',
      body: RunRequest,
      reply: RunReply,
      status: 202,
    },
    async ({ body }) => presentRun(await startRun(services, body)),
  ),
  route(
    {
      method: 'get',
      path: '/v1/runs/{id}',
      tag: 'runs',
      summary: 'One run: what it was started with, what came of it',
      reply: RunReply,
    },
    async ({ id }) => presentRun(await findRun(services.store, id)),
  ),
  route(
    {
      method: 'get',
      path: '/v1/runs/{id}/events',
      tag: 'runs',
      summary: 'Events of a run as they come; resumable by Last-Event-ID',
      reply: 'text/event-stream',
    },
    async ({ c, id }) => streamEvents(services.store, c, await findRun(services.store, id)),
  ),
  route(
    {
      method: 'post',
      path: '/v1/runs/{id}/cancel',
      tag: 'runs',
      summary: 'Cancel a run that is queued or running',
      reply: RunReply,
    },
    async ({ id }) => presentRun(await services.runner.cancel(id)),
  ),
  starts(services, 'policy_update', {
    path: '/v1/ppo/rounds',
    tag: 'training',
    summary: 'PPO rounds of a policy against two reward models',
  }),
  starts(services, 'rlaif', {
    path: '/v1/rlaif/loops',
    tag: 'training',
    summary: 'The whole loop: fine-tune, label, train two reward models, PPO, evaluate',
  }),
  starts(services, 'evaluation', {
    path: '/v1/evaluations',
    tag: 'evaluation',
    summary: 'Evaluate a reward model, a judge or a policy',
  }),
  route(
    {
      method: 'get',
      path: '/v1/evaluations/{id}',
      tag: 'evaluation',
      summary: 'An evaluation: its figures are in the summary',
      reply: RunReply,
    },
    async ({ id }) => presentRun(await findRun(services.store, id)),
  ),
  route(
    {
      method: 'get',
      path: '/v1/evaluations/{id}/report',
      tag: 'evaluation',
      summary: 'The report of an evaluation or a loop as one HTML file',
      reply: 'text/html',
    },
    async ({ c, id }) => {
      const { id: run, state } = await findRun(services.store, id)
      const html = await readFile(join(services.dataDir, 'runs', run, 'report.html'), 'utf8').catch(
        () => null,
      )
      if (html === null) throw new LibraError('not_found', `run ${run} (${state}) has no report`)
      return c.html(html)
    },
  ),
]

const ENDED = ['succeeded', 'failed', 'cancelled']

/** Events so far and those to come, read from the log alone, until the run has ended. */
function streamEvents(store: Store, c: Context, { id }: Run): Response {
  let after = Number(c.req.header('last-event-id') ?? 0) || 0
  return streamSSE(c, async (stream) => {
    for (;;) {
      const { state } = await findRun(store, id)
      for (const { seq, type, data } of await store.events(id, after)) {
        after = seq
        await stream.writeSSE({ id: String(seq), event: type, data: JSON.stringify(data) })
      }
      if (ENDED.includes(state)) {
        await stream.writeSSE({ event: 'end', data: JSON.stringify({ state }) })
        return
      }
      if (stream.aborted) return
      await stream.sleep(250)
    }
  })
}
