import type { ModelFiles } from '../engine/engine.ts'
import type { Judge } from '../judging/judge.ts'
import { findJudge, judgeIds } from './judges.ts'
import type { Services } from './services.ts'

/** Who measures, as it is now: a role, a profile or a rebuilt model may be another the next time that it is named. */

/** A model's id with the SHA-256 of its files. Throws what reading the model throws. */
export const modelNow = async (
  { serving }: Pick<Services, 'serving'>,
  { id, base, adapters }: ModelFiles & { id: string },
): Promise<{ id: string; version: string }> => ({
  id,
  version: (await serving.describe({ base, adapters })).version,
})

/** A judge's profile (of a panel: all), the model that answers for it, its version and that of its prompts. */
export async function judgeNow(services: Services, judge: Judge): Promise<Record<string, string>> {
  const profiles = await Promise.all(judgeIds(judge.name).map((id) => findJudge(services, id)))
  return {
    id: judge.name,
    model: profiles.map(({ model }) => model).join(' + '),
    version: await judge.version(),
    prompt_version: judge.promptVersion,
  }
}
