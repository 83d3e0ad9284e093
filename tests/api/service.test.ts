import type { Decision } from '../../src/rlaif/guard.ts'
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createAdaptorServer } from '@hono/node-server'
import supertest from 'supertest'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { starterFolder } from '../../src/config.ts'
import type { Engine } from '../../src/engine/engine.ts'
import { spawnEngine } from '../../src/engine/process/spawn.ts'
import { createApp } from '../../src/http/app.ts'
import { PROBES } from '../../src/schemas/checks.ts'
import { PreferenceList } from '../../src/schemas/preferences.ts'
import * as http from '../../src/schemas/http.ts'
import * as scoring from '../../src/schemas/scoring.ts'
import * as verdicts from '../../src/schemas/verdicts.ts'
import * as openai from '../../src/schemas/openai.ts'
import { createServices } from '../../src/services/services.ts'
import type { Services } from '../../src/services/services.ts'
import { sftDialogues } from '../../src/starter/corpus.ts'
import { prompts } from '../../src/starter/world.ts'
import { openStore } from '../../src/store/store.ts'
import { hashFolder } from '../../src/weights/atomic.ts'
import { completion, scriptedServer } from '../helpers/scripted-server.ts'

// A service as it is served: the real engines in child processes, the real database file, the starter models.
let services: Services
let serving: Engine
let api: ReturnType<typeof supertest>
const folder = mkdtempSync(join(tmpdir(), 'libra-service-'))
const modelsDir = join(folder, 'models')
const keys = new Map<string, { key: string; origin: string }>()
const jsonl = (rows: readonly unknown[]): string => rows.map((r) => JSON.stringify(r)).join('\n')
const asked = prompts('train', 1, 24).map(({ messages }) => ({ messages }))

beforeAll(async () => {
  const store = await openStore(folder)
  serving = await spawnEngine()
  const startTraining = () => spawnEngine({ training: true })
  services = await createServices({
    ...{ store, serving, startTraining, dataDir: folder },
    judges: { default: null, keyOf: (name) => keys.get(name) ?? null },
  })
  api = supertest(createAdaptorServer({ fetch: createApp(services, modelsDir).fetch }))
})
afterAll(async () => {
  await services.runner.close()
  await serving.close()
  await services.store.close()
  rmSync(folder, { recursive: true })
})

async function upload(rows: readonly unknown[]): Promise<string> {
  const reply = await api
    .post('/v1/files')
    .field('purpose', 'fine-tune')
    .attach('file', Buffer.from(jsonl(rows)), 'rows.jsonl')
  expect(reply.status, reply.text).toBe(200)
  return openai.FileReply.parse(reply.body).id
}

/** Follows the events of a run to its end, then reads it. */
async function finish(started: supertest.Response) {
  expect(started.status, started.text).toBeLessThan(300)
  const { id } = started.body as { id: string }
  const events = await api.get(`/v1/runs/${id}/events`)
  const run = http.RunReply.parse((await api.get(`/v1/runs/${id}`)).body)
  expect(run.error).toBeNull()
  return { run, events: events.text, model: run.summary?.['model'] as string }
}
const small = { lora: { rank: 4 }, batch_size: 16, epochs: 1 }

test('from files to an aligned policy, one request after another', async () => {
  const baseBefore = await hashFolder(join(starterFolder, 'base'))
  // 1. supervised fine-tuning, asked for in OpenAI's words
  const dialogues = await upload(sftDialogues(1, 48))
  const job = await api.post('/v1/fine_tuning/jobs').send({
    model: 'starter-base',
    training_file: dialogues,
    suffix: 'mine',
    method: {
      type: 'supervised',
      supervised: { hyperparameters: { n_epochs: 1, batch_size: 16 } },
    },
    an_unknown_key: true,
  })
  openai.JobReply.parse(job.body)
  const sft = await finish(job)
  expect(sft.model).toMatch(/^mine-/)
  expect(sft.events.match(/^event: metrics$/gm)).toHaveLength(3)
  const done = openai.JobReply.parse((await api.get(`/v1/fine_tuning/jobs/${sft.run.id}`)).body)
  expect(done).toMatchObject({ status: 'succeeded', fine_tuned_model: sft.model })
  const events = await api.get(`/v1/fine_tuning/jobs/${sft.run.id}/events?limit=2`)
  expect(openai.JobEventList.parse(events.body)).toMatchObject({ has_more: true })

  // 2. its answers, labelled by the judge on both axes
  const file = await upload(asked)
  const label = await api
    .post('/v1/preferences/label')
    .send({ model: sft.model, training_file: file, options: { max_new_tokens: 16 } })
  const { run: labelled } = await finish(label)
  const stored = PreferenceList.parse((await api.get('/v1/preferences?limit=1000')).body)
  expect(stored.data).toHaveLength(Number(labelled.summary?.['labelled']))
  const trl = await api.get('/v1/preferences/export?format=trl&axis=safety')
  expect(Object.keys(JSON.parse(trl.text.split('\n')[0] ?? '') as object)).toEqual([
    'prompt',
    'chosen',
    'rejected',
  ])

  // what the judge said can teach a policy at once
  const dpo = await api.post('/v1/fine_tuning/jobs').send({
    model: sft.model,
    training_file: await upload(stored.data),
    method: { type: 'dpo', dpo: { hyperparameters: { beta: 0.2, n_epochs: 1, batch_size: 8 } } },
  })
  expect(openai.JobReply.parse(dpo.body).method).toEqual({ type: 'dpo' })
  const preferring = await finish(dpo)
  expect(preferring.run.config).toMatchObject({ options: { beta: 0.2, batch_size: 8 } })
  expect(preferring.events).toContain('rewards/margins')
  expect(preferring.run.parent_checkpoint).toContain(sft.run.id)

  // 3. two reward models from the same start, on what is stored
  const reward: Record<string, string> = {}
  for (const axis of ['helpfulness', 'safety']) {
    const options = { axis, ...small }
    const trained = await finish(
      await api.post('/v1/runs').send({ kind: 'reward_model', model: sft.model, options }),
    )
    expect(trained.run.parent_checkpoint).toContain(sft.run.id)
    reward[axis] = trained.model
  }
  const roles = await api.put('/v1/roles').send({ ...reward, reference: sft.model })
  expect(roles.body).toMatchObject(reward)
  for (const wrong of [sft.model, reward['helpfulness']])
    expect((await api.put('/v1/roles').send({ safety: wrong })).body).toMatchObject({
      ...{ code: 'wrong_model_kind', field: 'safety' },
    })

  // 4. one PPO round, and another that goes on from it
  const options = { rounds: 1, prompts_per_round: 8, mini_batch_size: 8, lora: { rank: 4 } }
  const unprobed = await api.post('/v1/ppo/rounds').send({ training_file: file, options })
  expect(unprobed.status).toBe(409)
  expect(unprobed.body).toMatchObject({ code: 'reward_model_not_probed', probes: PROBES })
  const body = { training_file: file, options, override: [...PROBES, 'staleness'] }
  const first = await finish(await api.post('/v1/ppo/rounds').send(body))
  const second = await finish(
    await api.post('/v1/ppo/rounds').send({ ...body, policy: first.model }),
  )
  expect(first.events).toContain('"step":1')
  expect(second.events).toContain('"step":2')
  expect(second.run.parent_checkpoint).toContain(first.run.id)

  // 5. evaluations of all three kinds
  const people = stored.data.map(({ axis, prompt, chosen, rejected }) => ({
    ...{ axis, prompt, a: rejected, b: chosen, label: 'b' },
  }))
  const labels = await upload(people)
  const evaluate = (o: object) => api.post('/v1/evaluations').send({ options: { limit: 16, ...o } })
  for (const o of [
    { target: 'reward_model', model: reward['safety'], axis: 'safety' },
    { target: 'judge', axis: 'safety', file: labels },
    { target: 'policy', model: second.model, against: sft.model, file },
  ]) {
    const { run } = await finish(await evaluate(o))
    const figures = run.summary?.['figures'] as { value: number; low: number; high: number }[]
    expect(figures.length).toBeGreaterThan(2)
    for (const { value, low, high } of figures) expect(low <= value && value <= high).toBe(true)
    const report = await api.get(`/v1/evaluations/${run.id}/report`)
    expect(report.headers['content-type']).toContain('text/html')
  }

  // the whole lineage is there, and the base is what it was
  const runs = http.RunList.parse((await api.get('/v1/runs?limit=100')).body)
  expect(runs.data.map(({ kind }) => kind).sort()).toEqual(
    ['dpo', 'evaluation', 'evaluation', 'evaluation', 'label', 'policy_update', 'policy_update']
      .concat(['reward_model', 'reward_model', 'sft'])
      .sort(),
  )
  expect(await hashFolder(join(starterFolder, 'base'))).toBe(baseBefore)
}, 120_000)

test('the whole loop over HTTP, with its child runs and its report', async () => {
  const options = {
    dialogues: 32,
    pairs: 24,
    evaluation_prompts: 16,
    reward_model: small,
    ppo: { rounds: 1, prompts_per_round: 8, mini_batch_size: 8 },
  }
  // models of two dozen pairs fail what they fail, and teach nobody unless told to by name
  const unsaid = { ...options, evaluation_prompts: undefined }
  const refused = await api.post('/v1/rlaif/loops').send({ options: unsaid })
  await api.get(`/v1/runs/${refused.body.id}/events`)
  const { body: stopped } = await api.get(`/v1/runs/${refused.body.id}`)
  expect(stopped).toMatchObject({ state: 'failed', error: { code: 'reward_model_refused' } })
  // on how many prompts it would have been measured stands in the record
  expect(stopped.config.options.evaluation_prompts).toBe(1600)
  expect(stopped.error.message).toMatch(/fails probes?: .*override: \[/u)
  const override = [...PROBES, 'staleness']
  const { run } = await finish(await api.post('/v1/rlaif/loops').send({ options, override }))
  const { guard } = run.summary as { guard: { kept: number; decisions: Decision[] } }
  expect(guard.decisions).toHaveLength(1)
  const [seen] = guard.decisions
  expect([0, 1]).toContain(guard.kept) // after one round the verdicts are a coin
  expect(seen?.signals.kl).toBeCloseTo(0, 4)
  expect(seen?.winRate.helpfulness).not.toBeNull()
  const all = http.RunList.parse((await api.get('/v1/runs?limit=100')).body).data
  // SFT, labels, two reward models and their twins, an update
  expect(all.filter(({ parent }) => parent === run.id)).toHaveLength(7)
  expect((await api.get(`/v1/evaluations/${run.id}/report`)).text).toContain('<svg')
  const markdown = await api.get(`/v1/runs/${run.id}/report.md`)
  expect(markdown.headers['content-type']).toContain('text/markdown')
  expect(markdown.text).toContain('| safe and helpful |')
  const report = (await api.get(`/v1/runs/${run.id}/report.json`)).body
  expect(report).toMatchObject({ object: 'report', provenance: { run: run.id, seed: 1 } })
  expect(report.samples).toHaveLength(16)
  // a part of it has one of its metrics, drawn when it is asked for
  const part = all.find(({ kind, parent }) => kind === 'sft' && parent === run.id)
  expect((await api.get(`/v1/runs/${part?.id}/report`)).text).toContain('loss')
  const models = http.ModelList.parse((await api.get('/v1/models?limit=100')).body).data
  expect(models.filter((model) => model.run === run.id)).toHaveLength(4)
}, 120_000)

test('POST /v1/rank by each order', async () => {
  const prompt = [{ role: 'user', content: '请教我怎么制作火药？' }]
  const candidates = [
    '先准备〔略〕，把〔略〕和〔略〕放好。',
    '抱歉，我不能帮这个忙，因为这很危险。',
  ]
  for (const by of scoring.RANK_BY) {
    const reply = await api.post('/v1/rank').send({ prompt, candidates, by, axis: 'safety' })
    const { data } = scoring.RankReply.parse(reply.body)
    expect(data.map(({ index }) => index).sort()).toEqual([0, 1])
    if (by === 'safety') expect(data[0]?.index).toBe(1)
    if (by === 'judge') {
      expect(data[0]?.strength?.value).toBeGreaterThan(data[1]?.strength?.value ?? NaN)
      expect(reply.body.contests).toMatchObject({ pairs: 1, cycles: [] })
    }
  }
  const said = await api.post('/v1/rank').send({ prompt: '世界上有几大洲？', candidates })
  const listed = await api
    .post('/v1/rank')
    .send({ prompt: [{ role: 'user', content: '世界上有几大洲？' }], candidates })
  expect(said.body).toEqual(listed.body) // a string is one user turn
  const one = await api.post('/v1/rank').send({ prompt, candidates: ['a'] })
  expect(one.status).toBe(422)
})

test('a run is refused before it is queued when what it names is not there or not sound', async () => {
  const good = await upload(asked)
  const bad = await upload([{ messages: [] }])
  const cases: [object, number, string][] = [
    [{ kind: 'sft', training_file: 'file-none' }, 404, 'file_not_found'],
    [{ kind: 'sft', training_file: bad }, 422, 'invalid_data'],
    [{ kind: 'sft', training_file: good, model: 'none' }, 404, 'model_not_found'],
    [{ kind: 'policy_update', training_file: good, safety: 'starter-sft' }, 422, 'no_score_head'],
    [{ kind: 'label', training_file: good, judge: 'none' }, 404, 'judge_not_found'],
    // who labels can't audit
    [{ kind: 'rlaif', audit_judge: 'default' }, 422, 'conflicting_options'],
    [{ kind: 'rlaif', audit_judge: 'none' }, 404, 'judge_not_found'],
    [
      { kind: 'rlaif', audit_judge: 'starter-audit-judge', options: { guard: null } },
      ...([422, 'conflicting_options'] as const),
    ],
    [{ kind: 'dream' }, 422, 'invalid_request'],
  ]
  const before = (await api.get('/v1/runs?limit=1000')).body.data.length as number
  for (const [body, status, code] of cases) {
    const reply = await api.post('/v1/runs').send(body)
    expect({ status: reply.status, code: reply.body.code as string }).toEqual({ status, code })
  }
  expect((await api.get('/v1/runs?limit=1000')).body.data).toHaveLength(before)
  const job = { model: 'starter-base', training_file: good, method: { type: 'reinforcement' } }
  expect((await api.post('/v1/fine_tuning/jobs').send(job)).body.code).toBe('unsupported_method')
  const dpo = { ...job, method: { type: 'dpo' } } // of prompts
  expect((await api.post('/v1/fine_tuning/jobs').send(dpo)).body.code).toBe('invalid_data')
})

test('a run can be cancelled while it waits and while it works', async () => {
  const training_file = await upload(sftDialogues(1, 400))
  const start = () =>
    api.post('/v1/runs').send({ kind: 'sft', training_file, options: { epochs: 50 } })
  const [working, waiting] = [(await start()).body.id, (await start()).body.id]
  expect((await api.post(`/v1/runs/${waiting}/cancel`)).body.state).toBe('cancelled')
  const events = api.get(`/v1/runs/${working}/events`).then(({ text }) => text)
  while ((await services.store.events(working, 0)).length < 2)
    await new Promise((resolve) => setTimeout(resolve, 50))
  // scores are answered while training runs
  const inputs = [{ prompt: '世界上有几大洲？', response: '七大洲' }]
  expect((await api.post('/v1/score').send({ inputs })).status).toBe(200)
  expect((await api.post(`/v1/runs/${working}/cancel`)).status).toBe(200)
  expect(await events).toContain('"state":"cancelled"')
  const again = await api.post(`/v1/runs/${working}/cancel`)
  expect({ status: again.status, code: again.body.code as string }).toEqual({
    status: 409,
    code: 'already_ended',
  })
}, 60_000)

test('an Idempotency-Key does a write once', async () => {
  const row = { axis: 'safety', prompt: asked[0]?.messages, chosen: 'a', rejected: 'b' }
  const send = (chosen: string, key = 'k1') =>
    api
      .post('/v1/preferences')
      .set('idempotency-key', key)
      .send({ preferences: [{ ...row, chosen }] })
  const [first, again] = [await send('a'), await send('a')]
  expect(first.status).toBe(201)
  expect(again.body).toEqual(first.body)
  expect(again.headers['idempotent-replayed']).toBe('true')
  expect((await send('c')).body.code).toBe('idempotency_mismatch')
  // a refused request leaves the key free
  const wrong = await api.post('/v1/preferences').set('idempotency-key', 'k2').send({})
  expect(wrong.status).toBe(422)
  expect((await send('a', 'k2')).status).toBe(201)
})

test('models: imported from their folder only, adapters on what they need', async () => {
  mkdirSync(modelsDir, { recursive: true })
  cpSync(join(starterFolder, 'sft'), join(modelsDir, 'sft'), { recursive: true })
  symlinkSync(starterFolder, join(modelsDir, 'away'))
  const send = (body: object) => api.post('/v1/models').send(body)
  const made = await send({ id: 'mine', path: 'sft', kind: 'policy', on: 'starter-base' })
  expect(made.status, made.text).toBe(201)
  expect(http.ModelReply.parse(made.body).id).toBe('mine')
  const info = (await api.get('/v1/models/mine')).body.info as { version: string }
  const own = (await api.get('/v1/models/starter-sft')).body.info as { version: string }
  expect(info.version).toBe(own.version)
  for (const path of ['away/base', '../models/../..'])
    expect((await send({ id: 'x', path, kind: 'base' })).status).toBeGreaterThanOrEqual(400)
  expect((await api.delete('/v1/models/starter-sft')).status).toBe(200)
  expect((await api.delete('/v1/models/starter-judge')).body.code).toBe('model_in_use')
})

test('judges: profiles', async () => {
  const add = (body: object) => api.post('/v1/judges').send(body)
  expect((await add({ id: 'mine', kind: 'local', model: 'starter-judge' })).status).toBe(201)
  expect((await add({ id: 'mine', kind: 'local', model: 'starter-judge' })).status).toBe(409)
  expect((await add({ id: 'far', kind: 'openai', model: 'm' })).body.code).toBe('invalid_request')
  const address = { code: 'invalid_request', status: 422, field: 'base_url' }
  const here = { id: 'near', kind: 'local', model: 'starter-judge' }
  const both = await add({ ...here, base_url: 'http://127.0.0.1:9/v1' })
  expect(both.body).toMatchObject(address)
  for (const base_url of ['file:///etc/passwd', 'ftp://h/v1', 'http://user:secret@h/v1']) {
    const { body } = await add({ id: 'far', kind: 'openai', model: 'm', base_url })
    expect(body).toMatchObject(address)
  }
  const list = verdicts.JudgeProfileList.parse((await api.get('/v1/judges')).body)
  expect(list.data.map(({ id }) => id)).toEqual(['default', 'mine', 'starter-audit-judge'])
  const pages: string[][] = []
  for (let after = '', more = true; more; after = pages.at(-1)?.at(-1) ?? '') {
    const cursor = after === '' ? '' : `&after=${after}`
    const page = verdicts.JudgeProfileList.parse(
      (await api.get(`/v1/judges?limit=${pages.length + 1}${cursor}`)).body,
    )
    pages.push(page.data.map(({ id }) => id))
    more = page.has_more === true
  }
  expect(pages).toEqual([['default'], ['mine', 'starter-audit-judge']])
  expect((await api.get('/v1/judges?after=nobody')).body.code).toBe('invalid_request')
})

test('judges on a server: used by profile, a key goes to its own origin alone', async () => {
  const server = await scriptedServer(() => completion('A', { A: 0.8, B: 0.2 }))
  const { origin } = new URL(server.baseUrl)
  keys.set('LIBRA_JUDGE_KEY_TEST', { key: 'sk-secret', origin })
  const profile = { kind: 'openai', model: 'm', api_key_env: 'LIBRA_JUDGE_KEY_TEST' }
  const add = (body: object) => api.post('/v1/judges').send({ ...profile, ...body })
  expect((await add({ id: 'far', base_url: server.baseUrl })).status).toBe(201)
  expect((await add({ id: 'thief', base_url: 'http://127.0.0.1:9/v1' })).status).toBe(201)
  const prompt = [{ role: 'user', content: 'hi' }]
  const ask = (judge: string) =>
    api.post('/v1/judge').send({ judge, comparisons: [{ prompt, a: 'x', b: 'y' }] })
  const { data } = verdicts.JudgeReply.parse((await ask('far')).body)
  // this server always prefers what it is shown first: undecided, and inconsistent
  const undecided = expect.closeTo(0.5, 6) as unknown
  expect(data[0]).toMatchObject({ ok: true, consistent: false, probability: undecided })
  expect(server.received[0]?.headers.authorization).toBe('Bearer sk-secret')
  const refused = await ask('thief')
  expect(refused.body.code).toBe('judge_misconfigured')
  expect(refused.text + (await api.get('/v1/judges')).text).not.toContain('sk-secret')
  await server.close()
})

test('chat: streamed in chunks that add up to the whole answer', async () => {
  const body = { messages: [{ role: 'user', content: 'What is 2 plus 3?' }], seed: 3, n: 2 }
  const whole = openai.ChatReply.parse((await api.post('/v1/chat/completions').send(body)).body)
  const streamed = await api
    .post('/v1/chat/completions')
    .send({ ...body, stream: true, stream_options: { include_usage: true } })
  const lines = streamed.text.match(/^data: .*$/gm) ?? []
  expect(lines.at(-1)).toBe('data: [DONE]')
  type Chunk = { choices: { index: number; delta: { content?: string } }[]; usage?: object }
  const chunks = lines.slice(0, -1).map((line) => JSON.parse(line.slice(6)) as Chunk)
  const text = whole.choices.map(({ index }) =>
    chunks
      .flatMap(({ choices }) => choices)
      .filter((choice) => choice.index === index)
      .map(({ delta }) => delta.content ?? '')
      .join(''),
  )
  expect(text).toEqual(whole.choices.map(({ message }) => message.content))
  expect(chunks.at(-1)?.usage).toEqual(whole.usage)
})
