import { basename } from 'node:path'
import type { ModelRow, Run, Store } from '../store/store.ts'

/** A checkpoint with the models that are exactly it, the run that made it, and what stands on it. */
export type LineageNode = {
  folder: string
  name: string
  models: ModelRow[]
  run: Run | null
  children: LineageNode[]
}

/**
 * Models as a forest of checkpoints. A checkpoint stands on what its run started from; where no run is known, on the
 * layer below it in its stack.
 */
export async function lineage(store: Store): Promise<LineageNode[]> {
  const models = await allModels(store)
  const runs = await runsOf(store, models)
  const byId = new Map(runs.map((run) => [run.id, run]))
  const byOutput = new Map(runs.map((run) => [run.output, run]))
  const nodes = new Map<string, LineageNode>()
  const below = new Map<string, string>()
  const node = (folder: string): LineageNode => {
    const found = nodes.get(folder)
    if (found !== undefined) return found
    const made = { folder, name: basename(folder), models: [], run: null, children: [] }
    nodes.set(folder, made)
    return made
  }
  for (const model of models) {
    const stack = [model.base, ...model.adapters]
    stack.forEach((folder, i) => {
      node(folder)
      const under = stack[i - 1]
      if (under !== undefined && !below.has(folder)) below.set(folder, under)
    })
    const top = stack.at(-1) ?? model.base
    const own = node(top)
    own.models.push(model)
    const run = byOutput.get(top) ?? byId.get(model.run ?? '') ?? null
    own.run = run
    if (run?.parentCheckpoint != null && run.parentCheckpoint !== top) {
      below.set(top, run.parentCheckpoint)
      node(run.parentCheckpoint)
    }
  }
  const roots: LineageNode[] = []
  for (const each of nodes.values()) {
    const under = below.get(each.folder)
    const parent = under === undefined ? undefined : nodes.get(under)
    if (parent === undefined) roots.push(each)
    else parent.children.push(each)
  }
  return roots
}

async function allModels(store: Store): Promise<ModelRow[]> {
  const all: ModelRow[] = []
  for (let more = true; more;) {
    const { data, hasMore } = await store.models.page({ limit: 1000, after: all.at(-1)?.id })
    all.push(...data)
    more = hasMore
  }
  return all.reverse() // oldest first: a tree reads from its root
}

/** The runs that made models, and the parts of those that are loops. */
async function runsOf(store: Store, models: readonly ModelRow[]): Promise<Run[]> {
  const ids = [...new Set(models.flatMap(({ run }) => (run === null ? [] : [run])))]
  const runs = await Promise.all(ids.map((id) => store.runs.get(id)))
  const parts = await Promise.all(
    ids.map(async (parent) => (await store.pageRuns({ limit: 1000 }, { parent })).data),
  )
  return [...runs.filter((run) => run !== null), ...parts.flat()]
}

/** The line from a base to the deepest node that is meant, itself included; empty where there is none. */
export async function lineOf(
  store: Store,
  is: (node: LineageNode) => boolean,
): Promise<LineageNode[]> {
  const search = (nodes: readonly LineageNode[], above: LineageNode[]): LineageNode[] | null => {
    for (const node of nodes) {
      const line = [...above, node]
      const found = search(node.children, line) ?? (is(node) ? line : null)
      if (found !== null) return found
    }
    return null
  }
  return search(await lineage(store), []) ?? []
}

/** A line in words: the models on it, from the base on. */
export const tellLine = (line: readonly LineageNode[]): string =>
  line.map(({ name, models }) => models[0]?.id ?? name).join(' → ')
