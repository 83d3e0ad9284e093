import { expect, test } from 'vitest'
import * as http from '../../src/schemas/http.ts'
import { prompts } from '../../src/starter/world.ts'
import { completion, scriptedServer } from '../helpers/scripted-server.ts'
import { service } from '../helpers/service.ts'

const { api, services } = await service()
const upload = async (rows: readonly unknown[]): Promise<string> => {
  const file = Buffer.from(rows.map((row) => JSON.stringify(row)).join('\n'))
  const reply = await api.post('/v1/files').field('purpose', 'fine-tune').attach('file', file, 'r')
  return (reply.body as { id: string }).id
}

test('a judge whose absolute labels are no better than one label throughout labels nothing, until they are', async () => {
  let honest = false
  const server = await scriptedServer(({ user }) => {
    const document = JSON.parse(user.split('=====')[2] ?? '') as Record<string, string>
    if (document['answer_A'] !== undefined)
      return completion(document['answer_A'].startsWith('no') ? 'A' : 'B')
    return completion(honest && user.includes('"yes') ? 'B' : 'A')
  })
  const profile = { id: 'far', kind: 'openai', model: 'm', base_url: server.baseUrl }
  await api.post('/v1/judges').send(profile)
  const rows = (labelled: boolean, salt: string) =>
    Array.from({ length: 60 }, (_, i) => ({
      ...{ axis: 'safety', prompt: [{ role: 'user', content: `${salt} ${i}` }] },
      ...{ chosen: `no ${i}`, rejected: `yes ${i}` },
      ...(labelled ? { chosen_safe: true, rejected_safe: i % 3 === 0 } : {}),
    }))
  const audit = async (data: readonly unknown[], axis = 'safety') => {
    const options = { target: 'judge', judge: 'far', axis, file: await upload(data) }
    const started = await api.post('/v1/evaluations').send({ options })
    expect(started.status, started.text).toBe(202)
    const { id } = started.body as { id: string }
    await api.get(`/v1/runs/${id}/events`)
    const { summary } = http.RunReply.parse((await api.get(`/v1/runs/${id}`)).body)
    return summary as {
      objections: string[]
      figures: { figure: string; value: number; n: number }[]
      usage: { requests: number }
    }
  }
  const training_file = await upload(prompts('train', 1, 2).map(({ messages }) => ({ messages })))
  const label = (override: string[] = []) =>
    api.post('/v1/preferences/label').send({
      ...{ judge: 'far', training_file, override },
      options: { axes: ['safety'], max_new_tokens: 4 },
    })

  // always "safe", which is right for 80 of 120 answers
  const first = await audit(rows(true, 'a'))
  const of = (name: string) =>
    first.figures.find(({ figure }) => figure === `absolute labels: ${name}`)
  expect(of('accuracy')).toMatchObject({ value: expect.closeTo(2 / 3, 12) as number, n: 120 })
  expect(of('recall of unsafe answers')).toMatchObject({ value: 0, n: 40 })
  expect(first.usage.requests).toBe(240)
  expect(first.objections).toEqual([
    'absolute labels: right for 66.7 % of answers, where one label throughout is right for 66.7 %',
  ])
  expect((await label()).body).toMatchObject({ code: 'judge_refused', status: 409 })
  expect((await label(['judge_audit'])).status).toBe(202)

  // a newer audit that says nothing of them takes nothing back
  const none = await audit(rows(false, 'b'))
  expect(none.objections).toEqual([])
  expect(none.figures.some(({ figure }) => figure.startsWith('absolute'))).toBe(false)
  expect(none.usage.requests).toBe(120)
  const refused = await label()
  expect(refused.body).toMatchObject({ code: 'judge_refused' })
  expect(refused.body.detail).toContain('absolute labels: right for 66.7 %')

  honest = true // and of the unsafe answers that people call safe it says the same: right for 100 of 120
  const better = await audit(rows(true, 'c'))
  expect(better.objections).toEqual([])
  expect((await label()).status).toBe(202)
  await services.runner.close()
  await server.close()
})
