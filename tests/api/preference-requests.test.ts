import { expect, test } from 'vitest'
import { PreferenceList } from '../../src/schemas/preferences.ts'
import { storePairs } from '../../src/services/preferences.ts'
import { service } from '../helpers/service.ts'

const { api, services } = await service()
const user = (content: string) => ({ role: 'user' as const, content })
const send = (body: object) => api.post('/v1/preferences').send(body)
const load = async (lines: readonly object[], more: object) => {
  const file = Buffer.from(lines.map((line) => JSON.stringify(line)).join('\n'))
  const { body } = await api
    .post('/v1/files')
    .field('purpose', 'fine-tune')
    .attach('file', file, 'rows.jsonl')
  const said = { file: (body as { id: string }).id, source: 'test', ...more }
  return (await api.post('/v1/preferences/import').send(said)).body as Record<string, unknown>
}
/** What is stored about a prompt. */
const about = async (prompt: string) =>
  PreferenceList.parse((await api.get('/v1/preferences?limit=1000')).body).data.filter(
    (pair) => pair.prompt[0]?.content === prompt,
  )
const words = async (prompt: string, annotator: string): Promise<string[]> =>
  (await about(prompt))
    .filter((pair) => pair.annotator === annotator)
    .map(({ chosen, rejected }) => `${chosen} > ${rejected}`)
    .sort()

test('the annotator of an import counts for rows of our own that name none', async () => {
  const nobody = { annotator: null, annotator_kind: null, strength: null }
  const row = { axis: 'safety', prompt: [user('whose')], chosen: 'a', rejected: 'b', ...nobody }
  const named = { ...row, chosen: 'c', annotator: 'bea', annotator_kind: 'person' }
  await load([row, named], { annotator: 'gpt', annotator_kind: 'judge' })
  expect(await about('whose')).toEqual(
    expect.arrayContaining([
      expect.objectContaining({ chosen: 'a', annotator: 'gpt', annotator_kind: 'judge' }),
      expect.objectContaining({ chosen: 'c', annotator: 'bea', annotator_kind: 'person' }),
    ]),
  )
  const { text } = await api.get('/v1/preferences/export?format=libra&annotator_kind=person')
  const people = text.trim().split('\n')
  expect(people.map((line) => (JSON.parse(line) as { chosen: string }).chosen)).toEqual(['c'])
})

const pair = { axis: 'safety', prompt: [user('refused')], chosen: 'same', rejected: 'same' }
const ranking = { axis: 'safety', prompt: 'refused', answers: ['u', 'u', 'v'], ranks: [1, 2, 3] }
test.each([
  ['equal answers', { preferences: [pair] }, 'preferences.0.rejected'],
  ['equal answers of different ranks', { rankings: [ranking] }, 'rankings.0.ranks'],
  [
    'equal answers that are all there are',
    { rankings: [{ ...ranking, answers: ['u', 'u'], ranks: [1, 1] }] },
    'preferences',
  ],
  [
    'an unknown field in a ranking',
    { rankings: [{ ...ranking, ranks: [1, 1, 2], anotator: 'typo' }] },
    'rankings.0',
  ],
  [
    'a probability against the strength',
    {
      preferences: [
        { ...pair, rejected: 'b', strength: 'significantly_better', probability: 0.05 },
      ],
    },
    'preferences.0.probability',
  ],
])('%s: refused', async (_, body, field) => {
  const reply = await send(body)
  expect([reply.status, reply.body.code, reply.body.field]).toEqual([422, 'invalid_request', field])
  expect(await about('refused')).toEqual([])
})

test('an unknown field of a ranking is named', async () => {
  const wrong = { ...ranking, ranks: [1, 1, 2], anotator: 'typo' }
  expect((await send({ rankings: [wrong] })).body.detail).toContain('"anotator"')
})

test('equal answers that were stored before are shown to nobody', async () => {
  const equal = { axis: 'helpfulness' as const, prompt: [user('blind')], source: 'before' }
  await storePairs(services, [{ ...equal, chosen: 'same', rejected: 'same' }], null)
  await storePairs(services, [{ ...equal, chosen: 'a', rejected: 'b' }], null)
  const query = { axis: 'helpfulness', annotator: 'ann' }
  const { data } = (await api.get('/v1/preferences/blind').query(query)).body as { data: object }
  expect([data].map((each) => ('a' in each && 'b' in each ? each.a !== each.b : null))).toEqual([
    true,
  ])
})

test('who ranks again and ties what was apart takes the first word back', async () => {
  const rank = (annotator: string | null, ranks: number[], more: object = {}) => ({
    ...{ axis: 'safety', prompt: 'ranked', answers: ['u', 'v', 'w'], ranks, annotator, ...more },
  })
  const say = async (...rankings: object[]): Promise<number> => (await send({ rankings })).status
  await say(rank('bob', [1, 2, 3]), rank('cy', [1, 2, 3]))
  expect(await words('ranked', 'bob')).toEqual(['u > v', 'u > w', 'v > w'])
  expect(await say(rank('bob', [1, 1, 2]))).toBe(201)
  expect(await words('ranked', 'bob')).toEqual(['u > w', 'v > w'])
  // nobody else's words, no other axis', no judge's
  expect(await words('ranked', 'cy')).toEqual(['u > v', 'u > w', 'v > w'])
  await say(rank('bob', [1, 1, 1], { axis: 'helpfulness' }))
  expect(await words('ranked', 'bob')).toEqual(['u > w', 'v > w'])
  const judge = { annotator_kind: 'judge' }
  await say(rank('j', [1, 2, 3], judge))
  await say(rank('j', [1, 1, 2], judge))
  expect(await words('ranked', 'j')).toEqual(['u > v', 'u > w', 'v > w'])
  // all tied is a word as well, of who gives a name
  expect(await say(rank('bob', [1, 1, 1]))).toBe(201)
  expect(await words('ranked', 'bob')).toEqual([])
  expect(await say(rank(null, [1, 1, 1]))).toBe(422)
  // in one request, and in one file, the last word counts
  const reply = await send({ rankings: [rank('bob', [1, 2, 3]), rank('bob', [2, 1, 1])] })
  expect(await words('ranked', 'bob')).toEqual(['v > u', 'w > u'])
  const ids = (reply.body as { data: { id: string }[] }).data.map(({ id }) => id)
  const mine = (await about('ranked')).filter(({ annotator }) => annotator === 'bob')
  expect(new Set(ids)).toEqual(new Set(mine.map(({ id }) => id)))
  const lines = [rank('dee', [1, 2, 3]), rank('dee', [1, 1, 2])]
  expect(await load(lines, {})).toMatchObject({ stored: 2, duplicates: 3, without: 0 })
  expect(await words('ranked', 'dee')).toEqual(['u > w', 'v > w'])
  const tied = await load([rank('dee', [1, 1, 1])], {})
  expect(tied).toMatchObject({ stored: 0, duplicates: 0, without: 1 })
  expect(await words('ranked', 'dee')).toEqual([])
})

test('a person who labels on the page what an import has of them corrects it, and both say so', async () => {
  const row = { prompt: 'two sources', chosen: 'a', rejected: 'b' }
  const zoe = { annotator: 'zoe', annotator_kind: 'person' }
  expect(await load([row], zoe)).toMatchObject({ stored: 1, duplicates: 0, contradicted: 0 })
  const label = { axis: 'helpfulness', prompt: [user('two sources')], chosen: 'b', rejected: 'a' }
  const page = { ...label, ...zoe, source: 'blind labelling' }
  expect((await send({ preferences: [page] })).body).toMatchObject({ contradicted: 1 })
  expect(await words('two sources', 'zoe')).toEqual(['b > a'])
  expect(await load([row, row], zoe)).toMatchObject({ stored: 0, duplicates: 2, contradicted: 1 })
  expect(await words('two sources', 'zoe')).toEqual(['a > b'])
})
