import { and, eq, or, sql } from 'drizzle-orm'
import type { SQL } from 'drizzle-orm'
import type { RunState } from '../schemas/run.ts'
import { runs } from './schema.ts'

export type RunFilter = {
  kinds?: readonly (typeof runs.$inferSelect)['kind'][] | undefined
  state?: RunState | undefined
  /** runs that are part of this one */
  parent?: string | undefined
  tag?: string | undefined
  /** words of the id, tags, notes or configuration, in any order */
  search?: string | undefined
}

/** A filter of runs as SQL. One kind, state or parent is found by its index; the rest is read on the way. */
export function runFilter({ kinds, state, parent, tag, search }: RunFilter): SQL | undefined {
  const [kind, ...more] = kinds ?? []
  return and(
    kind === undefined
      ? undefined
      : more.length === 0
        ? eq(runs.kind, kind)
        : // the plus keeps SQLite from sorting what several parts of the index give
          sql`+${runs.kind} in ${kinds}`,
    state === undefined ? undefined : eq(runs.state, state),
    parent === undefined ? undefined : eq(runs.parent, parent),
    tag === undefined
      ? undefined
      : sql`exists (select 1 from json_each(${runs.tags}) where value = ${tag})`,
    ...(search ?? '')
      .split(/\s+/)
      .filter((word) => word !== '')
      .map((word) => `%${word.replaceAll(/[\\%_]/g, '\\$&')}%`)
      .map((pattern) =>
        or(
          ...[runs.id, runs.notes, runs.tags, runs.config].map(
            (column) => sql`${column} like ${pattern} escape '\\'`,
          ),
        ),
      ),
  )
}
