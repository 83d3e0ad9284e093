import { existsSync, realpathSync } from 'node:fs'
import { join, sep } from 'node:path'
import type { z } from 'zod'
import { LibraError } from '../errors.ts'
import type { ImportModel } from '../schemas/http.ts'
import type { ModelRow } from '../store/store.ts'
import { filesOf, findModel } from './catalog.ts'
import type { Services } from './services.ts'

/**
 * Puts a checkpoint folder into the catalogue after loading it once. Throws `path_not_allowed`, `already_exists`,
 * `model_not_found`, and what loading throws: `damaged_checkpoint`, `unsupported_architecture`.
 */
export async function importModel(
  { store, serving }: Services,
  modelsDir: string,
  request: z.output<typeof ImportModel>,
): Promise<ModelRow> {
  const folder = inside(modelsDir, request.path)
  if ((await store.models.get(request.id)) !== null)
    throw new LibraError('already_exists', `a model ${request.id} is there already`)
  const under = request.on === undefined ? null : filesOf(await findModel(store, request.on))
  const files =
    under === null
      ? { base: folder, adapters: [] }
      : { base: under.base, adapters: [...under.adapters, folder] }
  const info = await serving.describe(files)
  if (request.kind === 'reward_model' && !info.hasScoreHead)
    throw new LibraError('no_score_head', `${request.path} has no score head`)
  const row = {
    ...{ id: request.id, kind: request.kind, axis: request.axis ?? null, run: null },
    ...{ ...files, createdAt: Date.now() },
  }
  await store.models.insert([row])
  return row
}

/** The real path of a folder inside another; links that lead out are refused. */
function inside(root: string, path: string): string {
  const wanted = join(root, path)
  if (!existsSync(root) || !existsSync(wanted))
    throw new LibraError('not_found', `there is no folder ${path} in ${root} (LIBRA_MODELS_DIR)`)
  const real = realpathSync(wanted)
  if (!real.startsWith(realpathSync(root) + sep))
    throw new LibraError('path_not_allowed', `${path} leads out of LIBRA_MODELS_DIR`, {
      details: { field: 'path' },
    })
  return real
}
