import { basename, dirname } from 'node:path'
import { readConfig } from '../config.ts'
import { spawnEngine } from '../engine/process/spawn.ts'
import { ExportModel } from '../schemas/http.ts'
import { registerStarter } from '../services/catalog.ts'
import { exportModel } from '../services/export.ts'
import { openStore } from '../store/store.ts'

/** Writes a model of the catalogue as one Hugging Face folder. While a server runs, ask it: POST /v1/models/{id}/export. */
export async function exportTo(
  model: string,
  folder: string,
  { dtype, maxShardBytes }: { dtype?: string; maxShardBytes?: number },
): Promise<void> {
  const name = basename(folder)
  const options = ExportModel.parse({ name, dtype, max_shard_bytes: maxShardBytes })
  const store = await openStore(readConfig().dataDir)
  await registerStarter(store)
  const serving = await spawnEngine()
  try {
    const done = await exportModel({ store, serving }, model, dirname(folder), options)
    console.log(
      `${done.path}: ${done.architecture}, ${done.parameters} parameters, ${(done.bytes / 1e6).toFixed(1)} MB`,
    )
  } finally {
    await serving.close()
    await store.close()
  }
}
