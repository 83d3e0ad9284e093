import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Engine } from '../../src/engine/engine.ts'
import { cached } from '../../src/judging/cache.ts'
import { createJudge } from '../../src/judging/judge.ts'
import { createLocalRespondent } from '../../src/judging/local-judge.ts'
import { createLine, createOpenAiRespondent } from '../../src/judging/openai-judge.ts'
import type { OpenAiJudgeOptions } from '../../src/judging/openai-judge.ts'
import { openAiWording } from '../../src/judging/openai-prompts.ts'
import { createPace } from '../../src/judging/pace.ts'
import { openStore } from '../../src/store/store.ts'
import { comparison, goodFirst, judged } from '../helpers/openai-judge.ts'
import { completion, scriptedServer } from '../helpers/scripted-server.ts'
import type { Received, Scripted } from '../helpers/scripted-server.ts'

/** A judge with a cache in memory before a scripted server. */
async function withCache(
  script: (request: Received, index: number) => Scripted,
  options: Partial<OpenAiJudgeOptions> = {},
) {
  const server = await scriptedServer(script)
  const rows = new Map<string, unknown>()
  const open = (change: Partial<OpenAiJudgeOptions> = {}, read = true) =>
    createJudge(
      cached(
        createOpenAiRespondent({
          ...{ baseUrl: server.baseUrl, model: 'm', apiKey: null, ...options, ...change },
        }),
        {
          find: (keys) => Promise.resolve(new Map([...rows].filter(([key]) => keys.includes(key)))),
          keep: (kept) => {
            for (const { key, answer } of kept) rows.set(key, answer)
            return Promise.resolve()
          },
        },
        { read },
      ),
      openAiWording,
    )
  return { server, open }
}
const different = (n: number) =>
  Array.from({ length: n }, (_, i) => ({ ...comparison, b: `蓝色的${i}。` }))

describe('a repeated label costs nothing', () => {
  test('the second time nothing is asked, the verdict is the same and says so', async () => {
    const { server, open } = await withCache((r) =>
      completion('A', goodFirst(r) ? { A: 0.9, B: 0.1 } : { A: 0.2, B: 0.8 }, { tokens: 7 }),
    )
    const [first, again, other] = [open(), open(), open({ model: 'another' })]
    const [fresh] = await first.compare([comparison])
    expect(fresh).toMatchObject({ ok: true, cached: false })
    expect(first.usage()).toMatchObject({ requests: 2, cached: 0 })
    const [known] = await again.compare([comparison])
    expect(known).toEqual({ ...fresh, cached: true })
    expect(again.usage()).toMatchObject({ requests: 0, cached: 2 })
    expect(server.received).toHaveLength(2)
    await other.compare([comparison]) // another model's answers are not its own
    expect(server.received).toHaveLength(4)
    await open({}, false).compare([comparison]) // an audit asks again
    expect(server.received).toHaveLength(6)
    await server.close()
  })

  test('failures are not kept: what failed is asked again, and only that', async () => {
    let broken = true
    const { server, open } = await withCache(
      (r) => (broken && r.user.includes('蓝色的1') ? completion('?') : completion('A')),
      { maxRetries: 0 },
    )
    const before = await open().compare(different(3))
    expect(before.map(({ ok }) => ok)).toEqual([true, false, true])
    expect(server.received).toHaveLength(6)
    broken = false
    const after = open()
    expect((await after.compare(different(3))).map(({ ok }) => ok)).toEqual([true, true, true])
    expect(server.received).toHaveLength(8)
    expect(after.usage()).toMatchObject({ requests: 2, cached: 4 })
    await server.close()
  })

  test('a question that comes twice is asked once, so that the next time says the same', async () => {
    // a model may round its answer otherwise each time
    const { server, open } = await withCache((_, index) =>
      completion('A', { A: 0.9 - index / 1000, B: 0.1 + index / 1000 }),
    )
    const swapped = { ...comparison, a: comparison.b, b: comparison.a }
    const same = { ...comparison, b: comparison.a }
    const pairs = [comparison, swapped, comparison, same]
    const cold = await open().compare(pairs)
    expect(server.received).toHaveLength(3)
    const warm = await open().compare(pairs)
    const said = (verdicts: typeof cold) => verdicts.map((v) => (v.ok ? v.orders : null))
    expect(said(warm)).toEqual(said(cold))
    await server.close()
  })

  test('a run that is stopped in the middle keeps what it has paid for', async () => {
    const { server, open } = await withCache(() => completion('A'), { maxConcurrency: 1 })
    const stop = new AbortController()
    const onProgress = (done: number): void => {
      if (done === 3) stop.abort(new Error('stopped'))
    }
    await expect(
      open().compare(different(10), { onProgress, signal: stop.signal }),
    ).rejects.toThrow('stopped')
    const paid = server.received.length
    expect(paid).toBeLessThan(10)
    const resumed = open()
    await resumed.compare(different(10))
    expect(resumed.usage().cached).toBeGreaterThanOrEqual(6)
    expect(server.received.length).toBeLessThanOrEqual(21) // at most the one under way is paid for twice
    await server.close()
  })
})

test('what is written is kept part by part: a crash costs at most a part', async () => {
  const server = await scriptedServer(() => completion('said'))
  const kept: number[] = []
  const respondent = cached(
    createOpenAiRespondent({ baseUrl: server.baseUrl, model: 'm', apiKey: null }),
    {
      find: () => Promise.resolve(new Map()),
      keep: (rows) => Promise.resolve(void kept.push(rows.length)),
    },
  )
  const steps: number[] = []
  const written = await respondent.write(
    Array.from({ length: 300 }, (_, i) => ({
      ...{ messages: [{ role: 'user' as const, content: `${i}` }], maxTokens: 4 },
    })),
    { onProgress: (done) => void steps.push(done) },
  )
  expect(written).toHaveLength(300)
  expect(kept).toEqual([128, 128, 44])
  expect(steps).toEqual(Array.from({ length: 300 }, (_, i) => i + 1))
  await server.close()
})

test('the store keeps many answers at once, and the newest of each', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'libra-answers-'))
  const store = await openStore(folder)
  // SQLite takes 32,766 values in a statement, three to a row
  const rows = Array.from({ length: 12_000 }, (_, i) => ({ key: `k${i}`, answer: { said: 1 } }))
  await store.keepJudgeAnswers(rows)
  await store.keepJudgeAnswers([{ key: 'k1', answer: { said: 2 } }])
  const found = await store.judgeAnswers(['k0', 'k1', 'k11999'])
  expect(Object.fromEntries(found)).toEqual({
    ...{ k0: { said: 1 }, k1: { said: 2 }, k11999: { said: 1 } },
  })
  await store.close()
  rmSync(folder, { recursive: true })
})

describe('usage and budgets', () => {
  const usage = { prompt_tokens: 1000, completion_tokens: 1, total_tokens: 1001 }
  const reply = (): Scripted => {
    const { body } = completion('A') as { body: object }
    return { body: { ...body, usage } }
  }

  test('tokens and cost by the prices of the profile', async () => {
    const { judge } = await judged(reply, { price: { prompt: 2, completion: 8 } })
    await judge.compare(different(3))
    const { requests, prompt_tokens, completion_tokens, cost } = judge.usage()
    expect([requests, prompt_tokens, completion_tokens]).toEqual([6, 6000, 6])
    expect(cost).toBeCloseTo((6000 * 2 + 6 * 8) / 1e6, 12)
  })

  test('what is over the budget fails as over_budget and is not asked', async () => {
    const { judge, server } = await judged(reply, {
      ...{ price: { prompt: 2, completion: 8 }, budget: { cost: 0.004 }, maxConcurrency: 1 },
    })
    const verdicts = await judge.compare(different(4)) // one order costs 0.002008
    expect(verdicts.map((v) => (v.ok ? 'ok' : v.failure))).toEqual([
      ...['ok', 'over_budget', 'over_budget', 'over_budget'],
    ])
    expect(server.received).toHaveLength(2)
  })
})

describe('a server that tells no usage', () => {
  const silent = (): Scripted => {
    const { body } = completion('A') as { body: object }
    return { body: { ...body, usage: undefined } }
  }
  const price = { prompt: 2, completion: 8 }

  test('its cost is not known, which is not 0', async () => {
    const { judge } = await judged(silent, { price })
    expect((await judge.compare([comparison]))[0]).toMatchObject({ ok: true })
    expect(judge.usage()).toMatchObject({ requests: 2, cost: null })
    // a total alone has no price either
    const total = (): Scripted => {
      const { body } = completion('A') as { body: object }
      return { body: { ...body, usage: { total_tokens: 9 } } }
    }
    const other = await judged(total, { price, budget: { tokens: 9 }, maxConcurrency: 1 })
    expect((await other.judge.compare(different(2))).map(({ ok }) => ok)).toEqual([true, false])
    expect(other.judge.usage().cost).toBeNull()
  })

  test.each([
    ['tokens', { tokens: 1 }],
    ['cost', { cost: 1e-6 }],
  ])('no budget of %s can be kept: the work ends with a sentence', async (field, budget) => {
    const { judge, server } = await judged(silent, { price, budget, maxConcurrency: 1 })
    const error = await judge.compare(different(3)).catch((e: unknown) => e)
    expect(error).toMatchObject({
      ...{ code: 'judge_misconfigured', details: { field: `budget.${field}` } },
      message: expect.stringContaining('usage') as unknown,
    })
    expect(server.received.length).toBeLessThan(6)
  })
})

test('a local judge counts its requests against the budget; what is over it fails and is not asked', async () => {
  let asked = 0
  const engine = {
    describe: () => Promise.resolve({ version: 'v', contextLength: 512 }),
    optionLogprobs: ({ prompts }: { prompts: unknown[] }) => {
      asked += prompts.length
      return Promise.resolve(prompts.map(() => [Math.log(0.75), Math.log(0.25)]))
    },
    generate: () => Promise.resolve([[{ text: 'said' }]]),
  } as unknown as Engine
  const open = (requests: number) =>
    createLocalRespondent(engine, { base: 'b', adapters: [] }, 'local', { requests })
  const question = { messages: comparison.prompt, options: ['A', 'B'] }
  const three = open(3)
  const choices = await three.choose([[question, question], [question, question], [question]])
  expect(choices.map((own) => own.map((c) => (c.ok ? 'ok' : c.failure)))).toEqual([
    ...[['ok', 'ok'], ['over_budget', 'over_budget'], ['ok']],
  ])
  expect([asked, three.usage().requests]).toEqual([3, 3])
  const assignment = { messages: comparison.prompt, maxTokens: 4 }
  const [first, second] = await open(1).write([assignment, assignment])
  expect(first).toMatchObject({ ok: true, text: 'said' })
  expect(second).toMatchObject({ ok: false, failure: 'over_budget' })
})

describe('pace', () => {
  /** Time that only passes when somebody sleeps. */
  function clock() {
    let now = 0
    return {
      now: () => now,
      sleep: (ms: number) => Promise.resolve(void (now += ms)),
    }
  }
  const never = new AbortController().signal

  test('never more requests in any minute than allowed', async () => {
    const time = clock()
    const pace = createPace({ requestsPerMinute: 3 }, time)
    const at: number[] = []
    for (let i = 0; i < 8; i++) {
      await pace.take(never)
      at.push(time.now())
    }
    expect(at).toEqual([0, 0, 0, 60_000, 60_000, 60_000, 120_000, 120_000])
  })

  test('tokens of the last minute hold the next request back', async () => {
    const time = clock()
    const pace = createPace({ tokensPerMinute: 100 }, time)
    await pace.take(never)
    pace.spend(60)
    await time.sleep(10_000)
    await pace.take(never)
    pace.spend(70)
    await pace.take(never) // 130 are too many until the first 60 are a minute old
    expect(time.now()).toBe(60_000)
  })

  test('one answer that says wait makes all wait', async () => {
    const server = await scriptedServer((_, i) =>
      i === 0 ? { status: 429, headers: { 'retry-after': '1' }, body: {} } : completion('A'),
    )
    const line = createLine(4)
    const ask = () =>
      createJudge(
        createOpenAiRespondent({ baseUrl: server.baseUrl, model: 'm', apiKey: null, line }),
        openAiWording,
      ).compare([comparison])
    const first = ask()
    while (server.received.length === 0) await new Promise((r) => setTimeout(r, 5))
    await new Promise((r) => setTimeout(r, 100))
    const [started, sent] = [performance.now(), server.received.length]
    await ask()
    expect(performance.now() - started).toBeGreaterThan(700)
    expect(sent).toBeLessThanOrEqual(2) // the two orders of the first comparison were on their way
    await first
    await server.close()
  })
})
