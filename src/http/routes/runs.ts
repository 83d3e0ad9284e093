import type { Context } from 'hono'
import { streamSSE } from 'hono/streaming'
import {
  CompareQuery,
  MetricsQuery,
  RunChange,
  RunComparison,
  RunList,
  RunQuery,
  RunReply,
} from '../../schemas/http.ts'
import { bodyOf, RunRequest } from '../../schemas/run.ts'
import type { RunRequest as Request } from '../../schemas/run.ts'
import type { Services } from '../../services/services.ts'
import { readReport, REPORT_FORMATS } from '../../services/report.ts'
import type { ReportFormat } from '../../services/report.ts'
import { annotateRun, compareRuns, exportMetrics, findRun } from '../../services/run-records.ts'
import { loopRoutes } from './loops.ts'
import { resumeRun, startRun } from '../../services/start.ts'
import type { Run, Store } from '../../store/store.ts'
import { route } from '../contract.ts'
import type { Route } from '../contract.ts'
import { presentPage, presentRun } from '../present.ts'

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
      summary: 'Runs, newest first; by kind, state, tag, words',
      query: RunQuery,
      reply: RunList,
    },
    async ({ query: { limit, after, kind, ...filter } }) => {
      const kinds = kind === undefined ? [] : [kind]
      const { data, hasMore } = await services.store.pageRuns(
        { limit, after },
        { ...filter, kinds },
      )
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
      path: '/v1/runs/compare',
      tag: 'runs',
      summary: 'Runs beside each other: where their configurations differ, where each ended',
      query: CompareQuery,
      reply: RunComparison,
    },
    async ({ query }) => {
      const { runs, ...rest } = await compareRuns(services.store, query.runs)
      return { object: 'run_comparison', runs: runs.map(presentRun), ...rest }
    },
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
      method: 'post',
      path: '/v1/runs/{id}',
      tag: 'runs',
      summary: 'Change the tags and notes of a run',
      body: RunChange,
      reply: RunReply,
    },
    async ({ id, body }) => presentRun(await annotateRun(services.store, id, body)),
  ),
  route(
    {
      method: 'get',
      path: '/v1/runs/{id}/metrics',
      tag: 'runs',
      summary: 'Every metric of a run as JSON Lines, CSV or a TensorBoard event file',
      query: MetricsQuery,
      reply: 'application/jsonl',
    },
    async ({ c, id, query: { format } }) => {
      const run = await findRun(services.store, id)
      const { type, name } = METRIC_FILES[format]
      return c.body(new Uint8Array(await exportMetrics(services.store, run, format)), 200, {
        'content-type': type,
        'content-disposition': `attachment; filename="${name(run.id)}"`,
      })
    },
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
  route(
    {
      method: 'post',
      path: '/v1/runs/{id}/pause',
      tag: 'runs',
      summary: 'Stop a run where it is, to be resumed from there',
      reply: RunReply,
    },
    async ({ id }) => presentRun(await services.runner.pause(id)),
  ),
  route(
    {
      method: 'post',
      path: '/v1/runs/{id}/resume',
      tag: 'runs',
      summary:
        'Take up a run that was paused, interrupted, failed or cancelled, from its last checkpoint',
      reply: RunReply,
      status: 202,
    },
    async ({ id }) => presentRun(await resumeRun(services, id)),
  ),
  starts(services, 'policy_update', {
    path: '/v1/ppo/rounds',
    tag: 'training',
    summary: 'PPO rounds of a policy against two reward models',
  }),
  starts(services, 'rlaif', {
    path: '/v1/rlaif/loops',
    tag: 'training',
    summary:
      'The whole loop: fine-tune, then iterations of labels, two reward models, PPO and evaluation',
  }),
  ...loopRoutes(services),
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
  ...reportRoutes(services),
]

/** The report of a run at two addresses, as a page, as text for a pull request and as data. */
const reportRoutes = (services: Services): Route[] =>
  ['/v1/runs/{id}', '/v1/evaluations/{id}'].flatMap((path) =>
    (Object.keys(REPORT_FORMATS) as ReportFormat[]).map((format) =>
      route(
        {
          method: 'get',
          path: `${path}/report${format === 'html' ? '' : `.${format}`}`,
          tag: path.startsWith('/v1/runs') ? 'runs' : 'evaluation',
          summary: `The report of a run: figures, curves, samples, configuration (${format})`,
          reply: ({ html: 'text/html', md: 'text/markdown', json: 'application/json' } as const)[
            format
          ],
        },
        async ({ c, id }) => {
          const { type, render } = REPORT_FORMATS[format]
          return c.body(render(await readReport(services, id)), 200, {
            'content-type': type,
            'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'",
          })
        },
      ),
    ),
  )

const METRIC_FILES = {
  jsonl: { type: 'application/jsonl', name: (id: string) => `${id}.jsonl` },
  csv: { type: 'text/csv; charset=utf-8', name: (id: string) => `${id}.csv` },
  tensorboard: {
    type: 'application/octet-stream',
    name: (id: string) => `events.out.tfevents.0.${id}`,
  },
}

/** A run that is paused or waits says nothing more until it is resumed. */
const ENDED = ['succeeded', 'failed', 'cancelled', 'paused', 'waiting_for_labels']

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
