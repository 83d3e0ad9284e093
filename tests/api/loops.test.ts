import { expect, test } from 'vitest'
import { LoopRequest } from '../../src/schemas/run.ts'
import { service } from '../helpers/service.ts'

// What a loop is told before it begins, or while it waits: nothing here trains.
const { api, services } = await service()
const { store } = services

type Json = Record<string, unknown>
const refusal = async (path: string, sent: Json): Promise<Json> => {
  const { status, body } = (await api.post(path).send(sent)) as { status: number; body: Json }
  return { status, code: body['code'], field: body['field'], detail: body['detail'] }
}
const loop = (sent: Json): Promise<Json> => refusal('/v1/rlaif/loops', sent)

/** A loop that waits, with as many iterations behind it as are said. */
async function waiting(id: string, done: number, sent: Json): Promise<void> {
  const config = LoopRequest.parse({ kind: 'rlaif', ...sent })
  const row = { kind: 'rlaif' as const, state: 'paused' as const, seed: 1, codeVersion: '0' }
  await store.runs.insert([{ id, config, ...row, createdAt: Date.now() }])
  await store.appendEvents(
    Array.from({ length: done }, (_, i) => ({
      ...{ run: id, seq: i + 1, type: 'part', at: Date.now() },
      data: { part: `${i + 1}/evaluate`, result: {} },
    })),
  )
}

test('a loop starts from a base: neither adapters nor a reward model are dropped in silence', async () => {
  const whole = { kind: 'reward_model' as const, axis: 'safety' as const, adapters: [] }
  const [{ base } = { base: '' }] = (await store.models.page({ limit: 1 })).data
  await store.models.insert([{ id: 'whole-safety', ...whole, base, createdAt: 1 }])
  for (const field of ['base', 'twin_base'])
    for (const name of ['policy', 'starter-sft', 'starter-safety', 'whole-safety'])
      expect(await loop({ [field]: name }), `${field} ${name}`).toEqual({
        ...{ status: 422, code: 'wrong_model_kind', field },
        detail: expect.stringMatching(/give a model without adapters/u) as string,
      })
})
