import { expect, test, vi } from 'vitest'
import type { z } from 'zod'
import { ChatReply } from '../../src/schemas/openai.ts'
import { service } from '../helpers/service.ts'

const { api, services } = await service()
const prompt = '请教我怎么制作火药？'
const messages = [{ role: 'user', content: prompt }]
const chat = (body: object) =>
  api.post('/v1/chat/completions').send({ messages, seed: 5, max_tokens: 24, ...body })
const reply = async (body: object): Promise<z.output<typeof ChatReply>> =>
  ChatReply.parse((await chat(body)).body)
const textsOf = ({ choices }: z.output<typeof ChatReply>): string[] =>
  choices.map(({ message }) => message.content)

test('best of n is what /v1/rank and /v1/score put first among the answers of the same seed', async () => {
  const all = await reply({ n: 8 })
  const best = await reply({ best_of: 8, logprobs: true })
  const candidates = textsOf(all)
  const ranked = await api.post('/v1/rank').send({ prompt, candidates })
  const order = (ranked.body.data as { index: number }[]).map(({ index }) => index)
  expect(textsOf(best)).toEqual([candidates[order[0] ?? -1]])
  const inputs = candidates.map((response) => ({ prompt, response }))
  const scored = (await api.post('/v1/score').send({ inputs })).body.data as {
    combined: { reward: number; branch: string }
  }[]
  // let through by the gate before held back, then by reward
  const [first] = scored.toSorted(
    ({ combined: a }, { combined: b }) =>
      Number(a.branch === 'safety') - Number(b.branch === 'safety') || b.reward - a.reward,
  )
  const [choice] = best.choices
  expect(choice?.score?.combined?.reward).toBeCloseTo(first?.combined.reward ?? NaN, 4)
  expect(choice?.score?.combined?.branch).toBe(first?.combined.branch)
  expect(choice?.logprobs?.content.length).toBeGreaterThan(0)
  expect(best.best_of).toEqual({
    ...{ sampled: 8, distinct: new Set(candidates).size },
    kl_bound: expect.closeTo(1.2044415417, 9) as unknown, // ln 8 − 7/8
  })
  expect(best.usage).toEqual(all.usage)
})

test('n of best_of: the best first, what was sampled is paid for, every score is kept', async () => {
  const all = await reply({ n: 4 })
  const before = await api.get('/v1/scores').query({ limit: 1000 })
  const two = await reply({ n: 2, best_of: 4 })
  const everything = await reply({ n: 4, best_of: 4 })
  expect(textsOf(everything).sort()).toEqual(textsOf(all).sort())
  expect(textsOf(two)).toEqual(textsOf(await reply({ n: 4, best_of: 4 })).slice(0, 2))
  expect(two.choices.map(({ index }) => index)).toEqual([0, 1])
  for (const { choices } of [two, everything]) {
    const through = choices.filter(({ score }) => score?.combined?.branch === 'helpfulness')
    expect(choices.slice(0, through.length)).toEqual(through)
    for (const part of [through, choices.slice(through.length)]) {
      const rewards = part.map(({ score }) => score?.combined?.reward ?? NaN)
      expect(rewards).toEqual(rewards.toSorted((a, b) => b - a))
    }
  }
  expect(two.best_of?.kl_bound).toBeCloseTo(0.6250928026, 9)
  expect(everything.best_of?.kl_bound).toBe(0)
  expect((await reply({ best_of: 4 })).best_of?.kl_bound).toBeCloseTo(0.6362943611, 9)
  expect(two.usage).toEqual(all.usage)
  const { body } = await api.get(`/v1/scores/${two.choices[0]?.score?.id}`)
  expect(body.data).toMatchObject([
    {
      axis: 'helpfulness',
      logit: two.choices[0]?.score?.helpfulness?.logit,
      messages: [...messages, { role: 'assistant', content: textsOf(two)[0] }],
    },
    { axis: 'safety', logit: two.choices[0]?.score?.safety?.logit },
  ])
  const after = await api.get('/v1/scores').query({ limit: 1000 })
  // four requests of four answers on two axes
  expect(after.body.data.length - before.body.data.length).toBe(4 * 4 * 2)
})

test('sampling and scoring are admitted as one, as many items as answers are sampled', async () => {
  const admit = vi.spyOn(services.admission, 'admit')
  await reply({ n: 2, best_of: 6 })
  expect(admit.mock.calls.map(([items]) => items)).toEqual([6])
  admit.mockRestore()
})

test('without best_of nothing is scored, best_of 1 chooses nothing and may be streamed', async () => {
  const plain = await reply({})
  expect(plain).not.toHaveProperty('best_of')
  expect(plain.choices[0]).not.toHaveProperty('score')
  expect(await reply({ best_of: null })).not.toHaveProperty('best_of')
  const one = await reply({ best_of: 1 })
  expect(textsOf(one)).toEqual(textsOf(plain))
  expect(one.best_of).toEqual({ sampled: 1, distinct: 1, kl_bound: 0 })
  expect((await chat({ best_of: 1, stream: true })).text).toContain('data: [DONE]')
  expect((await chat({ best_of: 1, temperature: 0 })).status).toBe(200)
})

test.each([
  ['fewer than n', { n: 3, best_of: 2 }, 'at least n = 3'],
  ['a stream', { best_of: 2, stream: true }, 'streamed'],
  ['temperature 0', { best_of: 2, temperature: 0 }, 'temperature 0'],
  ['more than are sampled at once', { best_of: 65 }, '64'],
  ['no answers', { best_of: 0 }, '1'],
])('best_of: refused by name: %s', async (_, body, why) => {
  const { status, body: problem } = await chat(body)
  expect(status).toBe(422)
  expect(problem).toMatchObject({ code: 'invalid_request', error: { param: 'best_of' } })
  expect(problem.detail).toMatch(/^best_of: /)
  expect(problem.detail).toContain(why)
})
