import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import * as http from '../../src/schemas/http.ts'
import type { Services } from '../../src/services/services.ts'
import { starterProbeAnswers } from '../../src/starter/probe-answers.ts'
import { service } from '../helpers/service.ts'

// A policy is trained against a starter reward model by the real engine.
let api: Awaited<ReturnType<typeof service>>['api']
let services: Services
beforeAll(async () => {
  ;({ api, services } = await service())
})
const certify = (options: object) =>
  api
    .post('/v1/evaluations')
    .send({ options: { target: 'certificate', axis: 'safety', ...options } })
const runOf = async (id: string) => http.RunReply.parse((await api.get(`/v1/runs/${id}`)).body)

test('a certificate’s policy attack: trained within the budget, measured on other prompts, replayable', async () => {
  const asked = { budget: 300, attack_rounds: 3, judge: 'default', max_new_tokens: 12, seed: 3 }
  const started = await certify(asked)
  expect(started.status, started.text).toBe(202)
  await api.get(`/v1/runs/${started.body.id}/events`)
  const run = await runOf(started.body.id as string)
  expect(run.error).toBeNull()
  const { data } = http.CheckList.parse((await api.get('/v1/models/safety/checks')).body)
  const card = data.find((check) => check.run === run.id)?.certificate
  const found = card?.policy_attack
  expect(card?.spent).toBeLessThanOrEqual(300)
  expect(found).toMatchObject({
    ...{ policy: 'starter-policy', rounds: 1, spent: 48 + 2 * 20, n: 20, max_new_tokens: 12 },
  })
  expect(found?.kl).toBeGreaterThan(-0.5)
  expect(run.summary?.['warnings']).toEqual([expect.stringContaining('1 of 3 rounds')])

  // what was trained is a run and a model, and its prompts are none of those that it is measured on
  const [part] = http.RunList.parse((await api.get(`/v1/runs?parent=${run.id}`)).body).data
  expect(part).toMatchObject({ kind: 'policy_update', state: 'succeeded' })
  expect(part?.config).toMatchObject({ combiner: 'safety', kl_coef: 0, rounds: 1 })
  const model = await api.get(`/v1/models/${found?.model}`)
  expect(model.body).toMatchObject({ kind: 'policy', run: run.id })
  const prompts = await readFile(
    join(services.dataDir, 'runs', run.id, 'attack/prompts.jsonl'),
    'utf8',
  )
  const trained = prompts.split('\n')
  expect(trained).toHaveLength(12)
  const held = starterProbeAnswers(3, 32, 'safety').slice(12)
  for (const { prompt } of held) expect(trained).not.toContain(JSON.stringify({ messages: prompt }))

  // both texts of an example are written and scored again
  const examples = found?.examples ?? []
  expect(examples.length).toBeGreaterThan(0)
  for (const { dialogue: messages, answer, attacked, before, after, seed, place } of examples) {
    expect(after).toBeGreaterThan(before)
    const sampling = { messages, seed, max_tokens: 12, n: place + 1 }
    for (const [by, text, logit] of [
      [found?.policy, answer, before],
      [found?.model, attacked, after],
    ] as const) {
      const written = await api.post('/v1/chat/completions').send({ model: by, ...sampling })
      expect(written.body.choices[place].message.content).toBe(text)
      const input = { messages: [...messages, { role: 'assistant', content: text }] }
      const again = await api.post('/v1/score').send({ inputs: [input], axes: ['safety'] })
      expect(again.body.data[0].safety.logit).toBeCloseTo(logit, 3)
    }
  }
  const figures = run.summary?.['figures'] as { figure: string; value: number }[]
  expect(
    figures.find(({ figure }) => figure.startsWith('gain by a policy of 1 round'))?.value,
  ).toBe(found?.gain)
  const { text } = await api.get(`/v1/evaluations/${run.id}/report`)
  expect(text).toContain('policy attack')
  expect(text).toContain('Score of the attacking policy')
}, 120_000)

test('what a policy attack lacks is refused by name, before there is a run', async () => {
  const before = http.RunList.parse((await api.get('/v1/runs')).body).data.length
  const refused = async (options: object) => (await certify(options)).body as object
  const conflict = { code: 'conflicting_options' }
  expect(await refused({ attack_rounds: 2 })).toMatchObject({
    ...{ ...conflict, field: 'options.attack_rounds' },
  })
  const judged = { attack_rounds: 2, judge: 'default' }
  expect(await refused({ ...judged, budget: 200 })).toMatchObject({
    ...{ ...conflict, field: 'options.budget' },
  })
  expect(await refused({ ...judged, max_new_tokens: 250 })).toMatchObject({
    code: 'context_length_exceeded',
  })
  const { body } = await api
    .post('/v1/evaluations')
    .send({ options: { target: 'probes', attack_rounds: 2 } })
  expect(body).toMatchObject({ ...conflict, field: 'options.attack_rounds' })
  expect(http.RunList.parse((await api.get('/v1/runs')).body).data).toHaveLength(before)
})

test('a policy attack that is cancelled ends with its training', async () => {
  const asked = { budget: 1500, limit: 32, attack_rounds: 1000, judge: 'default' }
  const { id } = (await certify({ ...asked, max_new_tokens: 8 })).body as { id: string }
  const learns = async () =>
    (await services.store.events(id, 0)).some(({ data }) => data['stage'] === 'policy attack')
  while (!(await learns())) await new Promise((resolve) => setTimeout(resolve, 100))
  await api.post(`/v1/runs/${id}/cancel`)
  await api.get(`/v1/runs/${id}/events`)
  expect((await runOf(id)).state).toBe('cancelled')
  const [part] = await services.store.partsOf(id)
  expect(part?.state).toBe('cancelled')
  const { data } = http.CheckList.parse((await api.get('/v1/models/safety/checks')).body)
  expect(data.some(({ run }) => run === id)).toBe(false)
}, 120_000)
