import { spawnEngine } from '../engine/process/spawn.ts'
import { buildStarter } from '../services/starter-build.ts'
import { createProgress } from './progress.ts'

/** The starter models from nothing; a part that is there already is kept. */
export async function starterBuild(folder: string): Promise<void> {
  const [serving, training] = await Promise.all([spawnEngine(), spawnEngine()])
  const progress = createProgress()
  try {
    await buildStarter(folder, { serving, training }, progress.update)
  } finally {
    progress.stop()
    await Promise.all([serving.close(), training.close()])
  }
}
