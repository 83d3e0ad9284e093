import { join } from 'node:path'
import { createAdaptorServer } from '@hono/node-server'
import { readConfig, starterFolder } from '../config.ts'
import { spawnEngine } from '../engine/process/spawn.ts'
import type { Roles } from '../services/scoring.ts'
import { openStore } from '../store/store.ts'
import { createApp } from './app.ts'

/** The starter models by role: one base, an adapter or two for each. */
export function starterRoles(folder = starterFolder): Roles {
  const files = (...adapters: string[]) => ({
    base: join(folder, 'base'),
    adapters: adapters.map((name) => join(folder, name)),
  })
  return {
    policy: files('sft', 'policy'),
    judge: files('judge'),
    helpfulness: files('sft', 'helpfulness'),
    safety: files('sft', 'safety'),
  }
}

/** Serves until a signal ends it; then stops taking connections, closes the engine and releases the data folder. */
export async function serve(): Promise<void> {
  const { host, port, dataDir } = readConfig()
  const store = await openStore(dataDir)
  const engine = await spawnEngine()
  const roles = starterRoles()
  await Promise.all(Object.values(roles).map((files) => engine.describe(files)))
  const server = createAdaptorServer({ fetch: createApp({ engine, store, roles }).fetch })
  server.listen(port, host, () => console.log(`libra listens on http://${host}:${port}`))
  const stop = (): void => {
    server.close(() => void engine.close().then(() => store.close()))
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, stop)
}
