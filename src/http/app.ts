import { Hono } from 'hono'
import { z } from 'zod'
import { LibraError } from '../errors.ts'
import type { Services } from '../services/services.ts'
import { mount, route } from './contract.ts'
import type { Route } from './contract.ts'
import { openApiDocument } from './openapi.ts'
import { problem } from './problem.ts'
import { chatRoutes } from './routes/chat.ts'
import { fileRoutes } from './routes/files.ts'
import { fineTuningRoutes } from './routes/fine-tuning.ts'
import { judgeRoutes, preferenceRoutes } from './routes/judging.ts'
import { modelRoutes } from './routes/models.ts'
import { runRoutes } from './routes/runs.ts'
import { scoreRoutes } from './routes/score.ts'
import { mountWeb } from '../web/app.ts'

const healthRoutes = ({ serving }: Services): Route[] => [
  route(
    {
      method: 'get',
      path: '/healthz',
      tag: 'health',
      summary: 'The process answers',
      reply: z.object({ status: z.literal('ok') }),
    },
    () => ({ status: 'ok' }),
  ),
  route(
    {
      method: 'get',
      path: '/readyz',
      tag: 'health',
      summary: 'The engine answers: device, memory, models loaded',
      reply: z.object({ status: z.literal('ready'), engine: z.record(z.string(), z.unknown()) }),
    },
    async () => ({ status: 'ready', engine: await serving.status() }),
  ),
]

/** Every route of the service, with its contract. */
export const allRoutes = (services: Services, modelsDir: string): Route[] => [
  ...healthRoutes(services),
  ...scoreRoutes(services),
  ...judgeRoutes(services),
  ...preferenceRoutes(services),
  ...chatRoutes(services),
  ...modelRoutes(services, modelsDir),
  ...fileRoutes(services),
  ...fineTuningRoutes(services),
  ...runRoutes(services),
]

/** The HTTP API over its services. It never listens by itself. */
export function createApp(services: Services, modelsDir: string): Hono {
  const app = new Hono()
  app.onError((error, c) => problem(c, error))
  app.notFound((c) =>
    problem(c, new LibraError('not_found', `no route ${c.req.method} ${c.req.path}`)),
  )
  const routes = allRoutes(services, modelsDir)
  for (const each of routes) mount(app, services.store, each)
  const document = openApiDocument(routes)
  app.get('/openapi.json', (c) => c.json(document))
  mountWeb(app, services)
  return app
}
