import type { z } from 'zod'
import { LibraError } from '../errors.ts'
import type { Judge } from '../judging/judge.ts'
import { createLocalJudge } from '../judging/local-judge.ts'
import { createOpenAiJudge } from '../judging/openai-judge.ts'
import type { JudgeProfile } from '../schemas/http.ts'
import type { JudgeRow } from '../store/store.ts'
import { filesOf, findModel } from './catalog.ts'
import type { Services } from './services.ts'

/** The profile that is used where none is named: the server of the environment, else the model that plays the judge. */
export const DEFAULT_JUDGE = 'default'

type World = Pick<Services, 'store' | 'serving' | 'judges'>

export async function listJudges({
  store,
  judges,
}: Pick<World, 'store' | 'judges'>): Promise<JudgeRow[]> {
  const remote = judges.default
  const first: JudgeRow = {
    ...{ id: DEFAULT_JUDGE, apiKeyEnv: null, createdAt: 0 },
    kind: remote === null ? 'local' : 'openai',
    model: remote === null ? ((await store.roles()).judge ?? '') : remote.model,
    baseUrl: remote?.baseUrl ?? null,
  }
  const { data } = await store.judges.page({ limit: 1000 })
  return [first, ...data]
}

/** A judge by the id of its profile. Throws `judge_not_found`, `model_not_found`, `judge_misconfigured`. */
export async function openJudge(world: World, id: string): Promise<Judge> {
  const profile = (await listJudges(world)).find((judge) => judge.id === id)
  if (profile === undefined)
    throw new LibraError('judge_not_found', `no judge ${id}: GET /v1/judges lists them`, {
      details: { field: 'judge' },
    })
  const { baseUrl, model } = profile
  if (profile.kind === 'openai' && baseUrl !== null)
    return createOpenAiJudge({ baseUrl, model, name: id, apiKey: keyOf(world, profile) })
  const files = filesOf(await findModel(world.store, model))
  return createLocalJudge(world.serving, files, profile.id)
}

/** The key of a profile, if its address is the one that the key belongs to. */
function keyOf({ judges }: World, { id, apiKeyEnv, baseUrl }: JudgeRow): string | null {
  if (id === DEFAULT_JUDGE) return judges.default?.apiKey ?? null
  if (apiKeyEnv === null) return null
  const found = judges.keyOf(apiKeyEnv)
  if (found === null || new URL(baseUrl ?? '').origin !== found.origin)
    throw new LibraError(
      'judge_misconfigured',
      `judge ${id}: set ${apiKeyEnv} to the key and ${apiKeyEnv}_ORIGIN to the origin it belongs to, which must be that of base_url`,
    )
  return found.key
}

/** Adds a profile. Throws `already_exists`, `model_not_found`, `invalid_request`. */
export async function addJudge(
  world: World,
  profile: z.output<typeof JudgeProfile>,
): Promise<JudgeRow> {
  const { store } = world
  if ((await listJudges(world)).some(({ id }) => id === profile.id))
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
