import { and, asc, count, eq, isNull, notInArray } from 'drizzle-orm'
import type { LibSQLDatabase } from 'drizzle-orm/libsql'
import type { Axis } from '../schemas/feedback.ts'
import type { Write } from './collection.ts'
import { labelRequests, runs } from './schema.ts'

export type LabelRequest = typeof labelRequests.$inferSelect

export type LabelRequests = {
  insert(rows: readonly (typeof labelRequests.$inferInsert)[]): Promise<void>
  /** all that a part of a run asks for */
  of(run: string, part: string): Promise<LabelRequest[]>
  /** how many a run still waits for */
  open(run: string): Promise<number>
  /** the oldest that a run waits for, without some, and how many there are in all */
  next(
    axis: Axis,
    skip: readonly string[],
  ): Promise<{ first: LabelRequest | null; waiting: number }>
  /** gives a label to all open requests that ask for it; the runs that asked */
  answer(axis: Axis, compared: string, preference: string): Promise<string[]>
}

/** What runs wait for people to label. */
export function labelRequestRows(db: LibSQLDatabase, write: Write): LabelRequests {
  const table = labelRequests
  return {
    insert: async (rows) => {
      // SQLite takes 32,766 values in a statement
      for (let i = 0; i < rows.length; i += 1000)
        await write(() => db.insert(table).values(rows.slice(i, i + 1000)))
    },
    of: (run, part) =>
      db
        .select()
        .from(table)
        .where(and(eq(table.run, run), eq(table.part, part)))
        .orderBy(asc(table.createdAt), asc(table.id)),
    async open(run) {
      const is = and(eq(table.run, run), isNull(table.preference))
      return (await db.select({ n: count() }).from(table).where(is))[0]?.n ?? 0
    },
    async next(axis, skip) {
      const waits = and(
        eq(table.axis, axis),
        isNull(table.preference),
        eq(runs.state, 'waiting_for_labels'),
      )
      const [all] = await db
        .select({ n: count() })
        .from(table)
        .innerJoin(runs, eq(runs.id, table.run))
        .where(waits)
      const [first] = await db
        .select({ request: table })
        .from(table)
        .innerJoin(runs, eq(runs.id, table.run))
        .where(and(waits, notInArray(table.id, [...skip])))
        .orderBy(asc(table.createdAt), asc(table.id))
        .limit(1)
      return { first: first?.request ?? null, waiting: all?.n ?? 0 }
    },
    async answer(axis, compared, preference) {
      const is = and(eq(table.axis, axis), eq(table.compared, compared), isNull(table.preference))
      const asked = await db.select({ run: table.run }).from(table).where(is)
      if (asked.length > 0) await write(() => db.update(table).set({ preference }).where(is))
      return [...new Set(asked.map(({ run }) => run))]
    },
  }
}
