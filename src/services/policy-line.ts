import { existsSync } from 'node:fs'
import { z } from 'zod'
import type { ModelFiles } from '../engine/engine.ts'
import { LibraError } from '../errors.ts'
import { filesOf } from './catalog.ts'
import { lineOf, tellLine } from './lineage.ts'
import type { LineageNode } from './lineage.ts'
import type { Services } from './services.ts'

export type NamedPolicy = { name: string; files: ModelFiles }

/** The folder that is a policy's own, above what it shares with others. */
export const topOf = ({ base, adapters }: ModelFiles): string => adapters.at(-1) ?? base

/**
 * The policies on the line of a run, from the first on; of a loop also those that its guard looked at between two that
 * are in the catalogue, and of a part of a loop its own, where they still lie on disk. Throws `not_found`.
 */
export async function checkpointsOf(
  { store }: Pick<Services, 'store'>,
  id: string,
): Promise<NamedPolicy[]> {
  const policiesOf = ({ models }: LineageNode) => models.filter(({ kind }) => kind === 'policy')
  // a branch has policies of the loop that it left under names of its own, in the folders of that loop's runs
  const isPolicy = (node: LineageNode) =>
    policiesOf(node).find(({ run }) => run === id) ?? policiesOf(node)[0]
  const line = await lineOf(
    store,
    (node) =>
      isPolicy(node) !== undefined &&
      (node.run?.id === id || node.run?.parent === id || isPolicy(node)?.run === id),
  )
  const known = line.flatMap((node): NamedPolicy[] => {
    const policy = isPolicy(node)
    return policy === undefined ? [] : [{ name: policy.id, files: filesOf(policy) }]
  })
  const own = new Set(known.map(({ files }) => topOf(files)))
  const itself = await store.runs.get(id)
  const made = [...(itself === null ? [] : [itself]), ...(await store.partsOf(id))]
  const between = made.flatMap(({ parent, part, summary }): NamedPolicy[] => {
    const files = Updated.safeParse(summary).data?.policy
    if (files === undefined || own.has(topOf(files)) || !existsSync(topOf(files))) return []
    return [{ name: `${parent ?? id} ${part ?? ''}`.trim(), files }]
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

/** What each policy stands on, in words; one that is not in the catalogue, on what lies below it. */
export const linesOf = async (
  { store }: Pick<Services, 'store'>,
  policies: readonly NamedPolicy[],
): Promise<string[]> =>
  Promise.all(
    policies.map(async ({ name, files: { base, adapters } }) => {
      const stack = [base, ...adapters]
      const to = (folder: string | undefined) => lineOf(store, (node) => node.folder === folder)
      const own = await to(stack.at(-1))
      if (own.length > 0) return tellLine(own)
      const below = await to(stack.at(-2))
      return [...(below.length === 0 ? [] : [tellLine(below)]), name].join(' → ')
    }),
  )
