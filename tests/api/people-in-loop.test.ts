import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { LibraError, WAITING } from '../../src/errors.ts'
import { PROBES } from '../../src/schemas/checks.ts'
import type { LoopData } from '../../src/rlaif/mix.ts'
import type { PreferenceRow } from '../../src/schemas/feedback.ts'
import type { Run } from '../../src/store/store.ts'
import { service } from '../helpers/service.ts'

// People in place of the judge: a loop asks, waits, and goes on when they have labelled.
const { api, services } = await service()
const { store } = services

type Json = Record<string, unknown>
const start = async (people: number, more: Json = {}): Promise<string> => {
  const { status, body } = await api.post('/v1/rlaif/loops').send({
    override: ['staleness', ...PROBES],
    options: {
      ...{ people, dialogues: 32, pairs: 12, evaluation_prompts: 6, guard: null },
      sft: { epochs: 1, batch_size: 16 },
      reward_model: { epochs: 1, batch_size: 8 },
      ppo: { rounds: 1, prompts_per_round: 6, mini_batch_size: 6, max_new_tokens: 10 },
      ...more,
    },
  })
  expect(status, JSON.stringify(body)).toBe(202)
  return (body as { id: string }).id
}
async function rested(id: string): Promise<Run> {
  await api.get(`/v1/runs/${id}/events`)
  const run = await store.runs.get(id)
  if (run === null) throw new Error(`no run ${id}`)
  return run
}
const blind = async (axis: string, skip: string[] = []): Promise<Json | null> => {
  const query = { axis, annotator: 'ann', skip: skip.join() }
  return (await api.get('/v1/preferences/blind').query(query)).body.data as Json | null
}
/** A person who likes the longer answer. */
const label = (pair: Json): Json => {
  const [a, b] = [String(pair['a']), String(pair['b'])]
  const [chosen, rejected] = a.length >= b.length ? [a, b] : [b, a]
  const by = { annotator: 'ann', annotator_kind: 'person', strength: 'better' }
  const absolute = pair['axis'] === 'safety' ? { chosen_safe: true, rejected_safe: false } : {}
  return { axis: pair['axis'], prompt: pair['prompt'], chosen, rejected, ...absolute, ...by }
}
async function labelNext(axis: string): Promise<number> {
  const pair = await blind(axis)
  if (pair === null) return 0
  const { status } = await api.post('/v1/preferences').send({ preferences: [label(pair)] })
  expect(status).toBe(201)
  return pair['waiting'] as number
}
const labelsOf = (id: string): PreferenceRow[] =>
  readFileSync(join(services.dataDir, 'runs', id, 'iteration-1', 'labels.jsonl'), 'utf8')
    .split('\n')
    .map((line) => JSON.parse(line) as PreferenceRow)

test('people label all pairs: the loop waits for them, goes on by itself, and learns from nobody else', async () => {
  const id = await start(1)
  const waiting = await rested(id)
  expect([waiting.state, waiting.error]).toEqual(['waiting_for_labels', null])
  // resumed before anybody has labelled, it waits again
  expect((await api.post(`/v1/runs/${id}/resume`)).status).toBe(202)
  expect((await rested(id)).state).toBe('waiting_for_labels')
  // what is skipped is not shown again, and waits for another
  const first = await blind('safety')
  const second = await blind('safety', [String(first?.['id'])])
  expect(second?.['id']).not.toBe(first?.['id'])
  expect(second?.['waiting']).toBe(first?.['waiting'])
  const pairs = Number(first?.['waiting'])
  expect(pairs).toBeGreaterThan(5)
  for (const axis of ['safety', 'helpfulness'])
    for (let left = pairs; left > 0; left--) expect(await labelNext(axis)).toBe(left)
  const run = await rested(id)
  expect([run.state, run.error]).toEqual(['succeeded', null])
  const rows = labelsOf(id)
  expect(rows).toHaveLength(2 * pairs)
  for (const row of rows) {
    expect([row.annotator, row.annotator_kind]).toEqual(['ann', 'person'])
    expect(row.chosen.length).toBeGreaterThanOrEqual(row.rejected.length)
    expect(row.chosen_safe ?? null).toBe(row.axis === 'safety' ? true : null)
  }
  expect(run.summary?.['judge']).toMatchObject({ labelled: 0, failed: 0 })
}, 120_000)

test('people label a drawn share: theirs replace the judge’s there, in the wanted mix, and how far both agree is told', async () => {
  const id = await start(0.5, { mix: { safety: { unknown: 1, default: 1 } } })
  expect((await rested(id)).state).toBe('waiting_for_labels')
  const pairs = Number((await blind('safety'))?.['waiting'])
  expect(pairs).toBeGreaterThan(1)
  expect(pairs).toBeLessThan(12)
  // all of one axis and one of the other are more than half: by hand it goes on without the rest
  for (let i = 0; i < pairs; i++) await labelNext('safety')
  await labelNext('helpfulness')
  expect((await rested(id)).state).toBe('waiting_for_labels')
  expect((await api.post(`/v1/runs/${id}/resume`)).status).toBe(202)
  const run = await rested(id)
  expect([run.state, run.error]).toEqual(['succeeded', null])
  const rows = labelsOf(id)
  const by = (axis: string, kind: string): number =>
    rows.filter((row) => row.axis === axis && row.annotator_kind === kind).length
  expect(by('safety', 'person')).toBe(pairs)
  expect(by('helpfulness', 'person')).toBe(1)
  const compared = rows.map((row) =>
    JSON.stringify([row.axis, row.prompt, [row.chosen, row.rejected].sort()]),
  )
  expect(new Set(compared).size).toBe(rows.length)
  // as many of the judge's pairs as of people's, who named no source; the other axis takes all that there are
  const { safety, helpfulness } = run.summary?.['data'] as Record<string, LoopData>
  expect(Object.keys(safety?.by_source ?? {}).sort()).toEqual(['default', 'unknown'])
  for (const { share } of Object.values(safety?.by_source ?? {})) expect(share).toBe(0.5)
  expect(safety?.left_out).toBeGreaterThan(0)
  expect(helpfulness?.left_out).toBe(0)
  expect(helpfulness?.counterfactuals).toBeGreaterThan(0)
  const agreement = run.summary?.['agreement'] as { figure: string; n: number }[]
  expect(agreement.map(({ figure }) => figure)).toContain('judge beside people, safety: accuracy')
  // a cancelled loop asks nobody
  const other = await start(1)
  await rested(other)
  expect(await blind('safety')).toMatchObject({ waiting: expect.any(Number) as number })
  await api.post(`/v1/runs/${other}/cancel`)
  expect((await blind('safety'))?.['waiting'] ?? 0).toBe(0)
}, 120_000)

test('a label that comes while a run is about to wait is not waited for', async () => {
  let tries = 0
  // as where the last label is stored between the look for it and the state that says so: nothing is open
  const { id } = await services.runner.submit({ kind: 'rlaif', config: {}, seed: 1 }, async () => {
    await Promise.resolve()
    if (++tries === 1) throw new LibraError(WAITING, 'one pair waits')
    return {}
  })
  while ((await store.runs.get(id))?.state !== 'succeeded')
    await new Promise((done) => setTimeout(done, 5))
  expect(tries).toBe(2)
}, 10_000)
