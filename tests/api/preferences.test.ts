import { expect, test } from 'vitest'
import { AgreementReply, ImportReply, PreferenceList } from '../../src/schemas/preferences.ts'
import { EXPORT_FORMATS } from '../../src/schemas/preferences.ts'
import { splitOf } from '../../src/services/preferences.ts'
import { service } from '../helpers/service.ts'

const { api } = await service()
const upload = async (lines: readonly unknown[], name = 'rows.jsonl'): Promise<string> => {
  const text = lines.map((r) => (typeof r === 'string' ? r : JSON.stringify(r))).join('\n')
  const file = Buffer.from(text)
  const reply = await api.post('/v1/files').field('purpose', 'fine-tune').attach('file', file, name)
  return reply.body.id as string
}
const load = async (lines: readonly unknown[], more: object = {}) => {
  const reply = await api
    .post('/v1/preferences/import')
    .send({ file: await upload(lines), source: 'test', ...more })
  expect(reply.status, reply.text).toBe(201)
  return ImportReply.parse(reply.body)
}
const stored = async () =>
  PreferenceList.parse((await api.get('/v1/preferences?limit=1000')).body).data
const exported = async (query: string): Promise<Record<string, unknown>[]> =>
  (await api.get(`/v1/preferences/export?${query}`)).text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>)

const user = (content: string) => ({ role: 'user', content })
const assistant = (content: string) => ({ role: 'assistant', content })
const rated = (response: string, ...ratings: string[]) => ({
  response,
  overall_score: 10, // known to be wrong in places: not read
  annotations: Object.fromEntries(ratings.map((Rating, i) => [`aspect ${i}`, { Rating }])),
})

test('rows of every layout become pairs; ties hold none; a wrong row is named by its line', async () => {
  const talk = '\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Sky?\n\nAssistant:'
  const found = await load([
    { prompt: 'text', chosen: ' good', rejected: ' bad' },
    { prompt: [user('turns')], chosen: [assistant('good')], rejected: [assistant('bad')] },
    {
      chosen: [user('implicit'), assistant('good')],
      rejected: [user('implicit'), assistant('bad')],
    },
    { chosen: `${talk} Blue.`, rejected: `${talk} Green.` },
    { chosen: `${talk} Blue.`, rejected: '\n\nHuman: Other\n\nAssistant: Green.' },
    {
      ...{ input: { messages: [user('openai')], tools: [] } },
      ...{ preferred_output: [assistant('good')], non_preferred_output: [assistant('bad')] },
    },
    {
      instruction: 'ultra',
      completions: [
        rated('best', '5', '4'),
        rated('worst', '1', 'N/A'),
        rated('also best', '4', '5'),
      ],
    },
    {
      ...{ prompt: 'pku', response_0: 'helpful', response_1: 'safe' },
      ...{ is_response_0_safe: false, is_response_1_safe: true },
      ...{ better_response_id: 0, safer_response_id: 1 },
    },
    { axis: 'helpfulness', prompt: 'rank', answers: ['x', 'y', 'z'], ranks: [2, 1, 2] },
    { prompt: 'same', chosen: 'same', rejected: 'same' },
    'no json',
    { question: '?' },
  ])
  expect(found.errors.map(({ line, code }) => [line, code])).toEqual([
    [5, 'prompt_mismatch'],
    [11, 'invalid_data'],
    [12, 'invalid_data'],
  ])
  expect(found).toMatchObject({ rows: 12, stored: 11, duplicates: 0, without: 1 })
  const pairs = (await stored()).map(({ axis, prompt, chosen, rejected, ranking }) => ({
    ...{ axis, last: prompt.at(-1)?.content, turns: prompt.length, chosen, rejected },
    ...{ ranked: ranking !== null },
  }))
  const pair = (last: string, chosen: string, rejected: string, more: object = {}) => ({
    ...{ axis: 'helpfulness', last, turns: 1, chosen, rejected, ranked: false },
    ...more,
  })
  expect(pairs).toHaveLength(11)
  expect(pairs).toEqual(
    expect.arrayContaining([
      ...['text', 'turns', 'implicit', 'openai'].map((last) => pair(last, 'good', 'bad')),
      pair('Sky?', 'Blue.', 'Green.', { turns: 3 }),
      ...[pair('ultra', 'best', 'worst'), pair('ultra', 'also best', 'worst')],
      pair('pku', 'helpful', 'safe'),
      pair('pku', 'safe', 'helpful', { axis: 'safety' }),
      ...['x', 'z'].map((worse) => pair('rank', 'y', worse, { ranked: true })),
    ]),
  )
  const safety = (await stored()).find(({ axis }) => axis === 'safety')
  expect(safety).toMatchObject({ chosen_safe: true, rejected_safe: false })
})

test('the same label is kept once, by file and by request', async () => {
  const row = { prompt: 'text', chosen: ' good', rejected: ' bad' }
  expect(await load([row, row])).toMatchObject({ stored: 0, duplicates: 2 })
  const preference = { axis: 'safety', prompt: [user('once')], chosen: 'a', rejected: 'b' }
  const ids = async (): Promise<string[]> => {
    const reply = await api.post('/v1/preferences').send({ preferences: [preference, preference] })
    return (reply.body as { data: { id: string }[] }).data.map(({ id }) => id)
  }
  const [first, second] = [await ids(), await ids()]
  expect(new Set([...first, ...second]).size).toBe(1)
  // another annotator's word is another label
  const by = { ...preference, annotator: 'ann', annotator_kind: 'person' }
  const other = await api.post('/v1/preferences').send({ preferences: [by] })
  expect((other.body as { data: { id: string }[] }).data[0]?.id).not.toBe(first[0])
})

const bea = { annotator: 'bea', annotator_kind: 'person', source: 'blind labelling' }

test('who labels a pair again corrects the first label, on either side; a judge’s stays', async () => {
  const label = async (row: object): Promise<string> => {
    const preference = { axis: 'safety', prompt: [user('again')], ...bea, ...row }
    const reply = await api.post('/v1/preferences').send({ preferences: [preference] })
    expect(reply.status, reply.text).toBe(201)
    return (reply.body as { data: { id: string }[] }).data[0]?.id ?? ''
  }
  const mine = async (annotator: string) =>
    (await stored()).filter((row) => row.annotator === annotator)
  const first = await label({ chosen: 'a', rejected: 'b', strength: 'slightly_better' })
  const again = { strength: 'significantly_better', chosen_safe: true, rejected_safe: false }
  expect(await label({ chosen: 'a', rejected: 'b', ...again })).toBe(first)
  expect(await mine('bea')).toMatchObject([{ id: first, chosen: 'a', ...again }])
  expect(await label({ chosen: 'b', rejected: 'a', strength: 'better' })).toBe(first)
  expect(await mine('bea')).toMatchObject([
    { id: first, chosen: 'b', rejected: 'a', strength: 'better', chosen_safe: null },
  ])
  // in one request, too, the last word is the one that counts
  const both = [
    { chosen: 'x', rejected: 'y' },
    { chosen: 'y', rejected: 'x' },
    { chosen: 'b', rejected: 'a' },
    { chosen: 'a', rejected: 'b' },
  ].map((row) => ({ axis: 'safety', prompt: [user('again')], ...bea, ...row }))
  const reply = await api.post('/v1/preferences').send({ preferences: both })
  const ids = (reply.body as { data: { id: string }[] }).data.map(({ id }) => id)
  expect([ids[0], ids[2]]).toEqual([ids[1], first])
  expect(ids[3]).toBe(first)
  const words = (await mine('bea')).map(({ id, chosen }) => [id, chosen])
  expect(words.sort()).toEqual(
    [
      [ids[0], 'y'],
      [first, 'a'],
    ].sort(),
  )
  // and in one file: a correction is no new pair
  const word = (chosen: string, rejected: string) => ({
    prompt: 'told in a file',
    chosen,
    rejected,
  })
  const lines = [word('p', 'q'), word('q', 'p'), word('p', 'r')]
  expect(await load(lines, { ...bea, axis: 'safety' })).toMatchObject({ stored: 2, duplicates: 1 })
  expect(await load([word('r', 'p')], { ...bea, axis: 'safety' })).toMatchObject({
    stored: 0,
    duplicates: 1,
  })
  const told = (await mine('bea')).filter(({ prompt }) => prompt[0]?.content === 'told in a file')
  expect(told.map(({ chosen, rejected }) => chosen + rejected).sort()).toEqual(['qp', 'rp'])
  const by = { annotator: 'j', annotator_kind: 'judge', prompt: [user('judged twice')] }
  const judge = { ...by, chosen: 'a', rejected: 'b' }
  await label({ ...judge, strength: 'better' })
  await label({ ...judge, strength: 'slightly_better' })
  expect(await mine('j')).toMatchObject([{ strength: 'better' }])
})

test.each(EXPORT_FORMATS.filter((format) => format !== 'pku'))(
  'what leaves as %s comes back as it was',
  async (format) => {
    const before = await stored()
    const rows = await exported(`format=${format}&axis=helpfulness`)
    expect(rows).toHaveLength(before.filter(({ axis }) => axis === 'helpfulness').length)
    const back = await load(rows, { source: `back from ${format}` })
    // our own layout keeps where a label came from: nothing is new
    expect(back).toMatchObject({ stored: format === 'libra' ? 0 : 10, without: 0, errors: [] })
    const plain = (pairs: typeof before): Set<string> =>
      new Set(
        pairs.map(({ prompt, chosen, rejected }) => JSON.stringify([prompt, chosen, rejected])),
      )
    const now = (await stored()).filter(({ source }) => source === `back from ${format}`)
    const were = before.filter(({ axis }) => axis === 'helpfulness')
    if (format !== 'libra') expect(plain(now)).toEqual(plain(were))
  },
)

test('PKU’s rows hold both axes of a pair', async () => {
  const rows = await exported('format=pku')
  expect(rows.find(({ prompt }) => prompt === 'pku')).toEqual({
    ...{ prompt: 'pku', response_0: 'helpful', response_1: 'safe' },
    ...{ is_response_0_safe: false, is_response_1_safe: true },
    ...{ better_response_id: 0, safer_response_id: 1 },
  })
})

test('a split puts each conversation on one side, whatever its turns, case and spaces', async () => {
  const preferences = Array.from({ length: 200 }, (_, i) => [
    { axis: 'helpfulness', prompt: [user(`Talk  ${i}`)], chosen: 'a', rejected: 'b' },
    {
      ...{ axis: 'safety', chosen: 'c', rejected: 'd' },
      prompt: [user(` talk ${i}`), assistant('…'), user('and?')],
    },
  ]).flat()
  await api.post('/v1/preferences').send({ preferences })
  const side = async (split: string): Promise<string[]> =>
    (await exported(`format=libra&split=${split}&test_share=0.3`)).map(({ prompt }) =>
      String((prompt as { content: string }[])[0]?.content)
        .toLowerCase()
        .replace(/\s+/g, ' ')
        .trim(),
    )
  const [train, tested] = [await side('train'), await side('test')]
  expect(train.length + tested.length).toBe((await stored()).length)
  expect(train.filter((first) => tested.includes(first))).toEqual([])
  expect(tested.filter((first) => first.startsWith('talk')).length / 400).toBeCloseTo(0.3, 1)
  const one = [{ role: 'user' as const, content: 'x' }]
  const sides = [1, 2, 3, 4, 5, 6, 7, 8].map((seed) => splitOf(one, { seed, share: 0.5 }))
  expect(new Set(sides).size).toBe(2)
})

test('a judge beside people on what both have labelled, whichever way round it was stored', async () => {
  const preferences = Array.from({ length: 40 }, (_, i) => {
    const prompt = [user(`doubly ${i}`)]
    const [good, bad] = [`${i % 2 === 0 ? 'a' : 'z'} good`, 'm bad']
    const agrees = i >= 10
    const [chosen, rejected] = agrees ? [good, bad] : [bad, good]
    const judge = { annotator: 'j', annotator_kind: 'judge', judge_version: 'v' }
    return [
      { axis: 'safety', prompt, chosen: good, rejected: bad, annotator_kind: 'person' },
      { axis: 'safety', prompt, chosen, rejected, probability: 0.9, orders: [1, 0.8], ...judge },
    ]
  }).flat()
  await api.post('/v1/preferences').send({ preferences })
  const reply = AgreementReply.parse((await api.get('/v1/preferences/agreement')).body)
  expect(reply.data).toMatchObject([{ axis: 'safety', judge: 'j', judge_version: 'v', pairs: 40 }])
  const figure = (name: string) => reply.data[0]?.figures.find((f) => f.figure === name)
  expect(figure('accuracy')).toMatchObject({ value: 0.75, n: 40 })
  expect(figure('Cohen’s κ')?.value).toBeCloseTo(0.5, 9) // balanced: 2 · 0.75 − 1
  expect(figure('same position preferred')?.value).toBe(0)
})

test('a soft label below ½ is stored the right way round, of a request and of a file', async () => {
  const row = { axis: 'safety', prompt: [user('turned')], chosen: 'worse', rejected: 'better' }
  const said = { ...row, probability: 0.25, chosen_safe: false, rejected_safe: true }
  await api.post('/v1/preferences').send({ preferences: [said] })
  await load([said], { axis: 'safety', source: 'a file' })
  const turned = (await stored()).filter(({ prompt }) => prompt[0]?.content === 'turned')
  expect(turned).toHaveLength(2)
  for (const pair of turned)
    expect(pair).toMatchObject({
      ...{ chosen: 'better', rejected: 'worse', probability: 0.75 },
      ...{ chosen_safe: true, rejected_safe: false },
    })
})

test('ties have no hard label: they are left out and counted, also where hard labels are learned', async () => {
  const tie = { axis: 'safety', prompt: [user('even')], chosen: 'tie a', rejected: 'tie b' }
  await api.post('/v1/preferences').send({ preferences: [{ ...tie, probability: 0.5 }] })
  const out = async (format: string) => {
    const reply = await api.get(`/v1/preferences/export?axis=safety&format=${format}`)
    return [reply.headers['x-ties-left-out'], reply.text.includes('tie a')]
  }
  expect(await out('trl')).toEqual(['1', false])
  expect(await out('libra')).toEqual(['0', true])
  const training_file = await upload([{ ...tie, probability: 0.5 }])
  const body = { kind: 'dpo', training_file, options: { soft_labels: false } }
  expect((await api.post('/v1/runs').send(body)).body).toMatchObject({
    ...{ code: 'empty_data', field: 'options.soft_labels' },
  })
})
