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
