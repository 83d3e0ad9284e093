import { mkdtempSync, rmSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { spawnEngine } from '../src/engine/process/spawn.ts'
import { createServices } from '../src/services/services.ts'
import { scoreConversations } from '../src/services/scoring.ts'
import { sftDialogues } from '../src/starter/corpus.ts'
import { openStore } from '../src/store/store.ts'
import { median } from './worker.ts'

/** What keeping a row for every score costs: 64 askers of the starter models, with rows and without, in turn. */
const SECONDS = 5
const REPETITIONS = 5
const folder = mkdtempSync(join(tmpdir(), 'libra-rows-'))
const store = await openStore(folder)
const serving = await spawnEngine()
const services = await createServices({
  ...{ store, serving, dataDir: folder },
  startTraining: () => spawnEngine({ training: true }),
})
const without = {
  ...services,
  store: { ...services.store, scores: { ...store.scores, append() {} } },
}
const inputs = sftDialogues(3, 512).map(({ messages }) => ({ messages, prompt_class: null }))

async function rate(with_: typeof services): Promise<number> {
  const end = performance.now() + 1000 * SECONDS
  let done = 0
  const asker = async (): Promise<void> => {
    while (performance.now() < end) {
      const input = inputs[done++ % inputs.length]
      if (input === undefined) return
      const asked = { inputs: [input], axes: ['helpfulness', 'safety'] as const }
      await scoreConversations(with_, { ...asked, on_too_long: 'error', threshold: 0.15 })
    }
  }
  const start = performance.now()
  await Promise.all(Array.from({ length: 64 }, asker))
  await with_.store.scores.flush()
  return (1000 * done) / (performance.now() - start)
}

try {
  await rate(services)
  const shares: number[] = []
  for (let i = 0; i < REPETITIONS; i++) {
    const [a, b] = i % 2 === 0 ? [services, without] : [without, services]
    const [x, y] = [await rate(a), await rate(b)]
    shares.push(a === services ? x / y : y / x)
  }
  console.log(
    `${cpus()[0]?.model ?? 'unknown processor'}: throughput with rows ÷ without ${median(shares).toFixed(3)} (${Math.min(...shares).toFixed(3)}–${Math.max(...shares).toFixed(3)}), ${REPETITIONS} alternating repetitions`,
  )
} finally {
  await services.runner.close()
  await serving.close()
  await store.close()
  rmSync(folder, { recursive: true, force: true })
}
