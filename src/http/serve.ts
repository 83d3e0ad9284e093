import { freemem } from 'node:os'
import { createAdaptorServer } from '@hono/node-server'
import { readConfig } from '../config.ts'
import { spawnEngine } from '../engine/process/spawn.ts'
import { steadyEngine } from '../engine/process/steady.ts'
import { ROLE_NAMES } from '../schemas/model.ts'
import { filesOf, findModel } from '../services/catalog.ts'
import { createServices } from '../services/services.ts'
import { resumeInterrupted } from '../services/start.ts'
import { openStore } from '../store/store.ts'
import { createApp } from './app.ts'

/** Serves until a signal ends it; then stops taking connections, ends runs and engine, releases the data folder. */
export async function serve(): Promise<void> {
  const { host, port, dataDir, modelsDir, modelMemory, scoreDays, judge, judgeKey } = readConfig()
  const store = await openStore(dataDir)
  const serving = await steadyEngine({ memory: modelMemory ?? Math.round(freemem() / 2) })
  const startTraining = () => spawnEngine({ training: true })
  const open = async () => {
    const services = await createServices({
      ...{ store, serving, startTraining, dataDir },
      judges: { default: judge, keyOf: judgeKey },
    })
    // what will be asked for first is loaded before the first request
    for (const role of ROLE_NAMES) await serving.describe(filesOf(await findModel(store, role)))
    const server = createAdaptorServer({ fetch: createApp(services, modelsDir).fetch })
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(port, host, resolve)
    })
    console.log(`libra listens on http://${host}:${port}`)
    await resumeInterrupted(services)
    return { services, server }
  }
  const { services, server } = await open().catch(async (error: unknown) => {
    await serving.close()
    await store.close()
    throw error
  })
  const old =
    scoreDays === null ? null : everyHour(() => store.dropScores(Date.now() - scoreDays * DAY))
  const stop = async (): Promise<void> => {
    if (old !== null) clearInterval(old)
    server.close()
    await services.runner.close()
    await serving.close()
    await store.close()
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void stop())
}

const DAY = 86_400_000
/** Now and once an hour; what fails is said and tried again. */
function everyHour(work: () => Promise<unknown>): NodeJS.Timeout {
  const run = (): void => void work().catch(console.error)
  run()
  return setInterval(run, DAY / 24)
}
