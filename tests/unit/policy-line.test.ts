import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { checkpointsOf, linesOf } from '../../src/services/policy-line.ts'
import { recordRun } from '../../src/services/runs.ts'
import { openStore } from '../../src/store/store.ts'
import type { Store } from '../../src/store/store.ts'

const folder = mkdtempSync(join(tmpdir(), 'libra-line-'))
const round = join(folder, 'policy-2')
let store: Store
let [loop, update] = ['', '']
beforeAll(async () => {
  store = await openStore(folder)
  mkdirSync(round)
  const start = { kind: 'rlaif' as const, config: {}, seed: 1 }
  const done = await recordRun(store, start, async ({ id: parent }) => {
    const part = { kind: 'policy_update' as const, config: {}, seed: 1, parent, part: '1/ppo-2' }
    const policy = { base: 'base', adapters: ['sft', round] }
    update = (await recordRun(store, part, () => Promise.resolve({ policy }))).runId
    return {}
  })
  loop = done.runId
  const policy = { kind: 'policy' as const, base: 'base', createdAt: 1 }
  await store.models.insert([
    { id: 'starter-base', ...policy, adapters: [] },
    { id: 'starter-sft', ...policy, adapters: ['sft'], createdAt: 2 },
  ])
})
afterAll(async () => {
  await store.close()
  rmSync(folder, { recursive: true })
})

test('a policy between two of the catalogue is named by its loop and part, whichever of them was asked for', async () => {
  const expected = [{ name: `${loop} 1/ppo-2`, files: { base: 'base', adapters: ['sft', round] } }]
  expect(await checkpointsOf({ store }, loop)).toEqual(expected)
  expect(await checkpointsOf({ store }, update)).toEqual(expected)
  await expect(checkpointsOf({ store }, 'run_none')).rejects.toMatchObject({ code: 'not_found' })
})

test('what a policy stands on is told also where the catalogue does not know it', async () => {
  const files = (...adapters: string[]) => ({ base: 'base', adapters })
  const lines = await linesOf({ store }, [
    { name: 'starter-sft', files: files('sft') },
    { name: 'between', files: files('sft', round) },
    { name: 'stranger', files: { base: 'elsewhere', adapters: [] } },
  ])
  expect(lines).toEqual([
    'starter-base → starter-sft',
    'starter-base → starter-sft → between',
    'stranger',
  ])
})

test('of a branch also what it has in the catalogue of the loop that it left, by its own name', async () => {
  const sft = 'shared-sft'
  const start = { kind: 'rlaif' as const, config: {}, seed: 1 }
  const trained = await recordRun(store, start, async ({ id: parent }) => {
    const part = { kind: 'sft' as const, config: {}, seed: 1, parent, part: 'sft', output: sft }
    await recordRun(store, part, () => Promise.resolve({}))
    return {}
  })
  const own = join(folder, 'policy-of-branch')
  mkdirSync(own)
  const branch = await recordRun(store, start, async ({ id: parent }) => {
    const part = { kind: 'policy_update' as const, config: {}, seed: 1, parent, part: '2/ppo-3' }
    const policy = { base: 'base', adapters: [sft, own] }
    await recordRun(store, part, () => Promise.resolve({ policy }))
    return {}
  })
  const model = { kind: 'policy' as const, base: 'base', adapters: [sft] }
  await store.models.insert([
    { id: 'sft-loop', ...model, run: trained.runId, createdAt: 3 },
    { id: 'sft-branch', ...model, run: branch.runId, createdAt: 4 },
  ])
  const names = async (id: string) =>
    (await checkpointsOf({ store }, id)).map(({ name }) => name).slice(1)
  expect(await names(branch.runId)).toEqual(['sft-branch', `${branch.runId} 2/ppo-3`])
  expect(await names(trained.runId)).toEqual(['sft-loop'])
})
