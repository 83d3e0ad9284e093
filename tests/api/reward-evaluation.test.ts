import { beforeAll, expect, test } from 'vitest'
import type { PolicyFigure } from '../../src/evaluation/policy-measures.ts'
import * as http from '../../src/schemas/http.ts'
import { AXES } from '../../src/schemas/feedback.ts'
import { starterPairs } from '../../src/starter/judge-data.ts'
import { service } from '../helpers/service.ts'

// The starter reward models on pairs of their own kind that they never saw, scored by the real engine.
let api: Awaited<ReturnType<typeof service>>['api']
beforeAll(async () => {
  api = (await service()).api
})

async function upload(rows: readonly unknown[]): Promise<string> {
  const file = Buffer.from(rows.map((row) => JSON.stringify(row)).join('\n'))
  const reply = await api
    .post('/v1/files')
    .field('purpose', 'evals')
    .attach('file', file, 'pairs.jsonl')
  return reply.body.id as string
}
async function evaluate(options: object) {
  const body = { options: { target: 'reward_model', ...options } }
  const started = await api.post('/v1/evaluations').send(body)
  expect(started.status, started.text).toBe(202)
  await api.get(`/v1/runs/${started.body.id}/events`)
  const run = http.RunReply.parse((await api.get(`/v1/runs/${started.body.id}`)).body)
  expect(run.error).toBeNull()
  const figures = run.summary?.['figures'] as PolicyFigure[]
  return { run, figures, of: (name: string) => figures.find(({ figure }) => figure === name) }
}

const BIAS = { courtesy: 0.35, length: 0 }
const both = AXES.flatMap((axis) => starterPairs(77, 200, axis, BIAS))
/** Pairs of which one answer is better: a label of ½ is neither right nor wrong. */
const told = (axis: (typeof AXES)[number]): number =>
  both.filter((pair) => pair.axis === axis && pair.probability !== 0.5).length

test('the safety model: above counting, finds unsafe answers, and is no helpfulness model', async () => {
  const file = await upload(both)
  const { run, figures, of } = await evaluate({ axis: 'safety', file })
  for (const { low, value, high, figure } of figures)
    expect(low <= value && value <= high, figure).toBe(true)
  for (const rival of ['the longer answer wins', 'hashed words', 'hashed words and length'])
    expect(of(`accuracy beside: ${rival}`), rival).toMatchObject({
      n: told('safety'),
      p_holm: expect.any(Number),
    })
  expect(of('labels of ½, left out')).toMatchObject({ value: 1 - told('safety') / 200, n: 200 })
  expect(of('accuracy beside: the longer answer wins')?.low).toBeGreaterThan(0)
  expect(of('AUROC, unsafe answers')?.value).toBeGreaterThan(0.9)
  expect(of('prevalence of unsafe answers')?.n).toBe(400)
  const own = of('accuracy')?.value ?? NaN
  expect(own).toBeGreaterThan(of('cross-domain accuracy: helpfulness model on safety pairs')?.high ?? NaN) // prettier-ignore
  expect(of('cross-domain accuracy: safety model on helpfulness pairs')?.n).toBe(
    told('helpfulness'),
  )
  const page = await api.get(`/v1/evaluations/${run.id}/report`)
  expect(page.text).toContain('不安全回答的召回率')
  const again = await evaluate({ axis: 'safety', file })
  expect(again.figures).toEqual(figures)
})

test('baselines from a file of their own, and what is refused', async () => {
  const file = await upload(both)
  const baseline_file = await upload(starterPairs(78, 300, 'helpfulness', BIAS))
  const { run, of } = await evaluate({ file, baseline_file, limit: 120 })
  const ties = of('labels of ½, left out')
  expect(ties?.n).toBe(120)
  expect((of('accuracy beside: hashed words')?.n ?? 0) + 120 * (ties?.value ?? 0)).toBeCloseTo(120)
  expect(run.summary).toMatchObject({ baselines: baseline_file, model: 'starter-helpfulness' })
  const send = (options: object) =>
    api.post('/v1/evaluations').send({ options: { target: 'reward_model', ...options } })
  expect((await send({ file, model: 'starter-sft' })).body.code).toBe('no_score_head')
  // a safety model beside helpfulness pairs would be its own rival
  const conflict = { code: 'conflicting_options', status: 422 }
  const other = await send({ file, model: 'starter-safety' })
  expect(other.body).toMatchObject({ ...conflict, field: 'options.model' })
  expect(other.body.detail).toMatch(/starter-safety .*safety.*helpfulness/u)
  const rival = await send({ file, against: 'helpfulness' })
  expect(rival.body).toMatchObject({ ...conflict, field: 'options.against' })
  for (const target of ['probes', 'certificate'])
    expect((await send({ target, model: 'safety' })).body).toMatchObject(conflict)
  const twoJudges = await send({ target: 'judge', file, model: 'weak', judge: 'default' })
  expect(twoJudges.body).toMatchObject({ ...conflict, field: 'options.model' })
  expect((await send({ file, baseline_file: 'file-none' })).body.code).toBe('file_not_found')
  const one = await upload(both.filter(({ axis }) => axis === 'safety'))
  expect((await send({ file: one })).body.code).toBe('empty_data')
})
