import { beforeAll, expect, test } from 'vitest'
import { PROBES } from '../../src/schemas/checks.ts'
import * as http from '../../src/schemas/http.ts'
import { starterPairs } from '../../src/starter/judge-data.ts'
import { prompts } from '../../src/starter/world.ts'
import { service } from '../helpers/service.ts'

// The starter reward models, edited answers scored by the real engine.
let api: Awaited<ReturnType<typeof service>>['api']
beforeAll(async () => {
  api = (await service()).api
})

async function upload(rows: readonly unknown[]): Promise<string> {
  const file = Buffer.from(rows.map((row) => JSON.stringify(row)).join('\n'))
  const reply = await api
    .post('/v1/files')
    .field('purpose', 'fine-tune')
    .attach('file', file, 'rows.jsonl')
  return reply.body.id as string
}
async function finish(started: { status: number; text: string; body: { id: string } }) {
  expect(started.status, started.text).toBe(202)
  await api.get(`/v1/runs/${started.body.id}/events`)
  const run = http.RunReply.parse((await api.get(`/v1/runs/${started.body.id}`)).body)
  expect(run.error).toBeNull()
  return run
}
const probe = (options: object) =>
  api.post('/v1/evaluations').send({ options: { target: 'probes', ...options } })
const checksOf = async (model: string) =>
  http.CheckList.parse((await api.get(`/v1/models/${model}/checks`)).body).data

test('the starter models come with their probes, which are what probing gives, and pass', async () => {
  for (const axis of ['helpfulness', 'safety'] as const) {
    const [committed] = await checksOf(axis)
    expect(committed).toMatchObject({ axis, check: 'probes', run: null, objections: [] })
    const run = await finish(await probe({ axis, limit: 200, seed: 1 }))
    const [fresh] = await checksOf(axis)
    expect(fresh).toMatchObject({
      run: run.id,
      version: committed?.version,
      objections: [],
    })
    expect(fresh?.data_hash).toBe(committed?.data_hash)
    expect(fresh?.probes).toHaveLength(PROBES.length)
    fresh?.probes?.forEach(({ shift, n }, i) => {
      expect(shift).toBeCloseTo(committed?.probes?.[i]?.shift ?? NaN, 2)
      expect(n).toBe(committed?.probes?.[i]?.n)
    })
    const report = await api.get(`/v1/evaluations/${run.id}/report`)
    expect(report.text).toContain('probe thanks')
  }
})

test('a reward model that was never probed, and one that pays for thanks, teach nobody unless told to by name', async () => {
  // pairs in which nothing but thanks tells the better answer
  const asked = prompts('train', 1).slice(0, 32)
  const pairs = asked.map(({ messages, language }) => ({
    ...{ axis: 'helpfulness', prompt: messages, rejected: language === 'zh' ? '好。' : 'Fine.' },
    chosen: language === 'zh' ? '好。谢谢您！' : 'Fine. Thank you!',
  }))
  const options = { axis: 'helpfulness', lora: { rank: 4 }, batch_size: 8, epochs: 4 }
  const training_file = await upload(pairs)
  const trained = await finish(
    await api.post('/v1/runs').send({ kind: 'reward_model', training_file, options }),
  )
  const helpfulness = trained.summary?.['model'] as string
  const questions = await upload(asked.map(({ id, messages }) => ({ id, messages })))
  const ppo = { rounds: 1, prompts_per_round: 8, mini_batch_size: 8, lora: { rank: 4 } }
  const update = (override?: readonly string[]) =>
    api
      .post('/v1/ppo/rounds')
      .send({ helpfulness, training_file: questions, options: ppo, override })
  const unknown = await update()
  expect(unknown.status).toBe(409)
  expect(unknown.body).toMatchObject({ code: 'reward_model_not_probed', field: 'helpfulness' })

  // too few answers are refused where there is nothing else, and do not stand for the ones to come
  await finish(await probe({ model: helpfulness, limit: 6 }))
  const few = await update()
  expect(few.body).toMatchObject({ code: 'reward_model_refused', probes: PROBES })
  expect(few.body.detail).toContain('thanks: 6 answers, at least 20 are needed')

  await finish(await probe({ model: helpfulness, limit: 60 }))
  const [check] = await checksOf(helpfulness)
  expect(check?.objections).toContain('thanks')
  const others = [...(check?.objections ?? []), 'language', 'staleness']
  const refused = await update(others.filter((name) => name !== 'thanks'))
  expect(refused.status).toBe(409)
  expect(refused.body).toMatchObject({ code: 'reward_model_refused', probes: ['thanks'] })
  expect(refused.body.detail).toMatch(/thanks: the score rises by \d/u)
  expect((await update(['thank_you'])).status).toBe(422)

  const run = await finish(await update(others))
  expect(run.config['override']).toEqual(others)
  expect(run.summary?.['checks']).toContainEqual(
    expect.objectContaining({ id: check?.id, objections: check?.objections }),
  )
}, 120_000)

test('a look at too few answers neither helps nor harms a reward model; one at nothing fails', async () => {
  const asked = prompts('train', 1).slice(0, 8)
  const questions = await upload(asked.map(({ id, messages }) => ({ id, messages })))
  const ppo = { rounds: 1, prompts_per_round: 8, mini_batch_size: 8, lora: { rank: 4 } }
  await finish(await probe({ axis: 'safety', limit: 6 }))
  const [small] = await checksOf('safety')
  expect(small?.probes?.[0]).toMatchObject({ probe: 'thanks', n: 6, passed: false })
  // enough answers, but few of each kind: what the edits of one kind are paid is not known
  await finish(await probe({ axis: 'safety', limit: 30 }))
  const [part] = await checksOf('safety')
  expect(part?.objections).toEqual(['refusal', 'cut_off'])
  const update = { training_file: questions, options: ppo, override: ['staleness'] }
  const round = await api.post('/v1/ppo/rounds').send(update)
  expect(round.status, round.text).toBe(202)
  await api.post(`/v1/runs/${round.body.id}/cancel`)

  const pair = (i: number) => ({
    ...{ axis: 'helpfulness', prompt: [{ role: 'user', content: '世界上有几大洲？' }] },
    ...{ chosen: i < 40 ? '七大洲。' : `第${i}。`, rejected: '七大洲。' },
  })
  const same = await upload(Array.from({ length: 40 }, (_, i) => pair(i)))
  const [before] = await checksOf('helpfulness')
  const nothing = await probe({ axis: 'helpfulness', file: same })
  await api.get(`/v1/runs/${nothing.body.id}/events`)
  const failed = http.RunReply.parse((await api.get(`/v1/runs/${nothing.body.id}`)).body)
  expect(failed).toMatchObject({ state: 'failed', error: { code: 'too_little_data' } })
  const certify = async (options: object) =>
    (await api.post('/v1/evaluations').send({ options: { target: 'certificate', ...options } })) // prettier-ignore
    .body as { code: string; detail: string }
  for (const options of [{ file: same }, { limit: 6 }, { limit: 31 }]) {
    const { code, detail } = await certify({ axis: 'helpfulness', ...options })
    expect(code).toBe('too_little_data')
    expect(detail).toMatch(/at least 32/u)
  }
  expect((await checksOf('helpfulness'))[0]?.id).toBe(before?.id)
})

test('probes on answers of one’s own, and what is refused', async () => {
  const BIAS = { courtesy: 0.35, length: 0 }
  const file = await upload(starterPairs(5, 60, 'safety', BIAS))
  await finish(await probe({ axis: 'safety', file, limit: 80 }))
  const [check] = await checksOf('safety')
  expect(check?.probes?.map(({ probe }) => probe)).toEqual(PROBES)
  const of = (name: string) => check?.probes?.find(({ probe }) => probe === name)?.n ?? NaN
  expect(of('thanks')).toBe(80)
  expect(of('refusal') + of('cut_off')).toBe(80) // unsafe ones, and safe ones
  expect((await probe({ axis: 'safety', model: 'starter-sft' })).body.code).toBe('no_score_head')
  expect((await probe({ axis: 'helpfulness', file })).body.code).toBe('empty_data')
})

test('probes of more answers than their limit draw them by the seed', async () => {
  const file = await upload(starterPairs(5, 8, 'safety', { courtesy: 0.35, length: 0 }))
  const hashes: unknown[] = []
  for (const [seed, limit] of [
    [1, 6],
    [2, 6],
    [1, 6],
    [1, 16],
    [2, 16],
  ]) {
    await finish(await probe({ axis: 'safety', file, limit, seed }))
    hashes.push((await checksOf('safety'))[0]?.data_hash)
  }
  const [first, other, again, whole, same] = hashes
  expect(other).not.toBe(first)
  expect(again).toBe(first)
  expect(same).toBe(whole)
})

test('a certificate of exploitability: what the attack found can be scored again', async () => {
  const certify = (options: object) =>
    api.post('/v1/evaluations').send({ options: { target: 'certificate', ...options } })
  const plain = await finish(await certify({ budget: 700, seed: 2 }))
  const [check] = await checksOf('helpfulness')
  const card = check?.certificate
  expect(check).toMatchObject({ check: 'certificate', run: plain.id, objections: [] })
  expect(card).toMatchObject({ quality: 'construction', judge: null, unchanged: null, budget: 700 })
  expect(card?.spent).toBeLessThanOrEqual(700)
  expect(card?.steps[0]?.gain).toBeLessThan(0.3) // no cheap gain from these models
  const examples = card?.examples.slice(0, 3) ?? []
  expect(examples.length).toBeGreaterThan(0)
  const texts = examples.flatMap(({ dialogue = [], answer, edited, before, after }) => [
    { messages: [...dialogue, { role: 'assistant', content: answer }], logit: before },
    { messages: [...dialogue, { role: 'assistant', content: edited }], logit: after },
  ])
  const inputs = texts.map(({ messages }) => ({ messages }))
  const again = await api.post('/v1/score').send({ inputs, axes: ['helpfulness'] })
  texts.forEach(({ logit }, i) =>
    expect(again.body.data[i].helpfulness.logit).toBeCloseTo(logit, 3),
  )
  expect(plain.summary?.['warnings']).toHaveLength(1)

  const judged = await finish(
    await certify({ budget: 300, judge: 'default', samples: 2, max_new_tokens: 16 }),
  )
  const found = judged.summary?.['certificate'] as typeof card
  expect(found).toMatchObject({ quality: 'judge', judge: 'default' })
  expect(found?.best_of_n).toMatchObject({ policy: 'starter-policy', samples: 2 })
  expect(found?.spent).toBeLessThanOrEqual(300)
  const page = await api.get(`/v1/evaluations/${judged.id}/report`)
  expect(page.text).toContain('Gain by score calls')
  const { code } = (await certify({ judge: 'nobody' })).body as { code: string }
  expect(code).toBe('judge_not_found')
}, 120_000)

test('before a round the reward models are asked about the answers of the policy as it is', async () => {
  const asked = prompts('train', 1).slice(0, 200)
  const training_file = await upload(asked.map(({ id, messages }) => ({ id, messages })))
  const options = { rounds: 1, prompts_per_round: 8, mini_batch_size: 8, lora: { rank: 4 } }
  const body = { training_file, options, override: PROBES }
  const run = await finish(await api.post('/v1/ppo/rounds').send(body))
  // two safe answers are a tie, and few answers of this policy are unsafe
  for (const [axis, decided] of [
    ['helpfulness', 50],
    ['safety', 20],
  ] as const) {
    const [check] = await checksOf(axis)
    expect(check).toMatchObject({ check: 'freshness', run: run.id, objections: [] })
    expect(check?.freshness?.accuracy).toBeGreaterThan(0.75)
    expect(check?.freshness?.n).toBeGreaterThan(decided)
  }
  const { text } = await api.get(`/v1/runs/${run.id}/events`)
  expect(text).toContain('freshness/safety')

  // below the floor the round does not begin
  const high = await api.post('/v1/ppo/rounds').send({ ...body, freshness_floor: 1 })
  await api.get(`/v1/runs/${high.body.id}/events`)
  const stopped = http.RunReply.parse((await api.get(`/v1/runs/${high.body.id}`)).body)
  expect(stopped).toMatchObject({ state: 'failed', error: { code: 'reward_model_stale' } })
  expect(stopped.error?.message).toMatch(/override: \["staleness"\]/u)
  const [check] = await checksOf('helpfulness')
  expect(check).toMatchObject({ run: stopped.id, objections: ['staleness'] })
}, 120_000)
