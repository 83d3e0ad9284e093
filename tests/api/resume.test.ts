import { expect, test } from 'vitest'
import { sftDialogues } from '../../src/starter/corpus.ts'
import { createRunner } from '../../src/services/runs.ts'
import { resumeInterrupted } from '../../src/services/start.ts'
import { service } from '../helpers/service.ts'

const { api, services } = await service()
const { store } = services

async function upload(rows: readonly unknown[]): Promise<string> {
  const text = rows.map((row) => JSON.stringify(row)).join('\n')
  const reply = await api
    .post('/v1/files')
    .field('purpose', 'fine-tune')
    .attach('file', Buffer.from(text), 'rows.jsonl')
  return (reply.body as { id: string }).id
}
const dialogues = await upload(sftDialogues(1, 64))
const request = {
  ...{ kind: 'sft', training_file: dialogues },
  options: { batch_size: 2, epochs: 1, checkpoint_every: 1, lora: { rank: 2 } },
}
const tiny = {
  ...{ hidden_size: 16, layers: 1, heads: 2, kv_heads: 1, intermediate_size: 24 },
  context: 64,
}
const pretrain = {
  ...{ kind: 'pretrain', training_file: dialogues, tokenizer: 'starter-base' },
  options: { batch_size: 2, checkpoint_every: 1, architecture: tiny },
}
const start = async (body: object): Promise<string> =>
  ((await api.post('/v1/runs').send(body)).body as { id: string }).id
const types = async (id: string): Promise<string[]> =>
  (await store.events(id, 0)).map(({ type }) => type)
const metricsOf = async (id: string): Promise<unknown[]> =>
  (await store.metricEvents(id)).map(({ data }) => data)
const stateOf = async (id: string): Promise<string | undefined> => (await store.runs.get(id))?.state

/** Starts a run and cancels it after some steps. */
async function cancelled(request: object): Promise<string> {
  const id = await start(request)
  while ((await store.metricEvents(id)).length < 3) await new Promise((r) => setTimeout(r, 5))
  await api.post(`/v1/runs/${id}/cancel`)
  await api.get(`/v1/runs/${id}/events`)
  expect(await stateOf(id)).toBe('cancelled')
  return id
}

test.each([request, pretrain])(
  'a cancelled run of $kind goes on where it was and ends as one that was left alone',
  async (request) => {
    const whole = await start(request)
    await api.get(`/v1/runs/${whole}/events`)
    const id = await cancelled(request)
    const before = await store.events(id, 0)
    expect((await api.post(`/v1/runs/${id}/resume`)).status).toBe(202)
    // it is at work: once is enough
    const twice = await api.post(`/v1/runs/${id}/resume`)
    expect({ status: twice.status, code: twice.body.code as string }).toEqual({
      ...{ status: 409, code: 'not_resumable' },
    })
    await api.get(`/v1/runs/${id}/events`)
    expect(await stateOf(id)).toBe('succeeded')
    expect((await types(id)).filter((type) => type === 'resumed' || type === 'started')).toEqual([
      ...['started', 'resumed'],
    ])
    expect(await metricsOf(id)).toEqual(await metricsOf(whole))
    // the numbers of events that were taken off are not given again
    const last = before.at(-1)?.seq ?? 0
    const added = (await store.events(id, 0)).filter(
      ({ seq }) => !before.some((event) => event.seq === seq),
    )
    expect(Math.min(...added.map(({ seq }) => seq))).toBe(last + 1)
    const done = await api.post(`/v1/runs/${id}/resume`)
    expect({ status: done.status, code: done.body.code as string }).toEqual({
      ...{ status: 409, code: 'not_resumable' },
    })
  },
  60_000,
)

test('what can’t go on is refused', async () => {
  expect((await api.post('/v1/runs/run_none/resume')).status).toBe(404)
  const options = { target: 'policy', limit: 1, max_new_tokens: 2 }
  const id = await start({ kind: 'evaluation', options })
  await api.get(`/v1/runs/${id}/events`)
  const { status, body } = await api.post(`/v1/runs/${id}/resume`)
  expect({ status, code: body.code as string }).toEqual({ status: 409, code: 'not_resumable' })
})

test('a run whose data are others now does not go on', async () => {
  const pair = (chosen: string) => ({
    ...{ axis: 'safety', prompt: [{ role: 'user', content: 'hello' }], chosen, rejected: 'no' },
  })
  const six = ['a', 'b', 'c', 'd', 'e', 'f'].map(pair)
  await api.post('/v1/preferences').send({ preferences: six })
  const id = await start({ kind: 'dpo', options: { batch_size: 1, epochs: 40, lora: { rank: 2 } } })
  while ((await store.metricEvents(id)).length < 1) await new Promise((r) => setTimeout(r, 5))
  await api.post(`/v1/runs/${id}/cancel`)
  await api.get(`/v1/runs/${id}/events`)
  await api.post('/v1/preferences').send({ preferences: [pair('g')] })
  const { status, body } = await api.post(`/v1/runs/${id}/resume`)
  expect({ status, code: body.code as string }).toEqual({ status: 409, code: 'data_changed' })
})

test.each([
  ['at the same step', (step: number) => ({ step })],
  [
    // of two parts that go side by side the other got on
    'at the same step of one part',
    (step: number, tries: number) => ({ step: step + tries, at: { slow: 7, quick: step + tries } }),
  ],
])(
  'a run that ends the service %s again and again fails as a crash loop',
  async (_, data) => {
    const id = await cancelled(request)
    const step = (await store.metricEvents(id)).length
    const at = Date.now()
    for (let tries = 0; tries < 3; tries++) {
      const seq = (await store.lastSeq(id)) + 1
      await store.appendEvents([{ run: id, seq, at, type: 'resumed', data: data(step, tries) }])
    }
    // as a process that is gone leaves it
    await store.runs.update(id, { state: 'running', endedAt: null })
    const runner = await createRunner(store)
    expect(runner.interrupted.map((run) => run.id)).toEqual([id])
    await resumeInterrupted({ ...services, runner })
    expect(await store.runs.get(id)).toMatchObject({
      state: 'failed',
      error: { code: 'crash_loop' },
    })
    // by hand it may
    expect((await api.post(`/v1/runs/${id}/resume`)).status).toBe(202)
    await api.get(`/v1/runs/${id}/events`)
    expect(await stateOf(id)).toBe('succeeded')
  },
  60_000,
)
