import { and, asc, eq, inArray, isNotNull, sql } from 'drizzle-orm'
import type { LibSQLDatabase } from 'drizzle-orm/libsql'
import type { RunState } from '../schemas/run.ts'
import type { Write } from './collection.ts'
import { runs } from './schema.ts'

type Run = typeof runs.$inferSelect

export type RunRows = {
  /** runs that a process which is gone left queued or running */
  unfinishedRuns(): Promise<Run[]>
  /** moves a run on, from one of the states given; false when it was in none of them */
  moveRun(id: string, from: readonly RunState[], change: Partial<Run>): Promise<boolean>
  /** the part of a run that has this name */
  partOf(run: string, part: string): Promise<Run | null>
  /** all parts of a run that have names, in the order in which they began */
  partsOf(run: string): Promise<Run[]>
}

/** Runs by their state, and by their place in the run that they are a part of. */
export function runRows(db: LibSQLDatabase, write: Write): RunRows {
  return {
    unfinishedRuns: () =>
      db
        .select()
        .from(runs)
        .where(inArray(runs.state, ['queued', 'running'])),
    async moveRun(id, from, change) {
      let moved = 0
      await write(async () => {
        const result = await db
          .update(runs)
          .set(change)
          .where(and(eq(runs.id, id), inArray(runs.state, [...from])))
        moved = result.rowsAffected
      })
      return moved > 0
    },
    async partOf(run, part) {
      const is = and(eq(runs.parent, run), eq(runs.part, part))
      return (await db.select().from(runs).where(is))[0] ?? null
    },
    partsOf: (run) =>
      db
        .select()
        .from(runs)
        .where(and(eq(runs.parent, run), isNotNull(runs.part)))
        .orderBy(asc(runs.createdAt), sql`rowid`), // two may begin in one millisecond
  }
}
