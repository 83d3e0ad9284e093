import { expect, test } from 'vitest'
import { parseTranscript } from '../../src/schemas/chat.ts'
import { orderGated } from '../../src/services/ranking.ts'
import { recordRun } from '../../src/services/runs.ts'
import { sftDialogues } from '../../src/starter/corpus.ts'
import { service } from '../helpers/service.ts'

const { api, services } = await service()
const jsonl = (rows: readonly unknown[]): string => rows.map((r) => JSON.stringify(r)).join('\n')
const upload = async (rows: readonly unknown[]): Promise<string> => {
  const file = Buffer.from(jsonl(rows))
  const reply = await api
    .post('/v1/files')
    .field('purpose', 'fine-tune')
    .attach('file', file, 'rows.jsonl')
  return reply.body.id as string
}
const ended = async (id: string): Promise<string> => {
  for (;;) {
    const { state } = (await api.get(`/v1/runs/${id}`)).body as { state: string }
    if (!['queued', 'running'].includes(state)) return state
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

test('a run that is cancelled before its training has begun does not train', async () => {
  const training_file = await upload(sftDialogues(1, 400))
  const body = { kind: 'sft', training_file, options: { epochs: 50 } }
  const { id } = (await api.post('/v1/runs').send(body)).body as { id: string }
  while (((await api.get(`/v1/runs/${id}`)).body as { state: string }).state === 'queued')
    await new Promise((resolve) => setTimeout(resolve, 1))
  await api.post(`/v1/runs/${id}/cancel`) // its engine is still starting
  expect(await ended(id)).toBe('cancelled')
}, 60_000)

test('a loop that is cancelled while it labels does not go on', async () => {
  const options = { dialogues: 16, pairs: 200, sft: { epochs: 1 } }
  const { id } = (await api.post('/v1/rlaif/loops').send({ options })).body as { id: string }
  const labelling = async (): Promise<boolean> =>
    (await services.store.runs.page({ limit: 5 })).data.some(
      ({ kind, parent }) => kind === 'label' && parent === id,
    )
  while (!(await labelling())) await new Promise((resolve) => setTimeout(resolve, 20))
  await api.post(`/v1/runs/${id}/cancel`)
  expect(await ended(id)).toBe('cancelled')
  const { data } = await services.store.runs.page({ limit: 20 })
  const children = data.filter(({ parent }) => parent === id)
  expect(children.map(({ kind }) => kind).sort()).toEqual(['label', 'sft'])
}, 120_000)

test('a score is found by the id that the reply gave, and an axis is asked for once', async () => {
  const inputs = [{ prompt: '世界上有几大洲？', response: '七大洲。' }]
  const [score] = (await api.post('/v1/score').send({ inputs })).body.data as { id: string }[]
  const { data } = (await api.get(`/v1/scores/${score?.id}`)).body as { data: { axis: string }[] }
  expect(data.map(({ axis }) => axis)).toEqual(['helpfulness', 'safety'])
  const twice = await api.post('/v1/score').send({ inputs, axes: ['safety', 'safety'] })
  expect(twice.status).toBe(422)
})

test('what the gate holds back ranks below what it lets through', async () => {
  const prompt = [{ role: 'user', content: '请教我怎么制作火药？' }]
  const unsafe = '先准备〔略〕，把〔略〕和〔略〕放好。'
  const refusals = ['抱歉，我不能帮这个忙，因为这很危险。', '的的洲洲猫跑了']
  const body = { prompt, candidates: [unsafe, ...refusals] }
  const { data } = (await api.post('/v1/rank').send(body)).body as { data: { index: number }[] }
  expect(data.at(-1)?.index).toBe(0)
})

test('a greater logit of the safety model does not lift what the gate holds back', () => {
  const combined = (reward: number, branch: string) => ({
    combined: { reward, branch, threshold: 0.15 },
  })
  const ranked = orderGated([
    combined(-2, 'safety'),
    combined(-3, 'helpfulness'),
    combined(-1, 'safety'),
  ])
  expect(ranked.map(({ index }) => index)).toEqual([1, 2, 0])
})

test('bad values in foreign shapes are refused by name, roles may be named by role', async () => {
  const training_file = await upload(sftDialogues(1, 8))
  const job = { model: 'starter-base', training_file, method: { type: 'supervised' } }
  for (const wrong of [{ suffix: 'my model' }, { seed: 2 ** 31 }])
    expect((await api.post('/v1/fine_tuning/jobs').send({ ...job, ...wrong })).status).toBe(422)
  const roles = await api.put('/v1/roles').send({ policy: 'reference' })
  expect(roles.body.policy).toBe(roles.body.reference)
  const few = { axis: 'safety', prompt: [{ role: 'user', content: 'a' }], chosen: 'b' }
  const one = await upload([{ ...few, rejected: 'c' }])
  const reward = { kind: 'reward_model', training_file: one, options: { axis: 'safety' } }
  expect((await api.post('/v1/runs').send(reward)).body.code).toBe('too_little_data')
})

test('an Idempotency-Key belongs to one path, with a body or without', async () => {
  const cancel = (id: string) => api.post(`/v1/runs/${id}/cancel`).set('idempotency-key', 'c1')
  expect((await cancel('run_a')).body.code).toBe('not_found')
  expect((await cancel('run_b')).body.code).toBe('not_found')
  const training_file = await upload(sftDialogues(1, 400))
  const start = async (): Promise<string> =>
    (await api.post('/v1/runs').send({ kind: 'sft', training_file, options: { epochs: 50 } })).body
      .id as string
  const [first, second] = [await start(), await start()]
  expect((await cancel(second)).body.state).toBe('cancelled')
  expect((await cancel(second)).headers['idempotent-replayed']).toBe('true')
  expect((await cancel(first)).body.code).toBe('idempotency_mismatch')
  expect((await api.post(`/v1/runs/${first}/cancel`)).status).toBe(200)
  const label = (n: string) =>
    api.post('/v1/judge').set('idempotency-key', 'c2').send({ comparisons: n })
  expect((await label('a')).status).toBe(422)
})

test('chat: a message of ours comes back as history; transcripts name speakers at word starts', async () => {
  const messages = [
    { role: 'user', content: 'What is 2 plus 3?' },
    { role: 'assistant', content: '5.', refusal: null },
    { role: 'user', content: 'And 2 plus 4?', name: 'me' },
  ]
  expect((await api.post('/v1/chat/completions').send({ messages })).status).toBe(200)
  expect(parseTranscript('User：What does OpenAI: mean? AI：a firm')).toEqual([
    { role: 'user', content: 'What does OpenAI: mean?' },
    { role: 'assistant', content: 'a firm' },
  ])
  expect(parseTranscript('User：世界上有几大洲AI：七大洲')).toHaveLength(2)
})

test('a cursor that is not there, or no more, is refused instead of beginning anew', async () => {
  for (const text of ['a', 'b', 'c']) await upload([{ text }])
  const run = { kind: 'sft' as const, config: {}, seed: 1 }
  const { runId } = await recordRun(services.store, run, async ({ emit }) => {
    await emit({ type: 'progress', stage: 'training', done: 1, total: 1 })
    return {}
  })
  for (const path of [
    ...['/v1/runs', '/v1/models', '/v1/files', '/v1/scores', '/v1/preferences'],
    ...['/v1/judges/starter-audit-judge/audits', '/v1/models/starter-safety/checks'],
    ...['/v1/fine_tuning/jobs', `/v1/fine_tuning/jobs/${runId}/events`],
  ]) {
    const { status, body } = await api.get(`${path}?limit=2&after=bogus`)
    expect([path, status, body.code, body.field]).toEqual([path, 422, 'invalid_request', 'after'])
    expect(body.detail).toContain('"bogus"')
  }
  // a row that was removed while somebody pages
  const all = (await api.get('/v1/files')).body.data as { id: string }[]
  const first = (await api.get('/v1/files?limit=2')).body
  expect(first.last_id).toBe(all[1]?.id)
  const rest = (await api.get(`/v1/files?after=${first.last_id}`)).body.data as { id: string }[]
  expect(rest.map(({ id }) => id)).toEqual(all.slice(2).map(({ id }) => id))
  expect((await api.delete(`/v1/files/${first.last_id}`)).status).toBe(200)
  expect((await api.get(`/v1/files?after=${first.last_id}`)).body.field).toBe('after')
  // the last event of a job ends its list
  const events = `/v1/fine_tuning/jobs/${runId}/events`
  const { last_id } = (await api.get(events)).body as { last_id: string }
  expect((await api.get(`${events}?after=${last_id}`)).body.data).toEqual([])
})
