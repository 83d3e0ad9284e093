import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { starterRoles } from '../starter-roles.ts'
import type { Engine } from '../../src/engine/engine.ts'
import { spawnEngine } from '../../src/engine/process/spawn.ts'
import { teachBoth, trainReward } from '../../src/rlaif/teachers.ts'
import type { RewardModels } from '../../src/rlaif/world.ts'
import { RlaifOptions } from '../../src/schemas/rlaif.ts'
import { gainsSideBySide, keepEngines } from '../../src/services/engines.ts'
import { removePartial } from '../../src/services/exact.ts'
import { recordedParts } from '../../src/services/loop-parts.ts'
import { goOn, recordRun } from '../../src/services/runs.ts'
import type { RunContext } from '../../src/services/runs.ts'
import { createServices } from '../../src/services/services.ts'
import { starterPairs } from '../../src/starter/judge-data.ts'
import { openStore } from '../../src/store/store.ts'
import { hashFolder } from '../../src/weights/atomic.ts'

let engine: Engine
const folder = mkdtempSync(join(tmpdir(), 'libra-side-by-side-'))
const { base } = starterRoles().base
const options = RlaifOptions.parse({ reward_model: { epochs: 2, batch_size: 8 } })

beforeAll(async () => {
  engine = await spawnEngine()
})
afterAll(async () => {
  await engine.close()
  rmSync(folder, { recursive: true })
})

/** A data folder with a loop that trains both reward models in one of the two ways. */
async function open(name: string, sideBySide: boolean) {
  const dataDir = join(folder, name)
  const store = await openStore(dataDir)
  let [now, most, begun] = [0, 0, 0]
  const startTraining = async (): Promise<Engine> => {
    const started = await spawnEngine({ training: true })
    begun++
    most = Math.max(most, ++now)
    return { ...started, close: async () => void (now--, await started.close()) }
  }
  const services = await createServices({ store, serving: engine, startTraining, dataDir })
  const stages = new Set<string>()
  const teach = async (context: RunContext): Promise<RewardModels> => {
    const engines = keepEngines(services)
    const into = join(dataDir, 'iteration-1')
    mkdirSync(into, { recursive: true })
    const world = {
      ...{ serving: engine, folder: into, signal: context.signal, sideBySide },
      judge: () => expect.unreachable('nobody is asked'),
      parts: await recordedParts(services, context, { seed: 1, lend: engines.lend }),
      progress: (stage: string, done: number, total: number) => {
        stages.add(stage)
        expect(done).toBeLessThanOrEqual(total)
      },
    }
    try {
      return await teachBoth(world, 'reward models', (axis, within) => {
        const pairs = starterPairs(1, 60, axis, { courtesy: 0.35, length: 0 })
        const data = { training: pairs.slice(0, 40), held: pairs.slice(40) }
        return trainReward(
          ...([within, into, 1, { base, adapters: [] }, { axis, twin: false }] as const),
          ...([{ ...data, references: null }, options] as const),
        )
      })
    } finally {
      await engines.close()
    }
  }
  const engines = () => ({ begun, most, left: now })
  return { store, services, stages, engines, into: join(dataDir, 'iteration-1'), teach }
}

test('side by side the reward models are those of one after the other, to the bit', async () => {
  const hashes: Record<string, unknown> = {}
  for (const [name, sideBySide] of [
    ['alone', false],
    ['beside', true],
  ] as const) {
    const { store, teach, into, engines, stages } = await open(name, sideBySide)
    const start = { kind: 'rlaif' as const, config: {}, seed: 1 }
    await recordRun(store, start, async (context) => {
      const { helpfulness, safety } = await teach(context)
      return { accuracy: [helpfulness.accuracy, safety.accuracy] }
    })
    hashes[name] = [
      await hashFolder(join(into, 'helpfulness')),
      await hashFolder(join(into, 'safety')),
    ]
    expect(engines()).toEqual({ begun: sideBySide ? 2 : 1, most: sideBySide ? 2 : 1, left: 0 })
    expect([...stages]).toEqual(
      sideBySide ? ['reward models'] : ['reward helpfulness', 'reward safety'],
    )
    await store.close()
  }
  expect(hashes['beside']).toEqual(hashes['alone'])
})

test('where one of two fails the other is done and is not trained again', async () => {
  const { store, teach, into, engines } = await open('fails', true)
  const inTheWay = join(into, 'pairs-helpfulness.jsonl')
  mkdirSync(inTheWay, { recursive: true })
  let loop = ''
  const work = async (context: RunContext) => {
    loop = context.id
    const { safety } = await teach(context)
    return { safety: safety.accuracy }
  }
  await expect(recordRun(store, { kind: 'rlaif', config: {}, seed: 1 }, work)).rejects.toThrow(
    'EISDIR',
  )
  const states = async () =>
    Object.fromEntries((await store.partsOf(loop)).map(({ part, state }) => [part, state]))
  expect(await states()).toEqual({ '1/reward-safety': 'succeeded' })
  rmSync(inTheWay, { recursive: true })
  const before = engines().begun
  await goOn(store, loop, work, new AbortController().signal)
  expect(engines().begun - before).toBe(1)
  expect(Object.values(await states())).toEqual(['succeeded', 'succeeded'])
  await store.close()
})

test('a small base gains where the CPU has a second core', async () => {
  const { store, services } = await open('gains', true)
  const { device } = await engine.status()
  expect(await gainsSideBySide(services, [base, base])).toBe(
    device === 'cpu' && availableParallelism() > 1,
  )
  await store.close()
})

test('what another process is writing stays, what one left that is no more goes', async () => {
  const into = join(folder, 'partial')
  const [own, dead] = [`.safety.${process.pid}.partial`, '.safety.4194305.partial'] // above Linux’s largest pid
  for (const name of [own, dead]) mkdirSync(join(into, name), { recursive: true })
  await removePartial(into)
  expect(readdirSync(into)).toEqual([own])
})
