import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createAdaptorServer } from '@hono/node-server'
import supertest from 'supertest'
import { afterAll, expect, test } from 'vitest'
import { spawnEngine } from '../../src/engine/process/spawn.ts'
import { createApp } from '../../src/http/app.ts'
import { RunReply } from '../../src/schemas/http.ts'
import { createServices } from '../../src/services/services.ts'
import { resumeInterrupted } from '../../src/services/start.ts'
import { prompts } from '../../src/starter/world.ts'
import { openStore } from '../../src/store/store.ts'
import { completion, scriptedServer } from '../helpers/scripted-server.ts'

// A service that ends and begins anew over one data folder; the engine, which holds nothing, stays.
const folder = mkdtempSync(join(tmpdir(), 'libra-label-'))
const serving = await spawnEngine()
async function begin() {
  const store = await openStore(folder)
  const startTraining = () => spawnEngine({ training: true })
  const services = await createServices({ store, serving, startTraining, dataDir: folder })
  const app = createApp(services, join(folder, 'models'))
  return { services, store, api: supertest(createAdaptorServer({ fetch: app.fetch })) }
}
let { services, store, api } = await begin()
afterAll(async () => {
  await services.runner.close()
  await serving.close()
  await store.close()
  rmSync(folder, { recursive: true })
})

const CONCURRENCY = 4
/** questions that were given an answer: those that have none are asked again where their part is */
let asked = 0
let heard: { after: number; call: () => void } | null = null
const server = await scriptedServer(({ user }) => {
  const document = JSON.parse(user.split('=====')[2] ?? '') as Record<string, string>
  const [a, b] = [document['answer_A'], document['answer_B']]
  if (a !== undefined && b !== undefined && (a.length + b.length) % 7 === 0) return completion('?')
  asked++
  if (heard !== null && asked >= heard.after) {
    heard.call()
    heard = null
  }
  if (a === undefined || b === undefined) return completion(user.length % 3 === 0 ? 'B' : 'A')
  return completion(a > b ? 'A' : 'B')
})
afterAll(() => server.close())
/** Waits until the server has been asked so often. */
const reached = (after: number): Promise<void> =>
  new Promise((call) => (heard = { after: asked + after, call }))

const settings = { max_concurrency: CONCURRENCY, max_retries: 0 }
for (const id of ['whole', 'cut', 'again'])
  await api
    .post('/v1/judges')
    .send({ id, kind: 'openai', model: id, base_url: server.baseUrl, settings })
const rows = prompts('train', 1, 150).map(({ messages }) => JSON.stringify({ messages }))
const upload = async (lines: string[]): Promise<string> => {
  const file = Buffer.from(lines.join('\n'))
  const reply = await api.post('/v1/files').field('purpose', 'fine-tune').attach('file', file, 'p')
  return (reply.body as { id: string }).id
}
const all = await upload(rows)
const few = await upload(rows.slice(0, 12))
const start = async (judge: string, training_file: string, more: object = {}): Promise<string> => {
  const options = { max_new_tokens: 8, ...more }
  const body = { judge, training_file, override: ['judge_audit'], options }
  const reply = await api.post('/v1/preferences/label').send(body)
  expect(reply.status, reply.text).toBe(202)
  return (reply.body as { id: string }).id
}
const ended = async (id: string) => {
  await api.get(`/v1/runs/${id}/events`)
  return RunReply.parse((await api.get(`/v1/runs/${id}`)).body)
}
const resume = async (id: string): Promise<void> => {
  const reply = await api.post(`/v1/runs/${id}/resume`)
  expect(reply.status, reply.text).toBe(202)
}
type Summary = { usage: { requests: number; cached: number; cost: number | null } } & object
/** What a run has stored, without what tells one run from another. */
const stored = async (run: string): Promise<string[]> =>
  (await Promise.all((['helpfulness', 'safety'] as const).map((axis) => store.pairsOf(axis))))
    .flat()
    .filter((row) => row.run === run)
    .map(
      ({ axis, prompt, chosen, rejected, probability, orders, chosenSafe, rejectedSafe }) =>
      JSON.stringify({ axis, prompt, chosen, rejected, probability, orders, chosenSafe, rejectedSafe }), // prettier-ignore
    )
    .sort()
const metricsOf = async (run: string) =>
  (await store.metricEvents(run)).map(({ data }) => {
    const all = Object.entries(data['metrics'] as Record<string, number>)
    return { step: data['step'], ...Object.fromEntries(all.filter(([name]) => !name.startsWith('usage/'))) } // prettier-ignore
  })

test('a labelling run that is paused, cancelled and left by its service ends as one that was left alone', async () => {
  const whole = await start('whole', all)
  const { summary } = await ended(whole)
  const { usage, ...figures } = summary as Summary
  expect(figures).toMatchObject({ failures: { unparseable: expect.any(Number) as number } })
  const questions = asked
  const sent = server.received.length
  expect(usage.requests).toBe(sent)

  const id = await start('cut', all)
  await reached(Math.floor(0.3 * questions)) // in the first part
  await api.post(`/v1/runs/${id}/pause`)
  expect((await ended(id)).state).toBe('paused')
  expect(await stored(id)).toEqual([])
  await resume(id)
  await reached(Math.floor(0.55 * questions)) // in the second
  await api.post(`/v1/runs/${id}/cancel`)
  expect((await ended(id)).state).toBe('cancelled')
  const half = await stored(id)
  expect(half.length).toBeGreaterThan(0)

  // as a process that is gone leaves it
  await services.runner.close()
  await store.runs.update(id, { state: 'running', endedAt: null, error: null })
  await store.close()
  ;({ services, store, api } = await begin())
  expect(services.runner.interrupted.map((run) => run.id)).toEqual([id])
  await resumeInterrupted(services)
  const done = await ended(id)
  expect(done.state).toBe('succeeded')
  const { usage: used, ...same } = done.summary as Summary
  expect(same).toEqual(figures)
  expect(await stored(id)).toEqual(await stored(whole))
  expect(await metricsOf(id)).toEqual(await metricsOf(whole))
  const log = (await store.events(id, 0)).map(({ type }) => type)
  expect(log.filter((type) => type === 'resumed')).toHaveLength(2)
  // nothing is asked twice but what was under way at a stop
  const twice = asked - 2 * questions
  expect(twice).toBeGreaterThanOrEqual(0)
  expect(twice).toBeLessThanOrEqual(2 * CONCURRENCY)
  expect(used.cached).toBeGreaterThan(usage.cached)
  // all of it is told; a pair's second question may have been counted and not sent
  expect(used.requests).toBeGreaterThanOrEqual(server.received.length - sent)
  expect(used.requests).toBeLessThanOrEqual(server.received.length - sent + 2)
  expect((await api.post(`/v1/runs/${id}/resume`)).body).toMatchObject({ code: 'not_resumable' })
}, 120_000)

test('asked anew is what the run itself has not asked, and its budget is one', async () => {
  const options = { axes: ['helpfulness'], fresh: true }
  const alone = asked
  await ended(await start('again', few, options))
  const questions = asked - alone
  const id = await start('again', few, options)
  const before = asked
  await reached(10)
  await api.post(`/v1/runs/${id}/cancel`)
  await ended(id)
  await resume(id)
  expect((await ended(id)).state).toBe('succeeded')
  expect(asked - before).toBeGreaterThanOrEqual(questions)
  expect(asked - before).toBeLessThanOrEqual(questions + CONCURRENCY)

  const budget = { requests: 14 }
  const bounded = await start('again', few, { ...options, budget })
  const spent = server.received.length
  await reached(6)
  await api.post(`/v1/runs/${bounded}/pause`)
  await ended(bounded)
  await resume(bounded)
  const { summary } = await ended(bounded)
  expect(server.received.length - spent).toBeLessThanOrEqual(budget.requests)
  expect((summary as Summary).usage.requests).toBeLessThanOrEqual(budget.requests)
  expect(summary).toMatchObject({ failures: { over_budget: expect.any(Number) as number } })
}, 60_000)

test('a run whose judge is another one now does not go on', async () => {
  const id = await start('default', few)
  await api.post(`/v1/runs/${id}/cancel`)
  expect((await ended(id)).state).toBe('cancelled')
  const { judge } = await store.roles()
  await api.put('/v1/roles').send({ judge: 'starter-audit-judge' })
  const { status, body } = await api.post(`/v1/runs/${id}/resume`)
  expect({ status, code: body.code as string }).toEqual({ status: 409, code: 'data_changed' })
  expect(body.detail).toContain('another judge')
  await api.put('/v1/roles').send({ judge })
  await resume(id)
  expect((await ended(id)).state).toBe('succeeded')
}, 60_000)
