import { cpSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { filesOf, findModel } from '../../src/services/catalog.ts'
import { service } from '../helpers/service.ts'

const { api, services, folder } = await service()

test('a reward model on two adapters leaves as one folder and comes back with the same scores', async () => {
  const body = { name: 'merged' }
  const reply = await api.post('/v1/models/helpfulness/export').send(body)
  expect(reply.status).toBe(201)
  expect(reply.body).toMatchObject({
    ...{ object: 'model.export', model: 'starter-helpfulness' },
    ...{ architecture: 'LlamaForSequenceClassification', path: join(folder, 'exports', 'merged') },
  })
  expect((await api.post('/v1/models/helpfulness/export').send(body)).status).toBe(409)
  expect((await api.post('/v1/models/nobody/export').send({})).status).toBe(404)
  const outside = await api.post('/v1/models/helpfulness/export').send({ name: '../x' })
  expect(outside.status).toBe(422)

  cpSync(join(folder, 'exports', 'merged'), join(folder, 'models', 'merged'), { recursive: true })
  const back = { id: 'back', kind: 'reward_model', axis: 'helpfulness', path: 'merged' }
  expect((await api.post('/v1/models').send(back)).status).toBe(201)
  const conversations = [
    ['世界上有几大洲？', '七大洲。'],
    ['What colour is the crow?', 'It is black.'],
  ].map(([question = '', answer = '']) => [
    { role: 'user' as const, content: question },
    { role: 'assistant' as const, content: answer },
  ])
  const [before, after] = await Promise.all(
    ['helpfulness', 'back'].map(async (id) => {
      const model = filesOf(await findModel(services.store, id))
      const scores = await services.serving.score({ model, conversations, onTooLong: 'error' })
      return scores.map(({ logit }) => logit)
    }),
  )
  before?.forEach((logit, i) => expect(Math.abs(logit - (after?.[i] ?? NaN))).toBeLessThan(1e-4))
  // the calibration goes along
  const { info } = (await api.get('/v1/models/back')).body as { info: { calibration: object } }
  expect(info.calibration).toMatchObject({ kind: 'win_rate' })
})

test('a policy leaves as a causal model, in half the bytes', async () => {
  const reply = await api.post('/v1/models/policy/export').send({ dtype: 'BF16' })
  expect(reply.status).toBe(201)
  expect(reply.body).toMatchObject({ model: 'starter-policy', architecture: 'LlamaForCausalLM' })
  const { parameters, bytes } = reply.body as { parameters: number; bytes: number }
  expect(bytes).toBeLessThan(2 * parameters + 1e6)
})
