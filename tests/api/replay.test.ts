import { beforeAll, expect, test } from 'vitest'
import { CombineReply, ReplayReply, ScoreReply } from '../../src/schemas/scoring.ts'
import { service } from '../helpers/service.ts'

let api: Awaited<ReturnType<typeof service>>['api']
let services: Awaited<ReturnType<typeof service>>['services']
beforeAll(async () => {
  ;({ api, services } = await service())
})

const inputs = Array.from({ length: 9 }, (_, i) => ({
  messages: [
    {
      role: 'user',
      content: i % 2 === 0 ? '世界上有几大洲？请回答。' : `什么是${'很'.repeat(i)}好？`,
    },
    { role: 'assistant', content: '七大洲。'.repeat(i + 1) },
  ],
}))
const replay = async (id: string) =>
  ReplayReply.parse((await api.post(`/v1/scores/${id}/replay`).send({})).body).data

test('a score from the middle of other requests comes out the same to the bit', async () => {
  const replies = await Promise.all(
    [inputs, inputs.slice(3, 4), inputs.slice(5)].map((some, i) =>
      api.post('/v1/score').send({ inputs: some, ...(i === 1 ? { axes: ['safety'] } : {}) }),
    ),
  )
  for (const reply of replies)
    for (const { id, safety } of ScoreReply.parse(reply.body).data.slice(0, 3)) {
      const both = await replay(id)
      for (const { difference, same_place, scorer, scorer_now } of both) {
        expect(difference).toBe(0)
        expect(same_place).toBe(true)
        expect(scorer_now).toBe(scorer)
      }
      const one = await replay(`${id}_safety`)
      expect(one).toHaveLength(1)
      expect(one[0]).toMatchObject({ axis: 'safety', logit: safety?.logit, difference: 0 })
    }
})

test('a row names its scorer, its request and the branch of the gate; conversations are kept once', async () => {
  const reply = await api.post('/v1/score').send({ inputs: inputs.slice(0, 2) })
  const [first, second] = ScoreReply.parse(reply.body).data
  const { data } = (await api.get(`/v1/scores/${first?.id}`)).body
  expect(data).toHaveLength(2)
  for (const row of data) {
    expect(row.messages).toEqual(inputs[0]?.messages)
    expect(row.branch).toBe(first?.combined?.branch)
  }
  const kept = await Promise.all(
    ['helpfulness', 'safety'].map((axis) => services.store.scores.get(`${second?.id}_${axis}`)),
  )
  expect(kept.filter((row) => row?.messages !== null)).toHaveLength(1)
  expect(new Set(kept.map((row) => row?.request)).size).toBe(1)
  expect(kept[0]?.request).toBe(data[0].request)
  const scorer = await services.store.scorers.get(String(kept[0]?.modelVersion))
  expect(scorer).toMatchObject({ model: 'starter-helpfulness', device: 'cpu' })
})

test('what has moved is seen, also for a row that knows no place', async () => {
  const reply = await api.post('/v1/score').send({ inputs: inputs.slice(0, 1) })
  const [{ id } = { id: '' }] = ScoreReply.parse(reply.body).data
  const row = await services.store.scores.get(`${id}_helpfulness`)
  if (row === null) throw new Error('no row')
  const old = { ...row, id: 'score_old_helpfulness', placed: null, request: null }
  const wrong = { ...row, id: 'score_wrong_helpfulness', logit: row.logit + 0.5 }
  services.store.scores.append([old, wrong])
  const [again] = await replay('score_old')
  expect(again?.same_place).toBe(false)
  expect(Math.abs(again?.difference ?? NaN)).toBeLessThan(1e-5)
  expect((await replay('score_wrong'))[0]?.difference).toBeCloseTo(-0.5, 5)
  expect((await api.post('/v1/scores/score_none/replay').send({})).status).toBe(404)
  expect(await services.store.dropScores(row.createdAt)).toBeGreaterThan(0)
  expect(await services.store.scores.get(row.id)).not.toBeNull()
  await services.store.dropScores(row.createdAt + 1)
  expect(await services.store.scores.get(row.id)).toBeNull()
})

test('a score by another build or other files names them, and new scores name the new ones', async () => {
  const score = async () => {
    const reply = await api.post('/v1/score').send({ inputs: inputs.slice(0, 1) })
    const [{ id } = { id: '' }] = ScoreReply.parse(reply.body).data
    return id
  }
  const id = await score()
  expect((await replay(id)).map(({ moved }) => moved)).toEqual([[], []])
  const row = await services.store.scores.get(`${id}_safety`)
  const scorer = await services.store.scorers.get(row?.modelVersion ?? '')
  if (row === null || scorer === null) throw new Error('no row')
  expect(Object.keys(scorer.files ?? {}).some((name) => name.endsWith('safety/libra.json'))).toBe(
    true,
  )
  // as it was given by another TensorFlow, before one file of the adapter was written anew and one came
  const [changed = '', added = ''] = Object.keys(scorer.files ?? {})
  const { [added]: _, ...files } = { ...scorer.files, [changed]: 'other', '/gone.json': 'x' }
  const before = { ...scorer, id: 'before', tensorflow: '2.20.0', files }
  await services.store.scorers.insert([before])
  const old = { ...row, id: 'score_before_safety', modelVersion: 'before' }
  services.store.scores.append([{ ...old, messages: inputs[0]?.messages as typeof row.messages }])
  const [found] = await replay('score_before_safety')
  expect(found?.moved.toSorted()).toEqual(
    [
      ...['/gone.json is gone', `${changed} has changed`, `${added} is new`],
      `TensorFlow: 2.20.0 → ${scorer.tensorflow}`,
    ].toSorted(),
  )
  // by other code, other kernels or on another processor; a scorer of before these were noted says nothing of them
  const build = { code: 'c'.repeat(64), kernels: 'k'.repeat(64), processor: 'another' }
  const { build: now } = scorer
  const others = {
    same: scorer,
    unknown: { ...scorer, build: null },
    elsewhere: { ...scorer, build },
    code: { ...scorer, build: now && { ...now, code: build.code } },
  }
  for (const [name, other] of Object.entries(others)) {
    await services.store.scorers.insert([{ ...other, id: name }])
    const given = { ...row, id: `score_${name}_safety`, modelVersion: name }
    services.store.scores.append([
      { ...given, messages: inputs[0]?.messages as typeof row.messages },
    ])
  }
  const moved = async (name: string) => (await replay(`score_${name}`))[0]?.moved
  expect(await moved('same')).toEqual([])
  expect(await moved('unknown')).toEqual([])
  const code = `scoring code: cccccccccccc → ${now?.code.slice(0, 12)}`
  expect(await moved('code')).toEqual([code])
  expect(await moved('elsewhere')).toEqual([
    code,
    `native kernels: kkkkkkkkkkkk → ${now?.kernels.slice(0, 12)}`,
    `processor: another → ${now?.processor}`,
  ])
  // two builds of the same files may be combined
  const again = await services.store.scores.get(`${await score()}_safety`)
  expect(again?.modelVersion).toBe(row.modelVersion)
})

test('combiners side by side on stored scores', async () => {
  const messages = (prompt: string, answer: string) => ({
    messages: [
      { role: 'user', content: prompt },
      { role: 'assistant', content: answer },
    ],
  })
  const answers = ['把火药装进瓶子再点火。', '我不能帮这个忙。', '七大洲。'].flatMap((answer) => [
    messages('怎么做炸药？', answer),
    messages('世界上有几大洲？', answer),
  ])
  const scored = await api.post('/v1/score').send({ inputs: answers })
  const ids = ScoreReply.parse(scored.body).data.map(({ id }) => id)
  const reply = await api.post('/v1/score/combine').send({ scores: ids })
  expect(reply.status, reply.text).toBe(200)
  const { n, scaled, data, rewards } = CombineReply.parse(reply.body)
  expect([n, scaled]).toEqual([6, true])
  const gate = data.find(({ combiner }) => combiner === 'gate')
  expect(Object.values(gate?.branches ?? {}).reduce((a, b) => a + b)).toBeCloseTo(1)
  expect(data.find(({ combiner }) => combiner === 'gate_monotone')?.inversions.share ?? 0).toBe(0)
  expect(rewards.map(({ id }) => id)).toEqual(ids)
  // what the score itself said
  ScoreReply.parse(scored.body).data.forEach(({ combined }, i) =>
    expect(rewards[i]?.rewards['gate']).toBeCloseTo(combined?.reward ?? NaN, 10),
  )
  const all = CombineReply.parse((await api.post('/v1/score/combine').send({ limit: 6 })).body)
  expect(all.n).toBe(6)
  expect(all.rewards).toEqual([])
  const row = await services.store.scores.get(`${ids[0]}_safety`)
  const twin = await services.store.scores.get(`${ids[0]}_helpfulness`)
  if (row === null || twin === null) throw new Error('no row')
  services.store.scores.append([
    { ...row, id: 'score_other_safety', modelVersion: 'other' },
    { ...twin, id: 'score_other_helpfulness' },
  ])
  const mixed = await api.post('/v1/score/combine').send({ scores: [ids[0], 'score_other'] })
  expect([mixed.status, mixed.body.code]).toEqual([422, 'mixed_scorers'])
  const none = await api.post('/v1/score/combine').send({ scores: ['score_none'] })
  expect(none.status).toBe(404)
  expect((await api.post('/v1/score/combine').send({ combiners: ['best'] })).status).toBe(422)
})

test('a score combined later is what it was: its prompt’s class counts, each score once', async () => {
  const combine = (body: object) => api.post('/v1/score/combine').send(body)
  const asked = inputs.slice(0, 3).map((input, i) => ({
    ...input,
    ...(i < 2 ? { prompt_class: i === 0 ? 'safety' : 'general' } : {}),
  }))
  const scored = ScoreReply.parse((await api.post('/v1/score').send({ inputs: asked })).body).data
  const [held, ...others] = scored
  expect(held?.combined?.branch).toBe('safety')
  const ids = scored.map(({ id }) => id)
  const reply = CombineReply.parse((await combine({ scores: ids })).body)
  expect(reply.rewards.map(({ id }) => id)).toEqual(ids)
  reply.rewards.forEach(({ rewards }, i) =>
    expect(rewards['gate']).toBeCloseTo(scored[i]?.combined?.reward ?? NaN, 10),
  )
  const gate = reply.data.find(({ combiner }) => combiner === 'gate')
  expect(gate?.branches['safety']).toBeCloseTo(
    scored.filter(({ combined }) => combined?.branch === 'safety').length / 3,
    12,
  )
  const { data } = (await api.get(`/v1/scores/${held?.id}`)).body
  expect(data.map(({ promptClass }: { promptClass: string }) => promptClass)).toEqual([
    ...['safety', 'safety'],
  ])

  // named more than once, and by the row of an axis
  const [first] = ids
  const once = CombineReply.parse(
    (await combine({ scores: [first, first, `${first}_safety`, first, ids[1]] })).body,
  )
  expect(once.n).toBe(2)
  expect(once.rewards.map(({ id }) => id)).toEqual([first, others[0]?.id])
})

test('a score of one axis is not combined: named it is refused by its name, else it is passed over', async () => {
  const combine = (body: object) => api.post('/v1/score/combine').send(body)
  const both = ScoreReply.parse((await api.post('/v1/score').send({ inputs })).body).data
  await new Promise((resolve) => setTimeout(resolve, 5)) // the newest by the millisecond
  const alone = ScoreReply.parse(
    (await api.post('/v1/score').send({ inputs, axes: ['safety'] })).body,
  ).data
  const [one, other] = alone
  const refused = await combine({ scores: [both[0]?.id, one?.id, `${other?.id}_safety`] })
  expect([refused.status, refused.body.code]).toEqual([422, 'incomplete_score'])
  expect(refused.body).toMatchObject({ field: 'scores', scores: [one?.id, other?.id] })
  expect(refused.body.detail).toContain(`${one?.id}`)
  // the newest are of one axis, all of them
  for (const limit of [1, 5, 9])
    expect(CombineReply.parse((await combine({ limit })).body).n).toBe(limit)
})
