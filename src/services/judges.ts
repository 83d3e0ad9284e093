import type { z } from 'zod'
import type { Engine } from '../engine/engine.ts'
import { LibraError } from '../errors.ts'
import type { Judge } from '../judging/judge.ts'
import { createLocalJudge } from '../judging/local-judge.ts'
import type { JudgeProfile } from '../schemas/http.ts'
import type { JudgeRow, Store } from '../store/store.ts'
import { filesOf, findModel } from './catalog.ts'

/** The profile that is used where none is named: the model that plays the judge. */
export const DEFAULT_JUDGE = 'default'

export async function listJudges(store: Store): Promise<JudgeRow[]> {
  const model = (await store.roles()).judge ?? ''
  const local = { id: DEFAULT_JUDGE, kind: 'local' as const, model, baseUrl: null, apiKeyEnv: null }
  const { data } = await store.judges.page({ limit: 1000 })
  return [{ ...local, createdAt: 0 }, ...data]
}

/** A judge by the id of its profile. Throws `judge_not_found`, `model_not_found`. */
export async function openJudge(store: Store, engine: Engine, id: string): Promise<Judge> {
  const profile = (await listJudges(store)).find((judge) => judge.id === id)
  if (profile === undefined)
    throw new LibraError('judge_not_found', `no judge ${id}: GET /v1/judges lists them`, {
      details: { field: 'judge' },
    })
  return createLocalJudge(engine, filesOf(await findModel(store, profile.model)), profile.id)
}

/** Adds a profile. Throws `already_exists`, `model_not_found`, `invalid_request`. */
export async function addJudge(
  store: Store,
  profile: z.output<typeof JudgeProfile>,
): Promise<JudgeRow> {
  if ((await listJudges(store)).some(({ id }) => id === profile.id))
    throw new LibraError('already_exists', `a judge ${profile.id} is there already`)
  if (profile.kind === 'local') await findModel(store, profile.model)
  else if (profile.base_url === undefined)
    throw new LibraError('invalid_request', 'base_url: a judge on a server needs its address', {
      details: { field: 'base_url' },
    })
  const { id, kind, model, base_url: baseUrl = null, api_key_env: apiKeyEnv = null } = profile
  const row = { id, kind, model, baseUrl, apiKeyEnv, createdAt: Date.now() }
  await store.judges.insert([row])
  return row
}
