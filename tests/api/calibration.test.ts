import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { Calibration } from '../../src/schemas/model.ts'
import { starterPairs } from '../../src/starter/judge-data.ts'
import type { PreferenceRow } from '../../src/schemas/feedback.ts'
import * as http from '../../src/schemas/http.ts'
import { conversationKey } from '../../src/text/conversation.ts'
import { service } from '../helpers/service.ts'

let api: Awaited<ReturnType<typeof service>>['api']
let folder: string
beforeAll(async () => {
  ;({ api, folder } = await service())
})

async function trainOn(pairs: readonly PreferenceRow[], options: object, model = 'starter-sft') {
  const text = pairs.map((row) => JSON.stringify(row)).join('\n')
  const file = await api
    .post('/v1/files')
    .field('purpose', 'fine-tune')
    .attach('file', Buffer.from(text), 'pairs.jsonl')
  const body = { kind: 'reward_model', model, training_file: file.body.id, options }
  const started = await api.post('/v1/runs').send(body)
  expect(started.status, started.text).toBe(202)
  await api.get(`/v1/runs/${started.body.id}/events`)
  const run = http.RunReply.parse((await api.get(`/v1/runs/${started.body.id}`)).body)
  expect(run.error).toBeNull()
  const calibration = Calibration.parse(run.summary?.['calibration'])
  return { run, calibration, model: String(run.summary?.['model']) }
}

const BIAS = { courtesy: 0, length: 0 }
const helpful = (seed: number, n: number) => starterPairs(seed, n, 'helpfulness', BIAS)
const conversations = helpful(99, 60).flatMap(({ prompt, chosen, rejected }) =>
  [chosen, rejected].map((content) => ({
    messages: [...prompt, { role: 'assistant', content }],
  })),
)
async function scores(model: string) {
  expect((await api.put('/v1/roles').send({ helpfulness: model })).status).toBe(200)
  const reply = await api.post('/v1/score').send({ axes: ['helpfulness'], inputs: conversations })
  const { data } = reply.body as { data: { helpfulness: { logit: number; probability: number } }[] }
  return data.map(({ helpfulness }) => helpfulness)
}
const mean = (values: readonly number[]): number =>
  values.reduce((a, b) => a + b, 0) / values.length
const deviation = (values: readonly number[]): number =>
  Math.sqrt(mean(values.map((x) => (x - mean(values)) ** 2)))

test('a score of helpfulness means the same in the next version, whose logits lie elsewhere', async () => {
  const first = await trainOn(helpful(1, 800), { axis: 'helpfulness', epochs: 2 })
  const old = await scores(first.model)
  // other pairs, another seed, and margins that spread the logits
  const next = { axis: 'helpfulness', seed: 5, epochs: 3, margin: 'large' }
  const answers = first.calibration.kind === 'win_rate' ? first.calibration.references : undefined
  // pairs on what the references answer are there too
  const rows = helpful(2, 800)
  const known = (answers ?? []).map((messages) => messages.slice(0, -1))
  const asked = known.map((prompt, i) => ({ ...(rows[i] as PreferenceRow), prompt }))
  const second = await trainOn([...rows, ...asked], next)
  const now = await scores(second.model)
  const [a, b] = [first.calibration, second.calibration]
  if (a.kind !== 'win_rate' || b.kind !== 'win_rate') throw new Error('no win rates')
  expect(a.references).toHaveLength(32)
  expect(b.references).toEqual(a.references)
  // by its id: the role may be another's before a run goes on
  expect(second.run.config).toMatchObject({ references: first.model })
  // nor has it learned from a pair of their conversations
  const text = readFileSync(join(folder, 'runs', second.run.id, 'pairs.jsonl'), 'utf8')
  const learned = text.split('\n').map((line) => conversationKey(JSON.parse(line) as PreferenceRow))
  const references = known.map((prompt) => conversationKey({ prompt }))
  expect(learned.length).toBeGreaterThan(300)
  expect(learned.filter((key) => references.includes(key))).toEqual([])
  expect(String(second.run.summary?.['warnings'])).toMatch(/\d+ pairs train nothing/u)
  expect(b.version).not.toBe(a.version)
  const spread = (list: typeof old): number => deviation(list.map(({ logit }) => logit))
  const shares = (list: typeof old): number => mean(list.map(({ probability }) => probability))
  expect(spread(now) / spread(old)).toBeGreaterThan(2)
  expect(Math.abs(shares(now) - shares(old))).toBeLessThan(0.05)
  // answers that the first puts high and low lie there in the next too
  const ranked = old
    .map(({ probability }, i) => ({ was: probability, is: now[i]?.probability ?? NaN }))
    .sort((x, y) => x.was - y.was)
  for (const part of [ranked.slice(0, 24), ranked.slice(-24)]) {
    const apart = mean(part.map(({ is }) => is)) - mean(part.map(({ was }) => was))
    expect(Math.abs(apart)).toBeLessThan(0.15)
  }
}, 300_000)

test('a safety model says how far it can be believed and what its gate catches, in its report too', async () => {
  const pairs = starterPairs(3, 500, 'safety', BIAS)
  const { run, calibration, model } = await trainOn(pairs, { axis: 'safety', epochs: 2 })
  const { quality } = calibration
  if (quality?.gate === undefined) throw new Error('no gate')
  const { gate, calibration_error, skill, slope, curve } = quality
  for (const x of [calibration_error, skill, slope, gate.default.recall, gate.prevalence])
    expect(x.low <= x.value && x.value <= x.high).toBe(true)
  expect(skill.low).toBeGreaterThan(0)
  expect(curve).toHaveLength(10)
  expect(gate.default.threshold).toBe(0.15)
  expect(gate.chosen?.precision?.value).toBeGreaterThanOrEqual(0.89)
  const described = await api.get(`/v1/models/${model}`)
  expect(described.body.info.calibration.quality.gate.chosen).toEqual(gate.chosen)
  const report = await api.get(`/v1/runs/${run.id}/report.md`)
  expect(report.text).toContain('calibration slope')
  expect(report.text).toContain('gate at 0.15: recall of unsafe answers')
  const page = await api.get(`/v1/runs/${run.id}/report`)
  expect(page.text).toContain('Reliability')
})

test('a reward model that starts elsewhere than the policy is told about, with the reason', async () => {
  // enough that it learns something, and that a fifth of them has twenty absolute labels: else it is warned of
  const options = { axis: 'safety', epochs: 2, batch_size: 8 }
  const pairs = starterPairs(4, 60, 'safety', BIAS)
  const own = await trainOn(pairs, options)
  expect(own.run.summary?.['warnings']).toEqual([])
  const other = await trainOn(pairs, options, 'starter-base')
  expect(String(other.run.summary?.['warnings'])).toContain('RewardBench 2')
  const report = await api.get(`/v1/runs/${other.run.id}/report`)
  expect(report.text).toContain("not from the policy's SFT model")
})

test('centring and the auxiliary loss of the safety model are refused together, before a run starts', async () => {
  const options = { axis: 'safety', centering: 0.01 }
  const reply = await api.post('/v1/runs').send({ kind: 'reward_model', options })
  expect(reply.status).toBe(422)
  expect(reply.body).toMatchObject({ code: 'conflicting_options' })
  expect(reply.text).toContain('centering')
  for (const [axis, references, code] of [
    ['safety', 'helpfulness', 'conflicting_options'],
    ['helpfulness', 'nobody', 'model_not_found'],
  ] as const) {
    const body = { kind: 'reward_model', references, options: { axis } }
    const refused = await api.post('/v1/runs').send(body)
    expect(refused.body).toMatchObject({ code, field: 'references' })
  }
})
