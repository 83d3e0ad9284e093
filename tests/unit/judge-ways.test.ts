import { expect, test } from 'vitest'
import { createJudge } from '../../src/judging/judge.ts'
import { languageOf } from '../../src/judging/language.ts'
import { createOpenAiRespondent } from '../../src/judging/openai-judge.ts'
import { openAiWording } from '../../src/judging/openai-prompts.ts'
import { createPanel } from '../../src/judging/panel.ts'
import { comparison, goodFirst, judged } from '../helpers/openai-judge.ts'
import { completion, scriptedServer } from '../helpers/scripted-server.ts'
import type { Scripted } from '../helpers/scripted-server.ts'

const { prompt } = comparison
const about = { axis: 'helpfulness' as const, prompt, answer: '黑色的。' }

test('a score is the expected value over ten numbers, renormalised', async () => {
  const { judge, server } = await judged(() => completion('8', { '8': 0.6, ' 9': 0.2, sure: 0.2 }))
  const [score] = await judge.score([about])
  expect(score).toMatchObject({ ok: true, soft: true })
  expect(score?.ok === true && score.score).toBeCloseTo(8.25, 9)
  expect(server.received[0]?.system).toContain('1（最差）')
})

test('a rubric is one question for each criterion and their weighted mean', async () => {
  const { judge, server } = await judged(({ system }) =>
    completion(system.includes('correctness') ? '10' : '4'),
  )
  const rubric = [
    { name: 'correctness', description: 'no wrong fact', weight: 3 },
    { name: 'tone', description: 'friendly', weight: 1 },
  ]
  const english = [{ role: 'user' as const, content: 'What colour is a raven?' }]
  const [given] = await judge.score([{ ...about, prompt: english, rubric }])
  expect(server.received).toHaveLength(2)
  expect(given).toMatchObject({
    ...{ ok: true, score: 8.5, soft: false },
    criteria: [
      { name: 'correctness', score: 10, weight: 3 },
      { name: 'tone', score: 4, weight: 1 },
    ],
  })
})

test('a criterion without a score leaves the answer without one', async () => {
  const { judge } = await judged(({ system }) => completion(system.includes('tone') ? '?' : '4'))
  const named = (name: string) => ({ name, description: '', weight: 1 })
  const [given] = await judge.score([{ ...about, rubric: [named('a'), named('tone')] }])
  expect(given).toMatchObject({ ok: false, failure: 'unparseable' })
})

test('in writing first: each order has its rationale, which the letter is asked after; clamped', async () => {
  const server = await scriptedServer((request) => {
    const turns = request.body['messages'] as { role: string; content: string }[]
    const last = turns.at(-1)?.content ?? ''
    if (turns.length === 2)
      return completion(`${goodFirst(request) ? 'The first' : 'The second'} is right. <|im_end|>`)
    expect(turns.map(({ role }) => role)).toEqual(['system', 'user', 'assistant', 'user'])
    expect(turns[2]?.content).not.toContain('<|im_end|>') // it may repeat what it read
    expect(last).toBe('哪个回答更有帮助？只回复一个字母：A 或 B。')
    const letter = turns[2]?.content.startsWith('The first') === true ? 'A' : 'B'
    return completion(letter, { [letter]: 0.98, [letter === 'A' ? 'B' : 'A']: 0.02 })
  })
  const options = { baseUrl: server.baseUrl, model: 'm', apiKey: null }
  const judge = createJudge(createOpenAiRespondent(options), openAiWording, {
    rationale: { maxTokens: 64, clamp: 0.1 },
  })
  const [verdict] = await judge.compare([comparison])
  expect(verdict).toMatchObject({
    ...{ ok: true, probability: 0.6, consistent: true, strength: 'significantly_better' },
    rationales: ['The first is right. <|im_end|>', 'The second is right. <|im_end|>'],
  })
  expect(judge.promptVersion).not.toBe(openAiWording.version)
  expect(server.received).toHaveLength(4)
  await server.close()
})

test('a score in writing first: the number is asked after what was written', async () => {
  const server = await scriptedServer((request) => {
    const turns = request.body['messages'] as { role: string; content: string }[]
    if (turns.length === 2) {
      expect(turns[1]?.content).toContain('先不要给出分数')
      return completion('It is right, and short.')
    }
    expect(turns.map(({ role }) => role)).toEqual(['system', 'user', 'assistant', 'user'])
    expect(turns[2]?.content).toBe('It is right, and short.')
    return completion('9', { '9': 0.75, '5': 0.25 })
  })
  const options = { baseUrl: server.baseUrl, model: 'm', apiKey: null }
  const judge = createJudge(createOpenAiRespondent(options), openAiWording, {
    rationale: { maxTokens: 64 },
  })
  const [score] = await judge.score([about])
  expect(score).toMatchObject({
    ...{ ok: true, soft: true, cached: false },
    criteria: [{ name: 'helpfulness', rationale: 'It is right, and short.' }],
  })
  expect(score?.ok === true && score.score).toBeCloseTo(8, 9)
  expect(server.received).toHaveLength(2)
  await server.close()
})

test('a rationale that was refused is a failure, and its comparison costs no letter', async () => {
  const server = await scriptedServer(() => completion(null, undefined, { refusal: 'No.' }))
  const options = { baseUrl: server.baseUrl, model: 'm', apiKey: null, maxRetries: 0 }
  const rationale = { maxTokens: 64 }
  const judge = createJudge(createOpenAiRespondent(options), openAiWording, { rationale })
  expect(await judge.compare([comparison])).toMatchObject([{ ok: false, failure: 'refused' }])
  expect(server.received).toHaveLength(2)
  await server.close()
})

test('prose in words of refusal is prose, whole or cut off', async () => {
  const sorry = "I'm sorry, I can't help with that."
  const server = await scriptedServer((_, i) =>
    completion(sorry, undefined, { finish: i === 0 ? 'stop' : 'length' }),
  )
  const respondent = createOpenAiRespondent({ baseUrl: server.baseUrl, model: 'm', apiKey: null })
  const assignment = { messages: prompt, maxTokens: 64 }
  expect(await respondent.write([assignment])).toEqual([{ ok: true, text: sorry }])
  expect(await respondent.write([assignment])).toEqual([{ ok: true, text: sorry, cut: true }])
  await server.close()
})

/** The definition, by its double sum. */
const chanceOfHigher = (p: readonly number[], q: readonly number[]): number =>
  p.reduce(
    (sum, pi, i) => sum + q.reduce((s, qj, j) => s + pi * qj * (1 + Math.sign(i - j)), 0),
    0,
  ) / 2

test('by scores: each answer is asked about once and alone, and the order is nothing', async () => {
  const distributions: Record<string, number[]> = {
    sure: [0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    low: [0.5, 0.3, 0.1, 0, 0, 0, 0, 0, 0, 0.1],
    wide: [0.1, 0.05, 0.15, 0.02, 0.08, 0.2, 0.1, 0.1, 0.15, 0.05],
    other: [0, 0.3, 0.02, 0.08, 0.1, 0.05, 0.05, 0.2, 0.1, 0.1],
  }
  const server = await scriptedServer(({ user }) => {
    const [name = ''] = Object.keys(distributions).filter((each) => user.includes(`(${each})`))
    const given = (distributions[name] ?? []).map((p, i) => [String(i + 1), p] as const)
    const [best] = given.toSorted(([, p], [, q]) => q - p)
    return completion(best?.[0] ?? '?', Object.fromEntries(given.filter(([, p]) => p > 0)))
  })
  const options = { baseUrl: server.baseUrl, model: 'm', apiKey: null }
  const judge = createJudge(createOpenAiRespondent(options), openAiWording, { by: 'score' })
  const names = Object.keys(distributions)
  const pairs = names.flatMap((a) => names.map((b) => [a, b] as const))
  const verdicts = await judge.compare(
    pairs.map(([a, b]) => ({ ...comparison, a: `(${a})`, b: `(${b})` })),
  )
  pairs.forEach(([a, b], i) => {
    const [verdict, p, q] = [verdicts[i], distributions[a] ?? [], distributions[b] ?? []]
    const expected = chanceOfHigher(p, q)
    const means = [p, q].map((each) => each.reduce((sum, pi, k) => sum + pi * (k + 1), 0))
    if (verdict?.ok !== true) throw new Error(`${a}, ${b}: ${JSON.stringify(verdict)}`)
    expect(verdict.probability, `${a}, ${b}`).toBeCloseTo(expected, 9)
    for (const order of verdict.orders) expect(order, `${a}, ${b}`).toBeCloseTo(expected, 9)
    expect(verdict.scores?.[0]).toBeCloseTo(means[0] ?? NaN, 9)
    expect(verdict.scores?.[1]).toBeCloseTo(means[1] ?? NaN, 9)
    expect(verdict).toMatchObject({ consistent: true, soft: true })
  })
  const all = server.received
  expect(all).toHaveLength(names.length) // each once, however many pairs it is in
  expect(all.filter(({ user }) => /\(\w+\)[^]*\(\w+\)/.test(user))).toEqual([])
  expect(judge.promptVersion).not.toBe(openAiWording.version)

  const drawn = await judge.compare([{ ...comparison, a: '(low)', b: '(wide)', order: 'b_first' }])
  expect(drawn[0]).toMatchObject({ ok: true, consistent: null })
  const [first] = drawn
  expect(first?.ok === true && first.scores?.[0]).toBeCloseTo(2.4, 9)
  await server.close()
})

test('by scores: equal answers are even, whatever the sums round to', async () => {
  const given = [0.1, 0.05, 0.15, 0.02, 0.08, 0.2, 0.1, 0.1, 0.15, 0.05]
  for (const shift of [0, 0.001, 0.003, 0.007, 0.013]) {
    const shares = given.map((p, i) => p + (i % 2 === 0 ? shift : -shift))
    const server = await scriptedServer(() =>
      completion('6', Object.fromEntries(shares.map((p, i) => [String(i + 1), p]))),
    )
    const options = { baseUrl: server.baseUrl, model: 'm', apiKey: null }
    const judge = createJudge(createOpenAiRespondent(options), openAiWording, { by: 'score' })
    const [verdict] = await judge.compare([{ ...comparison, b: comparison.a }])
    expect(verdict).toMatchObject({ ok: true, probability: 0.5, orders: [0.5, 0.5] })
    await server.close()
  }
})

test('by scores: an answer without a score leaves its comparison without a verdict', async () => {
  const server = await scriptedServer(({ user }) => completion(user.includes('蓝色') ? '?' : '7'))
  const options = { baseUrl: server.baseUrl, model: 'm', apiKey: null, maxRetries: 0 }
  const judge = createJudge(createOpenAiRespondent(options), openAiWording, { by: 'score' })
  const [first, second] = await judge.compare([comparison, { ...comparison, b: comparison.a }])
  expect(first).toMatchObject({ ok: false, failure: 'unparseable' })
  expect(second).toMatchObject({ ok: true, probability: 0.5, soft: false, scores: [7, 7] })
  await server.close()
})

test('a panel: the mean, how far its judges are apart, and no verdict from half of them', async () => {
  const saying = async (p: number) =>
    (await judged((r) => completion('A', goodFirst(r) ? { A: p, B: 1 - p } : { A: 1 - p, B: p })))
      .judge
  const silent = (await judged(() => completion('?'), { maxRetries: 0 })).judge
  const [sure, unsure] = [await saying(0.9), await saying(0.4)]
  const [both] = await createPanel('p', [sure, unsure]).compare([comparison])
  expect(both).toMatchObject({ ok: true, consistent: true })
  expect(both?.ok === true && both.probability).toBeCloseTo(0.65, 9)
  expect(both?.ok === true && both.disagreement).toBeCloseTo(0.25, 9)
  const [half] = await createPanel('p', [sure, silent]).compare([comparison])
  expect(half).toMatchObject({ ok: false, failure: 'unparseable' })
  const [most] = await createPanel('p', [sure, unsure, silent]).compare([comparison])
  expect(most).toMatchObject({
    ok: true,
    panel: [{ failure: null }, { failure: null }, { probability: null, failure: 'unparseable' }],
  })
})

test('a panel: a judge that contradicts itself in plain words has failed, a soft one is averaged', async () => {
  const place = (await judged(() => completion('A'))).judge
  const sure = (await judged((r) => completion(goodFirst(r) ? 'A' : 'B'))).judge
  const soft = (await judged(() => completion('A', { A: 0.9, B: 0.1 }))).judge
  const [half] = await createPanel('p', [sure, place]).compare([comparison])
  expect(half).toMatchObject({ ok: false, failure: 'inconsistent' })
  const [most] = await createPanel('p', [sure, place, soft]).compare([comparison])
  expect(most).toMatchObject({
    ok: true,
    probability: expect.closeTo(0.75, 12) as unknown,
    panel: [{ failure: null }, { probability: null, failure: 'inconsistent' }, { failure: null }],
  })
})

test('a panel: one that is configured wrongly stops the others', async () => {
  const wrong = (await judged(() => ({ status: 401, body: {} }))).judge
  const slow = await judged(() => ({ ...(completion('A') as object), delayMs: 100 }) as Scripted, {
    maxConcurrency: 1,
  })
  const asked = createPanel('p', [slow.judge, wrong]).compare(Array(20).fill(comparison))
  await expect(asked).rejects.toMatchObject({ code: 'judge_misconfigured' })
  const sent = slow.server.received.length
  expect(sent).toBeLessThan(20)
  await new Promise((resolve) => setTimeout(resolve, 300))
  expect(slow.server.received).toHaveLength(sent)
})

test('a panel in writing: strength and orders are on the side of its clamped label; what each wrote is kept', async () => {
  const server = await scriptedServer((request) => {
    const { messages, model } = request.body as { messages: { role: string }[]; model: string }
    if (messages.length === 2) return completion(`${model} has read both.`)
    const good = Number(model)
    const p = goodFirst(request) ? good : 1 - good
    return completion(p > 0.5 ? 'A' : 'B', { A: p, B: 1 - p })
  })
  const open = (model: string) =>
    createJudge(
      createOpenAiRespondent({ baseUrl: server.baseUrl, model, apiKey: null }),
      openAiWording,
      { rationale: { maxTokens: 64, clamp: 0.1 } },
    )
  const panel = (...models: string[]) => createPanel('p', models.map(open)).compare([comparison])
  // unclamped 0.565, clamped 0.4667
  const [split] = await panel('0.95', '0.37', '0.375')
  if (split?.ok !== true) throw new Error(JSON.stringify(split))
  expect(split.probability).toBeCloseTo((0.6 + 0.4 + 0.4) / 3, 9)
  for (const order of split.orders) expect(order).toBeCloseTo(split.probability, 9)
  expect(split.strength).toBe('negligibly_better')
  expect(split.rationales?.[0]).toBe(
    '0.95: 0.95 has read both.\n\n0.37: 0.37 has read both.\n\n0.375: 0.375 has read both.',
  )
  // on one side the strength is of what was said unclamped
  expect((await panel('0.95', '0.9'))[0]).toMatchObject({
    ...{ probability: expect.closeTo(0.6, 9) as unknown, strength: 'significantly_better' },
  })
  await server.close()
})

test.each([
  ['乌鸦是什么颜色的？', 'zh'],
  ['把 hello 翻译成中文', 'zh'],
  ['What does 你好 mean?', 'en'],
  ['烏は何色ですか', 'en'],
  ['¿De qué color es el cuervo?', 'en'],
])('%s is judged in %s', (content, language) => {
  expect(languageOf([{ role: 'user', content }])).toBe(language)
})
