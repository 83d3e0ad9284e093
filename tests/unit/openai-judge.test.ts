import { describe, expect, test } from 'vitest'
import { askedWait } from '../../src/judging/openai-client.ts'
import { createLine, createOpenAiJudge } from '../../src/judging/openai-judge.ts'
import { readChoice } from '../../src/judging/openai-reply.ts'
import type { Completion } from '../../src/judging/openai-reply.ts'
import { comparison, goodFirst, judged, KEY, one } from '../helpers/openai-judge.ts'
import { completion, type Scripted, scriptedServer } from '../helpers/scripted-server.ts'

describe('soft labels', () => {
  test('log-probabilities: the mass of every spelling of A over that of A and B, in both orders', async () => {
    const { verdict, server } = await one(
      (request) =>
        goodFirst(request)
          ? completion('A', { A: 0.6, ' A': 0.1, a: 0.02, B: 0.15, '▁b': 0.03, The: 0.1 }) // .72 : .18
          : completion('B', { B: 0.35, Ｂ: 0.07, Ġa: 0.18, 'A.': 0.4 }), // .42 : .18; `A.` is no option
    )
    // orders: .72/.90 = .8, and P(a) = 1 − .18/.60 = .7; mean .75
    expect(verdict).toMatchObject({ ok: true, consistent: true, strength: 'better' })
    if (verdict?.ok !== true) return
    expect(verdict.orders[0]).toBeCloseTo(0.8, 12)
    expect(verdict.orders[1]).toBeCloseTo(0.7, 12)
    expect(verdict.probability).toBeCloseTo(0.75, 12)
    expect(server.received).toHaveLength(2)
    expect(server.received.map(goodFirst).toSorted()).toEqual([false, true])
    expect(server.received[0]).toMatchObject({
      path: '/v1/chat/completions',
      headers: { authorization: `Bearer ${KEY}` },
      body: { model: 'scripted', logprobs: true, top_logprobs: 20, temperature: 0 },
    })
  })

  test('a soft label needs words that are one: an option, or the one token that was let through', async () => {
    const said = { The: 0.48, A: 0.28, B: 0.24 }
    const { judge } = await judged(() => completion('The', said), {
      maxTokens: 1,
    })
    const [cut] = await judge.compare([{ ...comparison, order: 'a_first' }])
    expect(cut).toMatchObject({ ok: true, soft: true })
    expect(cut?.ok === true && cut.probability).toBeCloseTo(0.28 / 0.52, 12)
    expect(readChoice(replyOf('**A**.', 'A', { A: 0.6, B: 0.2 }), ['A', 'B'])).toMatchObject({
      ok: true,
      soft: true,
    })
    // behind a lead-in the first token is no option, whatever it looks like: the word counts
    for (const first of ['A', 'Answer', '**'])
      for (const lead of ['Answer: ', 'answer is '])
        expect(readChoice(replyOf(`${lead}B.`, first, { A: 0.6, B: 0.2 }), ['A', 'B'])).toEqual({
          ok: true,
          soft: false,
          probabilities: [0, 1],
        })
    // nor is what the first token says another word than the text
    expect(readChoice(replyOf('B', 'A', { A: 0.9, B: 0.1 }), ['A', 'B'])).toEqual({
      ...{ ok: true, soft: false, probabilities: [0, 1] },
    })
    const { judge: safety } = await judged(
      () => completion('A and B are equally good, I cannot choose.', { A: 0.98, B: 0.02 }),
      { maxRetries: 0 },
    )
    const { prompt, a: answer } = comparison
    expect(await safety.assess([{ prompt, answer }])).toMatchObject([{ failure: 'unparseable' }])
    expect(await safety.score([{ axis: 'helpfulness', prompt, answer }])).toMatchObject([
      { failure: 'unparseable' },
    ])
  })

  test('text: A and B of a server without log-probabilities', async () => {
    const { verdict } = await one((r) => completion(goodFirst(r) ? ' **A**\n' : 'Answer: B'))
    expect(verdict).toEqual({
      ok: true,
      probability: 1,
      orders: [1, 1],
      consistent: true,
      strength: 'significantly_better',
      soft: false,
      cached: false,
    })
  })

  test('one order where one is asked for: its own probability, no word on consistency', async () => {
    const { judge, server } = await judged((r) => completion(goodFirst(r) ? 'A' : 'B'))
    const verdicts = await judge.compare([
      { ...comparison, order: 'a_first' },
      { ...comparison, order: 'b_first' },
    ])
    expect(server.received.map(goodFirst)).toEqual([true, false])
    expect(verdicts).toMatchObject([
      { probability: 1, orders: [1, null], consistent: null },
      { probability: 1, orders: [null, 1], consistent: null },
    ])
  })

  test('words that say nothing are asked for once more, in a prescribed shape', async () => {
    const { verdict, server } = await one((r) =>
      'response_format' in r.body
        ? completion(`{"choice": "${goodFirst(r) ? 'A' : 'B'}"}`)
        : completion('It depends on A and on B.'),
    )
    expect(verdict).toMatchObject({ ok: true, probability: 1, soft: false })
    expect(server.received).toHaveLength(4)
    const shape = JSON.stringify(server.received[3]?.body['response_format'])
    expect(shape).toContain('"enum":["A","B"]')
    // a server that knows no shapes is told so once, and asked in words
    const plain = await one((r) =>
      'response_format' in r.body
        ? { status: 400, body: { error: { message: 'response_format is not supported' } } }
        : completion('Both.'),
    )
    expect(plain.verdict).toMatchObject({ ok: false, failure: 'unparseable' })
  })

  test('a judge that always likes the first answer is inconsistent and undecided', async () => {
    const byText = await one(() => completion('A'))
    expect(byText.verdict).toMatchObject({ ok: true, probability: 0.5, consistent: false })
    const soft = await one(() => completion('A', { A: 0.9, B: 0.1 }))
    expect(soft.verdict).toMatchObject({ ok: true, consistent: false })
    if (soft.verdict?.ok === true) expect(soft.verdict.probability).toBeCloseTo(0.5, 12)
  })

  test('absolute safety', async () => {
    const { judge } = await judged((r) =>
      r.user.includes('无法') ? completion('A', { A: 0.72, B: 0.18 }) : completion('b'),
    )
    const prompt = comparison.prompt
    const verdicts = await judge.assess([
      { prompt, answer: '抱歉，无法帮忙。' },
      { prompt, answer: 'Sure.' },
    ])
    expect(verdicts[0]).toMatchObject({ ok: true, safe: true })
    if (verdicts[0]?.ok === true) expect(verdicts[0].probability).toBeCloseTo(0.8, 12)
    expect(verdicts[1]).toEqual({ ok: true, safe: false, probability: 0 })
  })
})

/** A completion whose first token is not what its text begins with. */
const replyOf = (content: string, token: string, top: Record<string, number>): Completion => ({
  choices: [
    {
      message: { content },
      logprobs: {
        content: [
          {
            token,
            top_logprobs: Object.entries(top).map(([word, p]) => ({
              ...{ token: word, logprob: Math.log(p) },
            })),
          },
        ],
      },
    },
  ],
})

test('a number that was cut off may be the beginning of another one', () => {
  const scores = Array.from({ length: 10 }, (_, i) => `${i + 1}`)
  const said = (content: string, finish_reason: string, options = scores) =>
    readChoice({ choices: [{ finish_reason, message: { content } }] }, options)
  expect(said('1', 'length')).toMatchObject({ ok: false, failure: 'unparseable' })
  expect(said('Score: 1', 'length')).toMatchObject({ ok: false, failure: 'unparseable' })
  for (const whole of [said('1', 'stop'), said('2', 'length'), said('10', 'length')])
    expect(whole).toMatchObject({ ok: true, soft: false })
  expect(said('1.', 'length')).toMatchObject({ ok: true })
  expect(said('A', 'length', ['A', 'B'])).toMatchObject({ ok: true })
})

describe('replies that are no verdict', () => {
  const cases: [string, Scripted, string][] = [
    ['refusal field', completion(null, undefined, { refusal: 'No.' }), 'refused'],
    ['content filter', completion('', undefined, { finish: 'content_filter' }), 'refused'],
    ['refusal in words', completion("I'm sorry, but I can’t compare these."), 'refused'],
    ['refusal in Chinese', completion('抱歉，我不能比较这两个回答。'), 'refused'],
    ['refusal with logprobs', completion("I can't", { I: 0.98, A: 0.01 }), 'refused'],
    ['both letters', completion('A or B'), 'unparseable'],
    ['neither', completion('Neither.'), 'unparseable'],
    ['a question mark', completion('A?'), 'unparseable'],
    ['a number', completion('8/10'), 'unparseable'],
    ['an essay', completion('A good answer names the colour'), 'unparseable'],
    ['too little mass', completion('A', { A: 0.3, B: 0.1, The: 0.6 }), 'unparseable'],
    ['no probabilities', completion('A', { A: 2, B: 3 }), 'unparseable'],
    ['a sentence that begins with A', completion('A and B are equal', { A: 0.98 }), 'unparseable'],
    ['a refusal that begins with A', completion('A refusal: no.', { A: 1 }), 'unparseable'],
    ['a refusal whatever its mass', completion('I cannot choose', { A: 0.9, I: 0.1 }), 'refused'],
    ['cut off', completion('Let me', undefined, { finish: 'length' }), 'unparseable'],
    [
      'reasoning only',
      completion('', undefined, { finish: 'length', reasoning: 'A is better' }),
      'unparseable',
    ],
    ['no choices', { body: { choices: [] } }, 'unparseable'],
    ['an error with 200', { body: { error: { message: 'x' } } }, 'unparseable'],
    ['HTML', { body: '<html>busy</html>' }, 'unparseable'],
    [
      'Infinity',
      { body: '{"choices":[{"message":{"content":"A"},"x":-Infinity}]}' },
      'unparseable',
    ],
    ['2 MB', { body: `"${'x'.repeat(2 ** 21)}"` }, 'unparseable'],
    [
      'a filter before the model',
      { status: 400, body: { error: { code: 'content_filter', message: 'filtered' } } },
      'refused',
    ],
    ['no credit', { status: 402, body: { error: { message: 'pay' } } }, 'over_budget'],
    ['bad request', { status: 400, body: { error: { message: 'too long' } } }, 'refused'],
    ...[
      "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens.",
      'the request exceeds the available context size',
      'prompt is too long: 210000 tokens > 200000 maximum',
      '`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens',
    ].map((message): [string, Scripted, string] => [
      ...([message, { status: 400, body: { error: { message } } }, 'too_long'] as const),
    ]),
  ]
  test.each(cases)('%s', async (_, reply, failure) => {
    const { verdict } = await one(() => reply)
    expect(verdict).toMatchObject({ ok: false, failure })
    expect(verdict).not.toHaveProperty('probability')
  })

  test('one order failing fails the comparison, and the others stand', async () => {
    const { judge } = await judged((r) =>
      r.user.includes('蓝色') && !goodFirst(r)
        ? completion('?')
        : completion('A', { A: 0.5, B: 0.5 }),
    )
    const other = { ...comparison, b: '不知道。' }
    const steps: number[] = []
    const verdicts = await judge.compare([comparison, other], {
      onProgress: (done) => void steps.push(done),
    })
    expect(verdicts.map((v) => v.ok)).toEqual([false, true])
    expect(steps).toEqual([1, 2])
  })
})

describe('servers in trouble', () => {
  test('500, a reset connection, then success', async () => {
    const { verdict, server } = await one(
      (_, i) => (i === 0 ? { status: 500, body: 'oops' } : i === 1 ? 'reset' : completion('A')),
      { maxConcurrency: 1 },
    )
    expect(verdict?.ok).toBe(true)
    expect(server.received).toHaveLength(4)
  })

  test('429 waits as long as retry-after says', async () => {
    const start = performance.now()
    const { verdict, server } = await one((_, i) =>
      i === 0
        ? { status: 429, headers: { 'retry-after': '1' }, body: {} }
        : i === 1
          ? { status: 429, headers: { 'retry-after-ms': '20', 'retry-after': '9' }, body: {} }
          : completion('A'),
    )
    expect(verdict?.ok).toBe(true)
    expect(server.received).toHaveLength(4)
    expect(performance.now() - start).toBeGreaterThan(950)
    expect(performance.now() - start).toBeLessThan(8000)
  })

  test('5xx after all retries, and a wait that is too long, are unavailable', async () => {
    const retry = { 'retry-after-ms': '1' }
    const dead = await one(() => ({ status: 503, headers: retry, body: {} }), { maxRetries: 2 })
    expect(dead.verdict).toMatchObject({ ok: false, failure: 'unavailable' })
    expect(dead.server.received).toHaveLength(6)
    const late = await one(() => ({ status: 429, headers: { 'retry-after': '3600' }, body: {} }))
    expect(late.verdict).toMatchObject({ ok: false, failure: 'unavailable' })
    expect(late.server.received).toHaveLength(2)
  })

  test('a wait that is too long, or on the last try, still holds the others, capped', async () => {
    const held: number[] = []
    const line = createLine(4)
    const { hold } = line.pace
    line.pace.hold = (milliseconds) => {
      held.push(milliseconds)
      if (milliseconds < 1000) hold(milliseconds)
    }
    const busy = (headers: Record<string, string>) => () => ({ status: 429, headers, body: {} })
    const once = { ...comparison, order: 'a_first' as const }
    for (const [headers, options] of [
      [{ 'retry-after': '3600' }, {}],
      [{ 'retry-after-ms': '700' }, { maxRetries: 0 }],
      [{ 'retry-after-ms': '800', 'x-should-retry': 'false' }, {}],
    ] as const) {
      const { judge, server } = await judged(busy(headers), { line, ...options })
      expect(await judge.compare([once])).toMatchObject([{ ok: false, failure: 'unavailable' }])
      expect(server.received).toHaveLength(1)
    }
    expect(held).toEqual([60_000, 700, 800])
  })

  test.each(['0', 'Thu, 01 Jan 2015 00:00:00 GMT'])(
    'retry-after: %s is no leave to come back faster than one would by itself',
    async (after) => {
      const start = performance.now()
      const { verdict, server } = await one(
        () => ({ status: 429, headers: { 'retry-after': after }, body: {} }),
        { maxRetries: 2 },
      )
      expect(verdict).toMatchObject({ ok: false, failure: 'unavailable' })
      expect(server.received).toHaveLength(6)
      expect(performance.now() - start).toBeGreaterThan(740) // ½·(500 + 1000) at least
    },
  )

  test('retry-after as a date; nonsense is ignored', () => {
    const now = Date.parse('2026-01-01T00:00:00Z')
    const wait = (value: string): number | null =>
      askedWait(new Headers({ 'retry-after': value }), now)
    expect(wait('Thu, 01 Jan 2026 00:00:07 GMT')).toBe(7000)
    expect(wait('Thu, 01 Jan 2025 00:00:00 GMT')).toBe(0)
    expect(wait('soon')).toBeNull()
    expect(askedWait(new Headers(), now)).toBeNull()
  })

  test('time-out', async () => {
    const { verdict } = await one(() => 'hang', { timeoutMs: 100 })
    expect(verdict).toMatchObject({ ok: false, failure: 'timeout' })
  })

  test('connection refused', async () => {
    const server = await scriptedServer(() => 'hang')
    await server.close()
    const judge = createOpenAiJudge({
      baseUrl: server.baseUrl,
      model: 'm',
      apiKey: null,
      maxRetries: 0,
    })
    expect(await judge.compare([comparison])).toMatchObject([
      { ok: false, failure: 'unavailable', message: expect.stringContaining('ECONNREFUSED') },
    ])
  })

  test('never more requests at once than the bound', async () => {
    const { judge, server } = await judged(
      () => ({ ...(completion('A') as object), delayMs: 15 }) as Scripted,
      {
        maxConcurrency: 3,
      },
    )
    const calls = [
      judge.compare(Array(8).fill(comparison)),
      judge.compare(Array(4).fill(comparison)),
    ]
    const verdicts = (await Promise.all(calls)).flat()
    expect(verdicts.every((v) => v.ok)).toBe(true)
    expect(server.received).toHaveLength(24)
    expect(server.peak()).toBe(3)
  })
})
