import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createAdaptorServer } from '@hono/node-server'
import supertest from 'supertest'
import { afterAll } from 'vitest'
import { spawnEngine } from '../../src/engine/process/spawn.ts'
import { createApp } from '../../src/http/app.ts'
import { createServices } from '../../src/services/services.ts'
import type { Services } from '../../src/services/services.ts'
import { openStore } from '../../src/store/store.ts'

/** A service with the real engine and database, closed when the file's tests are over. */
export async function service(): Promise<{
  api: ReturnType<typeof supertest>
  services: Services
  folder: string
}> {
  const folder = mkdtempSync(join(tmpdir(), 'libra-service-'))
  const store = await openStore(folder)
  const serving = await spawnEngine()
  const startTraining = () => spawnEngine({ training: true })
  const services = await createServices({ store, serving, startTraining, dataDir: folder })
  afterAll(async () => {
    await services.runner.close()
    await serving.close()
    await store.close()
    rmSync(folder, { recursive: true })
  })
  const app = createApp(services, join(folder, 'models'))
  return { api: supertest(createAdaptorServer({ fetch: app.fetch })), services, folder }
}
