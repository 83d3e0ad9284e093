import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { draw, principleFor, readConstitution } from '../../src/judging/constitution.ts'
import { RunReply } from '../../src/schemas/http.ts'
import { PreferenceList } from '../../src/schemas/preferences.ts'
import { prompts } from '../../src/starter/world.ts'
import { completion, scriptedServer } from '../helpers/scripted-server.ts'
import { service } from '../helpers/service.ts'

const own = readFileSync(join(import.meta.dirname, '../../fixtures/constitution.jsonl'), 'utf8')
const { api } = await service()
const upload = async (text: string): Promise<string> => {
  const reply = await api
    .post('/v1/files')
    .field('purpose', 'fine-tune')
    .attach('file', Buffer.from(text), 'rows.jsonl')
  return reply.body.id as string
}
const finish = async (body: object, path = '/v1/runs') => {
  const started = await api.post(path).send(body)
  expect(started.status, started.text).toBe(202)
  const { id } = started.body as { id: string }
  await api.get(`/v1/runs/${id}/events`)
  return RunReply.parse((await api.get(`/v1/runs/${id}`)).body)
}
const asked = prompts('train', 1, 6).map(({ messages }) => ({ messages }))
const jsonl = (rows: readonly unknown[]): string => rows.map((r) => JSON.stringify(r)).join('\n')

test('one principle of the axis per comparison, the same wherever it stands, all of them in turn', () => {
  const constitution = readConstitution(own, 'own')
  const comparisons = Array.from({ length: 60 }, (_, i) => ({
    ...{ axis: 'safety' as const, a: 'x', b: `${i}` },
    prompt: [{ role: 'user' as const, content: 'hi' }],
  }))
  const drawn = comparisons.map((each) => principleFor(constitution, each, 1)?.id)
  expect(comparisons.toReversed().map((each) => principleFor(constitution, each, 1)?.id)).toEqual(
    drawn.toReversed(),
  )
  expect(new Set(drawn)).toEqual(new Set(['harm', 'respect']))
  expect(drawn.filter((id) => id === 'harm').length / 60).toBeCloseTo(0.5, 0)
  expect(comparisons.map((each) => principleFor(constitution, each, 2)?.id)).not.toEqual(drawn)
  expect(draw([], 1)).toBeUndefined()
})

test('the layout of the published requests; what is wrong is named', () => {
  const row = (what: string) => ({
    prompt: [`\n\nCritiqueRequest: Say what is ${what}.\n\nCritique:`],
    edit_request: `\n\nRevisionRequest: Leave out what is ${what}.\n\nRevision:`,
  })
  const { principles } = readConstitution(JSON.stringify({ a: row('bad'), b: row('rude') }), 'x')
  expect(principles).toEqual([
    { id: 'a', axis: 'safety', critique: 'Say what is bad.', revision: 'Leave out what is bad.' },
    { id: 'b', axis: 'safety', critique: 'Say what is rude.', revision: 'Leave out what is rude.' },
  ])
  expect(() => readConstitution(`${own}{"principel": "x"}`, 'mine')).toThrow(/mine, line 4/)
})

test('labels by a constitution: the judge reads the principle, the label names it', async () => {
  const server = await scriptedServer(({ user }) => {
    if (!user.includes('"answer_A"')) return completion('A')
    const document = JSON.parse(user.split('=====')[2] ?? '') as Record<string, string>
    return completion((document['answer_A'] ?? '') > (document['answer_B'] ?? '') ? 'A' : 'B')
  })
  await api
    .post('/v1/judges')
    .send({ id: 'far', kind: 'openai', model: 'm', base_url: server.baseUrl })
  const constitution = await upload(own)
  const options = { axes: ['safety'], max_new_tokens: 12, constitution }
  const body = { judge: 'far', training_file: await upload(jsonl(asked)), options }
  // an audit of the judge without the constitution says nothing of it
  const refused = await api.post('/v1/preferences/label').send(body)
  expect(refused.body).toMatchObject({ code: 'judge_not_audited' })
  expect(refused.text).toContain('by constitution')
  // what only revises can't judge
  const revising = await upload(jsonl([{ critique: 'Name what is rude.', revision: 'Be kind.' }]))
  const unfit = { ...body, options: { ...options, constitution: revising } }
  const none = await api.post('/v1/preferences/label').send(unfit)
  expect(none.body).toMatchObject({ code: 'empty_data' })
  expect(none.text).toContain('`principle`')
  const run = await finish({ ...body, override: ['judge_audit'] }, '/v1/preferences/label')
  const { data } = PreferenceList.parse((await api.get('/v1/preferences')).body)
  expect(data.length).toBe(run.summary?.['labelled'])
  expect(data.length).toBeGreaterThan(0)
  const texts = new Map([
    ['harm', 'hurt people?'],
    ['respect', 'respectful to everyone'],
  ])
  for (const { principle, chosen, annotator_kind: kind } of data) {
    expect(kind).toBe('judge')
    const sent = server.received.filter(({ user }) => user.includes(JSON.stringify(chosen)))
    expect(sent.some(({ system }) => system.includes(texts.get(principle ?? '') ?? '?'))).toBe(true)
  }
  await server.close()
})

test('a constitution without a principle of what is asked is refused before anything is asked', async () => {
  const server = await scriptedServer(() => completion('A', { A: 0.5, B: 0.5 }))
  await api
    .post('/v1/judges')
    .send({ id: 'strict', kind: 'openai', model: 'm', base_url: server.baseUrl })
  const constitution = await upload(jsonl([{ id: 'harm', principle: 'Do no harm.' }]))
  const ask = async (body: object) =>
    (await api.post('/v1/judge').send({ judge: 'strict', constitution, ...body })).body
  const comparison = { prompt: 'hi', a: 'x', b: 'y' }
  const axes = (...of: string[]) => of.map((axis) => ({ ...comparison, axis }))
  const none = { code: 'empty_data', status: 422, field: 'constitution' }
  const mixed = await ask({ comparisons: axes('safety', 'helpfulness') })
  expect(mixed).toMatchObject(none)
  expect(mixed.detail).toMatch(/none of its 1 entries .* axis helpfulness/u)
  const answers = [{ prompt: 'hi', answer: 'x', axis: 'safety' }]
  const beside = { code: 'conflicting_options', status: 422, field: 'constitution' }
  expect(await ask({ answers })).toMatchObject(beside)
  expect(await ask({ answers, absolute: true })).toMatchObject(beside)

  const training_file = await upload(jsonl(asked))
  const run = { judge: 'strict', training_file, override: ['judge_audit'] }
  const label = await api.post('/v1/preferences/label').send({ ...run, options: { constitution } })
  expect(label.body).toMatchObject(none)
  const options = { target: 'judge', judge: 'strict', axis: 'helpfulness', constitution }
  const pair = { prompt: 'hi', a: 'x', b: 'y', label: 'a' }
  const file = await upload(jsonl([pair]))
  const audit = await api.post('/v1/evaluations').send({ options: { ...options, file } })
  expect(audit.body).toMatchObject(none)
  expect(server.received).toEqual([])

  const { data } = await ask({ comparisons: axes('safety') })
  expect(data).toMatchObject([{ ok: true, principle: 'harm' }])
  await server.close()
})

test('critique and revision: what is drawn is asked for, the last answers are SFT data', async () => {
  let failing = true
  const server = await scriptedServer(({ body }) => {
    const turns = body['messages'] as { role: string; content: string }[]
    const last = turns.at(-1)?.content ?? ''
    if (failing && JSON.stringify(turns).includes(asked[0]?.messages[0]?.content ?? '?'))
      return completion(null, undefined, { refusal: 'No.' })
    if (last.startsWith('Name what'))
      return completion(`critique of ${turns.at(-2)?.content ?? ''}`)
    expect(turns.at(-2)?.content).toMatch(/^critique of/)
    return completion(`better than ${turns.at(-4)?.content ?? ''}`)
  })
  await api
    .post('/v1/judges')
    .send({ id: 'critic', kind: 'openai', model: 'm', base_url: server.baseUrl })
  const constitution = await upload(own)
  const body = {
    ...{ kind: 'revision', critic: 'critic', constitution },
    training_file: await upload(jsonl(asked)),
    options: { revisions: 2, max_new_tokens: 12, seed: 3 },
  }
  const first = await finish(body)
  expect(first.summary).toMatchObject({ rows: 5, failed: 1, failures: { refused: 1 } })
  failing = false
  const sent = server.received.length
  const { summary } = await finish(body)
  expect(summary).toMatchObject({ rows: 6, failed: 0 })
  expect(server.received.length - sent).toBe(4) // the others were paid for
  const file = String(summary?.['file'])
  const rows = (await api.get(`/v1/files/${file}/content`)).text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
  for (const [i, row] of rows.entries()) {
    const revisions = row['revisions'] as { principle: string; answer: string }[]
    const content = `better than better than ${String(row['first_answer'])}`
    expect(row['messages']).toEqual([...(asked[i]?.messages ?? []), { role: 'assistant', content }])
    expect(revisions.map(({ principle }) => principle)).toEqual(
      [1, 2].map((round) => draw(['harm', 'respect'], 3, 77, round, i)),
    )
  }
  const sft = { kind: 'sft', training_file: file, options: { epochs: 1 } }
  expect((await finish(sft)).state).toBe('succeeded')
  await server.close()
})

test('a critic on a server reads no control tokens; a revision that was cut off is marked, one that refuses stays', async () => {
  const server = await scriptedServer(({ body }) => {
    const turns = body['messages'] as { role: string; content: string }[]
    if (turns.at(-1)?.content.startsWith('Name what') === true)
      return completion('It says [TOOL_CALLS].')
    const finish = JSON.stringify(turns).includes('first one') ? 'length' : 'stop'
    return completion("I'm sorry, I can't help with that.", undefined, { finish })
  })
  await api
    .post('/v1/judges')
    .send({ id: 'escaping', kind: 'openai', model: 'm', base_url: server.baseUrl })
  const contents = ['first one <|im_end|>', 'second one [/INST]']
  const { summary } = await finish({
    ...{ kind: 'revision', critic: 'escaping', constitution: await upload(own) },
    training_file: await upload(
      jsonl(contents.map((content) => ({ messages: [{ role: 'user', content }] }))),
    ),
    options: { revisions: 1, max_new_tokens: 8 },
  })
  expect(summary).toMatchObject({ rows: 2, cut: 1, failed: 0 })
  const sent = JSON.stringify(server.received.map(({ body }) => body['messages']))
  expect(sent).toContain('first one')
  expect(sent).not.toMatch(/<\||\[\/?INST\]|\[TOOL_CALLS\]/)
  const { text } = await api.get(`/v1/files/${String(summary?.['file'])}/content`)
  const rows = text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { ended: boolean; messages: { content: string }[] })
  // what is trained is the text itself
  expect(rows.map(({ ended, messages }) => [ended, messages[0]?.content])).toEqual([
    [false, contents[0]],
    [true, contents[1]],
  ])
  for (const { messages } of rows) expect(messages.at(-1)?.content).toMatch(/^I'm sorry/)
  await server.close()
})
