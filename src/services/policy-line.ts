import { existsSync } from 'node:fs'
import { z } from 'zod'
import type { ModelFiles } from '../engine/engine.ts'
import { LibraError } from '../errors.ts'
import { filesOf } from './catalog.ts'
import { lineOf } from './lineage.ts'
import type { LineageNode } from './lineage.ts'
import type { Services } from './services.ts'

export type NamedPolicy = { name: string; files: ModelFiles }

/** The folder that is a policy's own, above what it shares with others. */
export const topOf = ({ base, adapters }: ModelFiles): string => adapters.at(-1) ?? base

/**
 * The policies on the line of a run, from the first on; of a loop also those that its guard looked at between two that
 * are in the catalogue, where they still lie on disk. Throws `not_found`.
 */
export async function checkpointsOf({ store }: Services, id: string): Promise<NamedPolicy[]> {
  const isPolicy = ({ models }: LineageNode) => models.find(({ kind }) => kind === 'policy')
  const line = await lineOf(
    store,
    (node) => (node.run?.id === id || node.run?.parent === id) && isPolicy(node) !== undefined,
  )
  const known = line.flatMap((node): NamedPolicy[] => {
    const policy = isPolicy(node)
    return policy === undefined ? [] : [{ name: policy.id, files: filesOf(policy) }]
  })
  const own = new Set(known.map(({ files }) => topOf(files)))
  const between = (await store.partsOf(id)).flatMap(({ part, summary }): NamedPolicy[] => {
    const { data: made } = Updated.safeParse(summary)
    if (made === undefined || own.has(topOf(made.policy)) || !existsSync(topOf(made.policy)))
      return []
    return [{ name: `${id} ${part ?? ''}`, files: made.policy }]
  })
  if (known.length === 0 && between.length === 0)
    throw new LibraError('not_found', `no run ${id} that has left a policy`, {
      details: { field: 'options.checkpoints_of' },
    })
  return [...known, ...between]
}

/** What a part of a loop that updated its policy leaves in its summary. */
const Updated = z.object({
  policy: z.object({ base: z.string(), adapters: z.array(z.string()) }),
})
