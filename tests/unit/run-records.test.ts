import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createClient } from '@libsql/client'
import { drizzle } from 'drizzle-orm/libsql'
import { eq } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventFileHeader, eventRecord, withEventFiles } from '../../src/services/event-file.ts'
import {
  annotateRun,
  compareRuns,
  curveRuns,
  exportMetrics,
  findRun,
} from '../../src/services/run-records.ts'
import { recordRun } from '../../src/services/runs.ts'
import { pageQuery } from '../../src/store/collection.ts'
import { runFilter } from '../../src/store/run-filter.ts'
import type { RunFilter } from '../../src/store/run-filter.ts'
import {
  audits,
  judges,
  rewardChecks,
  files,
  models,
  preferences,
  runs,
  scores,
} from '../../src/store/schema.ts'
import { openStore } from '../../src/store/store.ts'
import type { Store } from '../../src/store/store.ts'

let store: Store
const folder = mkdtempSync(join(tmpdir(), 'libra-records-'))
const run = (id: string, more: Partial<typeof runs.$inferInsert> = {}) => ({
  ...{ id, kind: 'sft' as const, state: 'succeeded' as const, seed: 1, codeVersion: '0' },
  ...{ config: {}, createdAt: Number(id.replaceAll(/\D/g, '')), ...more },
})
beforeAll(async () => {
  store = withEventFiles(await openStore(folder), folder)
  await store.runs.insert([
    run('run_1', { config: { lr: 0.1, lora: { rank: 4 } }, tags: ['good'], notes: '较好的一次' }),
    run('run_2', { config: { lr: 0.2, lora: { rank: 4 } }, kind: 'rlaif' }),
    run('run_3', { config: { lr: 0.2, lora: { rank: 8 } }, parent: 'run_2', createdAt: 2 }),
    run('run_4', { state: 'failed' }),
  ])
})
afterAll(async () => {
  await store.close()
  rmSync(folder, { recursive: true })
})

test('roles are read once: only what this process writes changes them', async () => {
  const model = { kind: 'policy' as const, base: 'base', adapters: [], createdAt: 1 }
  await store.models.insert(['a', 'b', 'c'].map((id) => ({ id, ...model })))
  await store.setRoles({ policy: 'a' })
  expect(await store.roles()).toEqual({ policy: 'a' })
  const other = createClient({ url: `file:${join(folder, 'libra.db')}` })
  await other.execute(`update roles set model = 'b'`)
  other.close()
  expect(await store.roles()).toEqual({ policy: 'a' })
  await store.setRoles({ judge: 'c' })
  expect(await store.roles()).toEqual({ policy: 'b', judge: 'c' })
})

test('pages go on where they ended, also between rows of one millisecond', async () => {
  const seen: string[] = []
  let after: string | undefined
  for (;;) {
    const { data, hasMore } = await store.pageRuns({ limit: 1, after }, {})
    seen.push(...data.map(({ id }) => id))
    after = data.at(-1)?.id
    if (!hasMore) break
  }
  expect(seen).toEqual(['run_4', 'run_3', 'run_2', 'run_1'])
})

test.each<[RunFilter, string[]]>([
  [{ kinds: ['rlaif'] }, ['run_2']],
  [{ kinds: ['rlaif', 'sft'] }, ['run_4', 'run_3', 'run_2', 'run_1']],
  [{ state: 'failed' }, ['run_4']],
  [{ parent: 'run_2' }, ['run_3']],
  [{ tag: 'good' }, ['run_1']],
  [{ tag: 'goo' }, []],
  [{ search: '较好' }, ['run_1']],
  [{ search: '"rank":8 0.2' }, ['run_3']],
  // no character of a word stands for others
  [{ search: 'n_4' }, ['run_4']],
  [{ search: 'r_n' }, []],
  [{ search: '%' }, []],
  [{ search: '\\' }, []],
])('runs by %j', async (filter, ids) => {
  const { data } = await store.pageRuns({ limit: 10 }, filter)
  expect(data.map(({ id }) => id)).toEqual(ids)
})

test('every list walks an index in its order: the query plan has no scan of a table and no sorting', async () => {
  const client = createClient({ url: `file:${join(folder, 'libra.db')}` })
  const db = drizzle(client)
  const from = { id: 'run_3', at: 2 }
  const many: RunFilter = { kinds: ['rlaif', 'sft'] }
  const queries = [
    ...[undefined, runFilter({ kinds: ['sft'] }), runFilter({ state: 'failed' })].flatMap((w) => [
      pageQuery(db, runs, 20, null, w),
      pageQuery(db, runs, 20, from, w),
    ]),
    pageQuery(db, runs, 20, from, runFilter({ parent: 'run_2' })),
    pageQuery(db, runs, 20, from, runFilter(many)),
    pageQuery(db, scores, 20, from),
    pageQuery(db, models, 20, from),
    pageQuery(db, files, 20, from),
    pageQuery(db, preferences, 20, from),
    pageQuery(db, preferences, 20, from, eq(preferences.axis, 'safety')),
    pageQuery(db, judges, 20, from),
    pageQuery(db, audits, 20, from, eq(audits.judge, 'default')),
    pageQuery(db, rewardChecks, 20, from, eq(rewardChecks.model, 'starter-safety')),
  ]
  for (const query of queries) {
    const { sql, params } = query.toSQL()
    const plan = await client.execute({ sql: `explain query plan ${sql}`, args: params as [] })
    const steps = plan.rows.map((row) => String(row['detail']))
    expect(steps.join('; '), sql).toMatch(/^(SEARCH|SCAN) \w+ USING INDEX \w+/)
    expect(steps.join('; '), sql).not.toMatch(/TEMP B-TREE/)
    // with a cursor the walk starts at it
    if (params.includes('run_3')) expect(steps[0], sql).toMatch(/^SEARCH/)
  }
  client.close()
})

test('tags and notes: what is not given stays', async () => {
  await annotateRun(store, 'run_4', { tags: ['b', 'a'] })
  await annotateRun(store, 'run_4', { notes: 'why it failed' })
  expect(await store.runs.get('run_4')).toMatchObject({
    tags: ['b', 'a'],
    notes: 'why it failed',
  })
  await expect(annotateRun(store, 'run_9', {})).rejects.toMatchObject({ code: 'not_found' })
})

test('runs differ where their configurations do', async () => {
  const { configuration } = await compareRuns(store, ['run_1', 'run_2', 'run_3'])
  expect(configuration).toEqual([
    { field: 'kind', values: ['sft', 'rlaif', 'sft'] },
    { field: 'lr', values: [0.1, 0.2, 0.2] },
    { field: 'lora.rank', values: [4, 4, 8] },
  ])
})

test('TensorBoard event files: the bytes that TensorBoard’s own classes write, also in a run’s folder', async () => {
  const fixture = readFileSync(
    resolve(import.meta.dirname, '../../fixtures/parity/event-file/two-steps.tfevents'),
  )
  const events = [
    {
      at: 1_700_000_001_500,
      data: { step: 1, metrics: { loss: 0.693147, 'objective/kl': 0 } },
    },
    { at: 1_700_000_002_250, data: { step: 300, metrics: { loss: -1.5e-7, 奖励: 1e9 } } },
  ]
  const written = [eventFileHeader(1_700_000_000_000), ...events.map(eventRecord)]
  expect(Buffer.concat(written).equals(fixture)).toBe(true)

  for (const [i, event] of events.entries())
    await store.appendEvents([{ run: 'run_1', seq: i + 1, type: 'metrics', ...event }])
  const file = readFileSync(join(folder, 'runs/run_1/events.out.tfevents.0.libra'))
  // the header has the time of the first event there
  const header = eventFileHeader(0).length
  expect(file.subarray(header).equals(fixture.subarray(header))).toBe(true)
})

test('metrics as CSV and JSON Lines; a metric that a step does not have leaves its cell empty', async () => {
  const of = async (format: 'csv' | 'jsonl') => {
    const first = await store.runs.get('run_1')
    return first === null ? '' : (await exportMetrics(store, first, format)).toString()
  }
  expect(await of('csv')).toBe(
    'step,at,loss,objective/kl,奖励\r\n1,1700000001500,0.693147,0,\r\n300,1700000002250,-1.5e-7,,1000000000\r\n',
  )
  expect(JSON.parse((await of('jsonl')).split('\n')[1] ?? '')).toEqual({
    ...{ step: 300, at: 1_700_000_002_250, loss: -1.5e-7, 奖励: 1e9 },
  })
})

test('a loop’s metrics are those of its policy updates, one after another', async () => {
  const parts = ['run_91', 'run_92', 'run_93']
  await store.runs.insert([
    run('run_90', { kind: 'rlaif' }),
    ...parts.map((id, i) =>
      run(id, { kind: i === 0 ? 'sft' : 'policy_update', parent: 'run_90', createdAt: 91 + i }),
    ),
  ])
  await store.appendEvents(
    parts.map((id, step) => ({
      ...{ run: id, seq: 1, at: step, type: 'metrics', data: { step, metrics: { kl: step } } },
    })),
  )
  const loop = await store.runs.get('run_90')
  const text = loop === null ? '' : (await exportMetrics(store, loop, 'csv')).toString()
  expect(text).toBe('step,at,kl\r\n1,1,1\r\n2,2,2\r\n')
  const { metrics } = await compareRuns(store, ['run_90', 'run_92'])
  expect(metrics).toEqual([{ metric: 'kl', values: [2, 1] }])
  // before there is one: of the part that is there, as on its page
  await store.runs.insert([
    run('run_95', { kind: 'rlaif' }),
    run('run_96', { kind: 'sft', parent: 'run_95', createdAt: 96 }),
  ])
  await store.appendEvents([
    { run: 'run_96', seq: 1, at: 7, type: 'metrics', data: { step: 1, metrics: { loss: 2 } } },
  ])
  const early = await exportMetrics(store, await findRun(store, 'run_95'), 'csv')
  expect(early.toString()).toBe('step,at,loss\r\n1,7,2\r\n')
})

test('a part of a run is on the device of the whole', async () => {
  const start = { kind: 'sft' as const, config: {}, seed: 1 }
  const parent = await recordRun(store, { ...start, device: 'gpu' }, async ({ id }) => ({
    part: (await recordRun(store, { ...start, parent: id }, () => Promise.resolve({}))).runId,
  }))
  for (const id of [parent.runId, parent.part])
    expect((await store.runs.get(id))?.device).toBe('gpu')
})

test('of two parts that began the curve of a loop is the one that still runs', async () => {
  const loop = await findRun(store, 'run_2')
  const part = await findRun(store, 'run_3')
  const [ended, runs] = [part, { ...part, id: 'run_5', state: 'running' as const }]
  expect(curveRuns(loop, [ended, runs])).toEqual([runs])
  expect(curveRuns(loop, [ended])).toEqual([ended])
})
