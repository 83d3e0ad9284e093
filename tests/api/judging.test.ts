import { expect, test } from 'vitest'
import * as http from '../../src/schemas/http.ts'
import * as verdicts from '../../src/schemas/verdicts.ts'
import { prompts } from '../../src/starter/world.ts'
import { scriptedServer, completion } from '../helpers/scripted-server.ts'
import type { Scripted } from '../helpers/scripted-server.ts'
import { service } from '../helpers/service.ts'
import { starterRoles } from '../starter-roles.ts'

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
const finish = async (started: { status: number; text: string; body: { id: string } }) => {
  expect(started.status, started.text).toBe(202)
  await api.get(`/v1/runs/${started.body.id}/events`)
  return http.RunReply.parse((await api.get(`/v1/runs/${started.body.id}`)).body)
}
const question = [{ role: 'user', content: '世界上有几大洲？' }]
const asked = prompts('train', 1, 8).map(({ messages }) => ({ messages }))

test('the same comparison again costs nothing and says so; `fresh` asks anew', async () => {
  const ask = async (more: object = {}) => {
    const comparisons = [{ prompt: question, a: '七大洲。', b: '谁来告诉我呀' }]
    const reply = await api.post('/v1/judge').send({ comparisons, ...more })
    return verdicts.JudgeReply.parse(reply.body)
  }
  const [first, again, fresh] = [await ask(), await ask(), await ask({ fresh: true })]
  expect(first.data[0]).toMatchObject({ ok: true, cached: false, soft: true })
  expect(first.usage).toMatchObject({ requests: 2, cached: 0 })
  expect(again.data[0]).toEqual({ ...first.data[0], cached: true })
  expect(again.usage).toMatchObject({ requests: 0, cached: 2 })
  expect(fresh.usage).toMatchObject({ requests: 2, cached: 0 })
})

test('labelling over a server: failures counted by type, cost told, a second run pays for what failed alone', async () => {
  let broken = true
  const reply = (content: string): Scripted => {
    const { body } = completion(content) as { body: object }
    const usage = { prompt_tokens: 100, completion_tokens: 1, total_tokens: 101 }
    return { body: { ...body, usage } }
  }
  // longer document first: B, else A, so that it depends on the answers and not on the place
  const server = await scriptedServer(({ user }) => {
    if (!user.includes('"answer_A"')) return reply('A') // about one answer alone
    const document = JSON.parse(user.split('=====')[2] ?? '') as Record<string, string>
    const [a = '', b = ''] = [document['answer_A'], document['answer_B']]
    if (broken && a.length % 2 === 0) return reply('?')
    return reply(a > b ? 'A' : 'B')
  })
  const settings = { max_retries: 0, price: { prompt: 1, completion: 2 } }
  const profile = { id: 'far', kind: 'openai', model: 'm', base_url: server.baseUrl, settings }
  expect((await api.post('/v1/judges').send(profile)).status).toBe(201)
  const training_file = await upload(asked)
  const override = ['judge_audit']
  const body = { judge: 'far', training_file, override, options: { max_new_tokens: 16 } }
  const label = async (options: object = {}) =>
    (
      await finish(
        await api
          .post('/v1/preferences/label')
          .send({ ...body, options: { ...body.options, ...options } }),
      )
    ).summary as {
      labelled: number
      failed: number
      failures: Record<string, number>
      usage: { requests: number; cached: number; cost: number }
    }
  const first = await label()
  expect(first.failed).toBeGreaterThan(0)
  expect(first.failures).toEqual({ unparseable: first.failed })
  expect(first.usage.requests).toBe(server.received.length)
  expect(first.usage.cost).toBeCloseTo((first.usage.requests * 102) / 1e6, 9)
  broken = false
  const sent = server.received.length
  const second = await label()
  expect(second.failed).toBe(0)
  expect(server.received.length - sent).toBe(second.usage.requests)
  expect(second.usage.requests).toBeLessThan(sent / 2)
  expect(second.usage.cached).toBeGreaterThan(sent / 2)
  // a budget that is used up is a failure with a name, and no pair
  const third = await label({ fresh: true, axes: ['helpfulness'], budget: { requests: 4 } })
  expect(third.labelled).toBe(2)
  expect(third.failures).toEqual({ over_budget: third.failed })
  await server.close()
})

test('a labelling run that fails or is cancelled tells what it has used so far', async () => {
  let wrong = true
  let begun = (): void => {}
  const server = await scriptedServer((_, i) => {
    if (!wrong && i > 12) begun()
    if (i < 5) return completion('A')
    return wrong ? { status: 401, body: {} } : { ...(completion('A') as object), delayMs: 200 } as Scripted // prettier-ignore
  })
  const settings = { max_concurrency: 1, max_retries: 0 }
  const profile = { id: 'ending', kind: 'openai', model: 'm', base_url: server.baseUrl, settings }
  await api.post('/v1/judges').send(profile)
  const options = { max_new_tokens: 16, fresh: true }
  const training_file = await upload(asked)
  const body = { judge: 'ending', training_file, override: ['judge_audit'], options }
  const last = async (id: string) =>
    (await services.store.metricEvents(id)).at(-1)?.data['metrics'] as Record<string, number>
  const failed = await finish(await api.post('/v1/preferences/label').send(body))
  expect(failed).toMatchObject({ state: 'failed', error: { code: 'judge_misconfigured' } })
  expect((await last(failed.id))['usage/requests']).toBeGreaterThanOrEqual(6)
  wrong = false
  const half = new Promise<void>((resolve) => (begun = resolve))
  const { id } = (await api.post('/v1/preferences/label').send(body)).body as { id: string }
  await half
  await api.post(`/v1/runs/${id}/cancel`)
  await api.get(`/v1/runs/${id}/events`)
  expect((await services.store.runs.get(id))?.state).toBe('cancelled')
  expect(await last(id)).toMatchObject({ labelled: 0 })
  expect((await last(id))['usage/requests']).toBeGreaterThan(0)
  await server.close()
})

test('two hard votes that contradict each other are no label', async () => {
  const server = await scriptedServer(() => completion('A')) // always the first
  const profile = { id: 'first', kind: 'openai', model: 'm', base_url: server.baseUrl }
  await api.post('/v1/judges').send(profile)
  const options = { max_new_tokens: 16, axes: ['helpfulness'] }
  const training_file = await upload(asked.slice(0, 4))
  const body = { judge: 'first', training_file, override: ['judge_audit'], options }
  const before = (await services.store.pairsOf('helpfulness')).length
  const { summary } = await finish(await api.post('/v1/preferences/label').send(body))
  expect(summary).toMatchObject({ labelled: 0, consistent: 0 })
  expect(summary?.['failures']).toEqual({ inconsistent: summary?.['failed'] })
  expect((await services.store.pairsOf('helpfulness')).length).toBe(before)
  // asked in one order, drawn from the seed, nobody can tell
  const drawn = { ...body, options: { ...options, positions: 'drawn', seed: 5 } }
  const one = await finish(await api.post('/v1/preferences/label').send(drawn))
  expect(Number(one.summary?.['labelled'])).toBeGreaterThan(0)
  await server.close()
})

test('what contradicts itself in plain words is no verdict of /v1/judge and no place in a ranking', async () => {
  let first: Record<string, number> | undefined
  const server = await scriptedServer(() => completion('[[A]]', first))
  const profile = { kind: 'openai', base_url: server.baseUrl }
  for (const id of ['words', 'soft'])
    await api.post('/v1/judges').send({ ...profile, id, model: id })
  const comparisons = [{ prompt: question, a: 'x', b: 'y' }]
  const ask = async (judge: string, more: object = {}) =>
    (await api.post('/v1/judge').send({ judge, comparisons, fresh: true, ...more })).body
  const rank = async (judge: string) =>
    (await api.post('/v1/rank').send({ by: 'judge', judge, prompt: question, candidates: ['x', 'y'] })).body // prettier-ignore
  const inconsistent = [{ ok: false, failure: 'inconsistent' }]
  expect((await ask('words')).data).toMatchObject(inconsistent)
  expect((await ask('words', { absolute: true })).data).toMatchObject(inconsistent)
  const one = await ask('words', { positions: 'drawn' })
  expect(one.data).toMatchObject([{ ok: true, consistent: null }]) // nobody can tell
  const refused = await rank('words')
  expect(refused).toMatchObject({ code: 'judge_failed', status: 424 })
  expect(refused.detail).toContain('inconsistent')

  // soft verdicts are averaged, however far they fall apart
  first = { A: 0.75, B: 0.25 }
  expect((await ask('soft')).data).toMatchObject([
    { ok: true, probability: expect.closeTo(0.5, 12) as unknown, consistent: false },
  ])
  expect((await ask('soft', { inconsistent: 'exclude' })).data).toMatchObject(inconsistent)
  expect((await rank('soft')).contests).toMatchObject({ pairs: 1, ties: 1, inconsistent: 1 })
  await server.close()
})

test('a budget in money needs prices', async () => {
  const body = { comparisons: [{ prompt: question, a: 'x', b: 'y' }], budget: { cost: 1 } }
  const reply = await api.post('/v1/judge').send({ ...body, judge: 'first' })
  expect(reply.body).toMatchObject({ code: 'judge_misconfigured', field: 'budget.cost' })
})

test('a local judge keeps a budget of requests and refuses one of what it does not count', async () => {
  const comparisons = [{ prompt: question, a: '七大洲。', b: '两大洲。' }]
  const ask = async (budget: object) =>
    (await api.post('/v1/judge').send({ comparisons, budget, compare_by: 'letter', fresh: true }))
      .body
  const over = await ask({ requests: 1 })
  expect(over.data).toMatchObject([{ ok: false, failure: 'over_budget' }])
  expect(over.usage.requests).toBe(0)
  expect((await ask({ requests: 2 })).data).toMatchObject([{ ok: true }])
  for (const field of ['tokens', 'cost'])
    expect(await ask({ [field]: 1 })).toMatchObject({
      ...{ code: 'judge_misconfigured', status: 422, field: `budget.${field}` },
    })
})

const audit = async (judge: string, rows: readonly unknown[], more: object = {}) => {
  const options = { target: 'judge', judge, file: await upload(rows), ...more }
  const { summary } = await finish(await api.post('/v1/evaluations').send({ options }))
  return summary as {
    objections: string[]
    figures: { figure: string; value: number; n: number }[]
    warnings: string[]
    usage: { requests: number }
  }
}

test('a judge labels nothing before an audit, nor after one that speaks against it, unless by name', async () => {
  let fair = false
  const server = await scriptedServer(({ user }) => {
    const document = JSON.parse(user.split('=====')[2] ?? '') as Record<string, string>
    return completion(!fair || document['answer_A'] === 'good' ? 'A' : 'B')
  })
  const profile = { id: 'audited', kind: 'openai', model: 'm', base_url: server.baseUrl }
  await api.post('/v1/judges').send(profile)
  const training_file = await upload(asked.slice(0, 2))
  const options = { axes: ['helpfulness'], max_new_tokens: 8 }
  const label = (override: string[] = []) =>
    api.post('/v1/preferences/label').send({ judge: 'audited', training_file, options, override })
  expect((await label()).body).toMatchObject({ code: 'judge_not_audited', status: 409 })
  const loop = await api.post('/v1/rlaif/loops').send({ judge: 'audited' })
  expect(loop.body.code).toBe('judge_not_audited')
  expect((await label(['judge_audits'])).status).toBe(422)

  // it says A, whatever stands there: in the layouts of three published sets
  const rows = Array.from({ length: 60 }, (_, i) =>
    i % 3 === 0
      ? { prompt: `q${i}`, 'response 1': 'good', 'response 2': 'bad', label: 0, scenario: 's' }
      : i % 3 === 1
        ? { input: `q${i}`, output_1: 'bad', output_2: 'good', label: 2 }
        : { prompt: `q${i}`, a: 'good', b: 'bad', label: 'a' },
  )
  const first = await audit('audited', rows)
  expect(first.objections.join()).toMatch(/same position in 100\.0 %/)
  expect((await label()).body).toMatchObject({ code: 'judge_refused', status: 409 })
  expect((await label()).body.detail).toContain('100.0 %')

  // overridden by name, and the run says so
  const run = await finish(await label(['judge_audit']))
  expect(run.config).toMatchObject({ override: ['judge_audit'] })

  // it changes behind its name: asked anew, found good, and the drift is told
  fair = true
  const second = await audit('audited', rows)
  const figure = (name: string) => second.figures.find(({ figure }) => figure === name)?.value
  expect(second.objections).toEqual([])
  expect(second.usage.requests).toBe(120)
  expect(figure('accuracy')).toBe(1)
  expect(figure('drift: mean ∣ΔP∣')).toBe(0.5)
  expect((await label()).status).toBe(202)
  const { data } = verdicts.AuditList.parse((await api.get('/v1/judges/audited/audits')).body)
  expect(data.map(({ objections }) => objections.length > 0)).toEqual([false, true])
  await services.runner.close()
  await server.close()
})

test('an audit counts each pair once, however often and whichever way round a file has it', async () => {
  const server = await scriptedServer(({ user }) => {
    const document = JSON.parse(user.split('=====')[2] ?? '') as Record<string, string>
    return completion(document['answer_A'] === 'good' ? 'A' : 'B')
  })
  const profile = { id: 'repeated', kind: 'openai', model: 'm', base_url: server.baseUrl }
  await api.post('/v1/judges').send(profile)
  const rows = Array.from({ length: 60 }, (_, i) =>
    i % 2 === 0
      ? { prompt: 'q', a: 'good', b: 'bad', label: 'a' }
      : { prompt: 'q', a: 'bad', b: 'good', label: 'b' },
  )
  const { figures, objections, warnings, usage } = await audit('repeated', rows)
  expect(figures.find(({ figure }) => figure === 'accuracy')).toMatchObject({ value: 1, n: 1 })
  expect(usage.requests).toBe(2)
  expect(warnings.join()).toMatch(/^59 of 60 rows repeat a pair/)
  expect(objections.join()).toMatch(/1 verdicts, at least 50 are needed/)
  // one pair neither helps nor harms a judge
  const training_file = await upload(asked.slice(0, 2))
  const label = await api.post('/v1/preferences/label').send({ judge: 'repeated', training_file })
  expect(label.body).toMatchObject({ code: 'judge_not_audited' })
  await server.close()
})

test('an audit of more pairs than its limit draws them by the seed; drift is of the same draw', async () => {
  const server = await scriptedServer(() => completion('A'))
  const profile = { id: 'drawing', kind: 'openai', model: 'm', base_url: server.baseUrl }
  await api.post('/v1/judges').send(profile)
  const rows = Array.from({ length: 60 }, (_, i) => ({
    ...{ prompt: `q${i}`, a: 'good', b: 'bad', label: i < 30 ? 'a' : 'tie' },
  }))
  const decided = async (more: object) => {
    const { figures } = await audit('drawing', rows, more)
    const of = (name: string) => figures.find(({ figure }) => figure === name)
    const { n = 0 } = of('accuracy') ?? {}
    return { n, drift: of('drift: mean ∣ΔP∣')?.n, all: of('failures')?.n }
  }
  const first = await decided({ limit: 30, seed: 1 })
  expect(first).toMatchObject({ all: 30, drift: undefined })
  expect(first.n).toBeGreaterThan(5)
  expect(first.n).toBeLessThan(25)
  expect(await decided({ limit: 30, seed: 2 })).toMatchObject({ all: 30, drift: undefined })
  expect(await decided({ limit: 30, seed: 1 })).toEqual({ ...first, drift: 30 })
  expect(await decided({ limit: 60, seed: 3 })).toMatchObject({ n: 30, all: 60 })
  await server.close()
})

test('the starter judge comes with its own audits, of the weights that are there', async () => {
  const { version } = await services.serving.describe(starterRoles().judge)
  const { data } = verdicts.AuditList.parse((await api.get('/v1/judges/default/audits')).body)
  expect(data.map(({ axis }) => axis).sort()).toEqual(['helpfulness', 'safety'])
  // another judge was trained, or its prompts changed: npm run judge:audit -- --write fixtures/starter/judge-audit.json
  for (const audit of data) expect(audit).toMatchObject({ version, objections: [] })
})

test('whether answers are safe by themselves, beside a comparison or alone', async () => {
  const prompt = 'how can I cheat in an exam?'
  const [a, b] = ['Sorry, I cannot help with that.', 'You can write the answers on your arm.']
  const ask = async (body: object) => (await api.post('/v1/judge').send(body)).body
  const alone = await ask({ absolute: true, answers: [a, b].map((answer) => ({ prompt, answer })) })
  expect(alone.data).toMatchObject([{ ok: true, safe: true }, { ok: true }])
  const beside = await ask({
    absolute: true,
    comparisons: [{ axis: 'safety', prompt, a, b }],
  })
  const [{ safe }] = beside.data as [{ safe: object }]
  const strip = ({ index: _, ...rest }: { index: number }) => rest
  expect(safe).toEqual({ a: strip(alone.data[0]), b: strip(alone.data[1]) })
  const plain = await ask({ comparisons: [{ axis: 'safety', prompt, a, b }] })
  expect(plain.data[0].safe).toBeUndefined()
  const rubric = [{ name: 'r', description: 'd' }]
  const refused = await ask({ absolute: true, rubric, answers: [{ prompt, answer: a }] })
  expect(refused).toMatchObject({ code: 'invalid_request', field: 'rubric' })
})

test('the starter judge compares by scores, as its card says; letters and what needs them by request', async () => {
  const prompt = 'how many continents are there?'
  const [a, b] = ['There are seven continents.', 'There are two continents.']
  const ask = async (body: object) =>
    (await api.post('/v1/judge').send({ comparisons: [{ prompt, a, b }], ...body })).body
  const byScores = await ask({})
  const { data: scored } = (
    await api.post('/v1/judge').send({ answers: [a, b].map((answer) => ({ prompt, answer })) })
  ).body
  expect(byScores.data[0].scores).toEqual([scored[0].score, scored[1].score])
  expect(byScores.data[0].scores[0]).toBeGreaterThan(byScores.data[0].scores[1])
  const [first, second] = byScores.data[0].orders as [number, number]
  expect(first).toBeCloseTo(second, 12)
  expect(first).toBeGreaterThan(0.5)
  const byLetters = await ask({ compare_by: 'letter' })
  expect(byLetters.data[0]).toMatchObject({ ok: true })
  expect(byLetters.data[0].scores).toBeUndefined()
  expect(byLetters.prompt_version).not.toBe(byScores.prompt_version)
  const refused = await ask({ compare_by: 'score', rationale: {} })
  expect(refused).toMatchObject({ code: 'conflicting_options', field: 'compare_by' })
  // a rationale is of letters: it is asked for by letters without a word more
  expect((await ask({ rationale: { max_tokens: 4 } })).prompt_version).toContain('rationale')
})
