import { existsSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { z } from 'zod'
import type { ModelFiles } from '../engine/engine.ts'
import type { Judge } from '../judging/judge.ts'
import { AXES } from '../schemas/feedback.ts'
import type { Axis } from '../schemas/feedback.ts'
import { readRows } from '../text/rows.ts'
import { findModel } from './catalog.ts'
import { findJudge, judgeIds } from './judges.ts'
import type { Services } from './services.ts'

/** What a judge and the reward models that a policy was optimised against have in common. */

const By = z.object({ judge_version: z.string().nullish() })

/** The pairs that a reward model was trained on, where Libra trained it: beside it, by the names that training gives. */
function pairsOf({ base, adapters }: ModelFiles, axis: Axis): string | undefined {
  const folder = dirname(adapters.at(-1) ?? base)
  return ['pairs.jsonl', `pairs-${axis}.jsonl`]
    .map((name) => join(folder, name))
    .find((path) => existsSync(path))
}

/** The bases that a judge's local models stand on. */
const basesOf = (services: Services, name: string): Promise<(string | null)[]> =>
  Promise.all(
    judgeIds(name).map(async (id) => {
      const { baseUrl, model } = await findJudge(services, id)
      return baseUrl === null ? (await findModel(services.store, model)).base : null
    }),
  )

/** What to tell where a judge stands on the base of policies that it compares: it may prefer what it would say itself. */
export async function policyKinship(
  services: Services,
  name: string,
  policies: readonly { name: string; files: ModelFiles }[],
): Promise<string[]> {
  const bases = await basesOf(services, name)
  const kin = policies.filter(({ files }) => bases.includes(files.base))
  return kin.length === 0
    ? []
    : [
        `the judge ${name} stands on the same base (${basename(kin[0]?.files.base ?? '')}) as ${kin.map((policy) => policy.name).join(', ')}: it may prefer what it would say itself`,
      ]
}

/**
 * What to tell where a judge compares policies and is a relative of the reward models that taught them: it shares their
 * base, or its labels are what they learned from. What those overrate, it may overrate too.
 */
export async function kinshipWarnings(
  services: Services,
  name: string,
  judge: Judge,
  rewards: Record<Axis, ModelFiles>,
): Promise<string[]> {
  const versions = new Set((await judge.version()).split(' + '))
  const bases = await basesOf(services, name)
  const warnings: string[] = []
  const shared = AXES.filter((axis) => bases.includes(rewards[axis].base))
  if (shared.length > 0)
    warnings.push(
      `the judge ${name} stands on the same base (${basename(rewards.helpfulness.base)}) as the ${shared.join(' and ')} model: what one overrates the other may too`,
    )
  for (const axis of AXES) {
    const pairs = pairsOf(rewards[axis], axis)
    if (pairs === undefined) continue
    const rows = await readRows(pairs, By)
    const by = rows.filter(({ judge_version: version }) => versions.has(version ?? '')).length
    if (by > 0)
      warnings.push(
        `the judge ${name} labelled ${by} of the ${rows.length} pairs that the ${axis} model learned from: its win rates say how well that was learned, not how good the answers are`,
      )
  }
  return warnings
}
