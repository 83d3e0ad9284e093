import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { ModelFiles } from '../engine/engine.ts'
import type { RunRequest } from '../schemas/run.ts'
import type { ModelRow } from '../store/store.ts'
import type { RunContext } from './runs.ts'
import type { Services } from './services.ts'

/** What all training runs share: the folder of a run, and the model that comes of it. */

export type Of<K extends RunRequest['kind']> = Extract<RunRequest, { kind: K }>
export const spread = ({ base, adapters }: ModelFiles) => ({ base, adapters: [...adapters] })

/** The folder of a run: what it writes lies there. */
export async function runFolder({ dataDir }: Services, { id }: RunContext): Promise<string> {
  const folder = join(dataDir, 'runs', id)
  await mkdir(folder, { recursive: true })
  return folder
}

/** Puts what a run made into the catalogue; returns its id. */
export async function register(
  { store }: Services,
  { id: run }: RunContext,
  suffix: string,
  model: Pick<ModelRow, 'kind' | 'axis'> & ModelFiles,
): Promise<string> {
  const id = `${suffix}-${run.replace('run_', '')}`
  const { kind, axis, base, adapters } = model
  const row = { id, kind, axis, base, adapters: [...adapters], run, createdAt: Date.now() }
  // a run that goes on may have come this far already
  if ((await store.models.get(id)) === null) await store.models.insert([row])
  return id
}
