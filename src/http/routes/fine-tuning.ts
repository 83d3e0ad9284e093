import type { z } from 'zod'
import { LibraError, unknownCursor } from '../../errors.ts'
import { Page } from '../../schemas/http.ts'
import { JobEventList, JobList, JobReply, JobRequest } from '../../schemas/openai.ts'
import { RunRequest } from '../../schemas/run.ts'
import type { Services } from '../../services/services.ts'
import { startRun } from '../../services/start.ts'
import type { Run } from '../../store/store.ts'
import { route } from '../contract.ts'
import { check } from '../problem.ts'
import type { Route } from '../contract.ts'
import { presentPage, seconds } from '../present.ts'
import { findRun } from '../../services/run-records.ts'

const tag = 'fine-tuning'
const METHOD: Partial<Record<Run['kind'], string>> = {
  sft: 'supervised',
  reward_model: 'reward_model',
  dpo: 'dpo',
}

/** OpenAI's fine-tuning jobs as a face of `sft`, `reward_model` and `dpo` runs; the job's id is the run's. */
export const fineTuningRoutes = (services: Services): Route[] => [
  route(
    {
      method: 'post',
      path: '/v1/fine_tuning/jobs',
      tag,
      summary: 'Start a fine-tuning job: supervised, dpo or reward_model',
      body: JobRequest,
      reply: JobReply,
    },
    async ({ body }) => presentJob(await startRun(services, toRun(body))),
  ),
  route(
    {
      method: 'get',
      path: '/v1/fine_tuning/jobs',
      tag,
      summary: 'Jobs, newest first',
      query: Page,
      reply: JobList,
    },
    async ({ query }) => {
      const { data, hasMore } = await services.store.pageRuns(query, {
        kinds: ['sft', 'reward_model', 'dpo'],
      })
      return presentPage(data.map(presentJob), hasMore)
    },
  ),
  route(
    { method: 'get', path: '/v1/fine_tuning/jobs/{id}', tag, summary: 'One job', reply: JobReply },
    async ({ id }) => presentJob(await findRun(services.store, id)),
  ),
  route(
    {
      method: 'post',
      path: '/v1/fine_tuning/jobs/{id}/cancel',
      tag,
      summary: 'Cancel a job',
      reply: JobReply,
    },
    async ({ id }) => presentJob(await services.runner.cancel(id)),
  ),
  route(
    {
      method: 'get',
      path: '/v1/fine_tuning/jobs/{id}/events',
      tag,
      summary: 'Events of a job, newest first',
      query: Page,
      reply: JobEventList,
    },
    async ({ id, query }) => {
      const run = await findRun(services.store, id)
      const events = (await services.store.events(run.id, 0)).reverse()
      const { after } = query
      const from = events.findIndex(({ seq }) => eventId(run.id, seq) === after) + 1
      if (after !== undefined && from === 0) throw unknownCursor(after)
      const page = events.slice(from, from + query.limit).map(({ seq, at, type, data }) => ({
        id: eventId(run.id, seq),
        object: 'fine_tuning.job.event',
        created_at: seconds(at),
        level: 'info',
        message: type === 'metrics' ? `Step ${String(data['step'])}` : type,
        type: type === 'metrics' ? 'metrics' : 'message',
        data,
      }))
      return presentPage(page, from + query.limit < events.length)
    },
  ),
]

const eventId = (run: string, seq: number): string => `${run}-${seq}`

/** Throws `unsupported_method` for reinforcement. */
function toRun(body: z.output<typeof JobRequest>): RunRequest {
  const { type } = body.method
  const given =
    (type === 'reinforcement' ? null : body.method[type])?.hyperparameters ?? body.hyperparameters
  const number = (value: 'auto' | number | undefined): number | undefined =>
    typeof value === 'number' ? value : undefined
  const options = JSON.parse(
    JSON.stringify({
      seed: body.seed ?? undefined,
      epochs: number(given?.n_epochs),
      batch_size: number(given?.batch_size),
    }),
  ) as object
  const scale = number(given?.learning_rate_multiplier)
  const optimizer = scale === undefined ? {} : { optimizer: { learning_rate: 1e-3 * scale } }
  const common = {
    model: body.model,
    training_file: body.training_file,
    ...(body.suffix == null ? {} : { suffix: body.suffix }),
  }
  if (type === 'supervised')
    return check(
      RunRequest,
      { kind: 'sft', ...common, options: { ...options, ...optimizer } },
      'body',
    )
  if (type === 'reward_model') {
    const axis = body.method.reward_model?.axis ?? 'helpfulness'
    return check(
      RunRequest,
      { kind: 'reward_model', ...common, options: { axis, ...options, ...optimizer } },
      'body',
    )
  }
  if (type === 'dpo') {
    const beta = number(body.method.dpo?.hyperparameters?.beta)
    const own = { ...options, ...optimizer, ...(beta === undefined ? {} : { beta }) }
    return check(RunRequest, { kind: 'dpo', ...common, options: own }, 'body')
  }
  throw new LibraError(
    'unsupported_method',
    `method.type ${type} is not there; supervised, dpo and reward_model are, and PPO is at /v1/ppo/rounds`,
    { details: { field: 'method.type' } },
  )
}

function presentJob(run: Run): z.output<typeof JobReply> {
  const config = run.config as { model?: string; training_file?: string }
  return {
    id: run.id,
    object: 'fine_tuning.job',
    created_at: seconds(run.createdAt),
    finished_at: run.endedAt === null ? null : seconds(run.endedAt),
    model: config.model ?? '',
    fine_tuned_model: (run.summary?.['model'] as string | undefined) ?? null,
    status: run.state,
    training_file: config.training_file ?? '',
    seed: run.seed,
    trained_tokens: null,
    error: run.error,
    method: { type: METHOD[run.kind] ?? run.kind },
  }
}
