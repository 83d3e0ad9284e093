import { join } from 'node:path'
import { z } from 'zod'
import {
  CheckList,
  ExportModel,
  ExportReply,
  ImportModel,
  ModelList,
  ModelReply,
  Page,
  RolesReply,
  RolesRequest,
} from '../../schemas/http.ts'
import { assignRoles, describeModel, findModel, removeModel } from '../../services/catalog.ts'
import { exportModel } from '../../services/export.ts'
import { importModel } from '../../services/import.ts'
import type { Services } from '../../services/services.ts'
import { route } from '../contract.ts'
import type { Route } from '../contract.ts'
import { presentCheck, presentModel, presentPage } from '../present.ts'

const tag = 'models'
const Detailed = ModelReply.extend({
  info: z.record(z.string(), z.unknown()).describe('parameters, context, calibration, version'),
})

export const modelRoutes = (services: Services, modelsDir: string): Route[] => [
  route(
    {
      method: 'get',
      path: '/v1/models',
      tag,
      summary: 'Models, newest first',
      query: Page,
      reply: ModelList,
    },
    async ({ query }) => {
      const { data, hasMore } = await services.store.models.page(query)
      return presentPage(data.map(presentModel), hasMore)
    },
  ),
  route(
    {
      method: 'post',
      path: '/v1/models',
      tag,
      summary: 'Import a checkpoint from LIBRA_MODELS_DIR',
      body: ImportModel,
      reply: ModelReply,
      status: 201,
    },
    async ({ body }) => presentModel(await importModel(services, modelsDir, body)),
  ),
  route(
    {
      method: 'get',
      path: '/v1/models/{id}',
      tag,
      summary: 'One model, by its id or a role that it plays, with its size and calibration',
      reply: Detailed,
    },
    async ({ id }) => {
      const model = await findModel(services.store, id)
      const { info } = await describeModel(services.serving, model)
      return { ...presentModel(model), info }
    },
  ),
  route(
    {
      method: 'get',
      path: '/v1/models/{id}/checks',
      tag,
      summary: 'Checks of a reward model, newest first: may it teach a policy?',
      query: Page,
      reply: CheckList,
    },
    async ({ id, query }) => {
      const model = await findModel(services.store, id)
      const { data, hasMore } = await services.store.pageChecks(query, model.id)
      return presentPage(data.map(presentCheck), hasMore)
    },
  ),
  route(
    {
      method: 'post',
      path: '/v1/models/{id}/export',
      tag,
      summary: 'Write a model, adapters merged, as one Hugging Face folder under <data>/exports',
      body: ExportModel,
      reply: ExportReply,
      status: 201,
    },
    async ({ id, body }) => ({
      object: 'model.export',
      ...(await exportModel(services, id, join(services.dataDir, 'exports'), body)),
    }),
  ),
  route(
    {
      method: 'delete',
      path: '/v1/models/{id}',
      tag,
      summary: 'Take a model out of the catalogue; its files stay',
      reply: z.object({ id: z.string(), object: z.literal('model'), deleted: z.literal(true) }),
    },
    async ({ id }) => {
      await removeModel(services.store, id)
      return { id, object: 'model', deleted: true }
    },
  ),
  route(
    {
      method: 'get',
      path: '/v1/roles',
      tag,
      summary: 'Which model plays which part',
      reply: RolesReply,
    },
    () => services.store.roles(),
  ),
  route(
    {
      method: 'put',
      path: '/v1/roles',
      tag,
      summary: 'Give roles to models; roles that are not named stay',
      body: RolesRequest,
      reply: RolesReply,
    },
    ({ body }) =>
      assignRoles(
        services.store,
        services.serving,
        Object.fromEntries(Object.entries(body).filter(([, model]) => model !== undefined)),
      ),
  ),
]
