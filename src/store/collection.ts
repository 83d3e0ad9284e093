import { and, desc, eq, lt, or } from 'drizzle-orm'
import type { SQL } from 'drizzle-orm'
import type { LibSQLDatabase } from 'drizzle-orm/libsql'
import type { AnySQLiteColumn, SQLiteTable } from 'drizzle-orm/sqlite-core'

type Table = SQLiteTable & { id: AnySQLiteColumn; createdAt: AnySQLiteColumn }
export type Write = (work: () => Promise<unknown>) => Promise<void>
export type Page<Row> = { data: Row[]; hasMore: boolean }
export type PageRequest = { limit: number; after?: string | undefined }

export type Collection<T extends Table> = {
  insert(rows: T['$inferInsert'][]): Promise<void>
  get(id: string): Promise<T['$inferSelect'] | null>
  /** newest first; `after` is the id of the last row of the page before */
  page(request: PageRequest, where?: SQL): Promise<Page<T['$inferSelect']>>
  update(id: string, change: Partial<T['$inferInsert']>): Promise<void>
  remove(id: string): Promise<void>
}

/** Rows that are named by `id` and listed newest first. Writes go through the one queue. */
export function collection<T extends Table>(
  db: LibSQLDatabase,
  write: Write,
  table: T,
): Collection<T> {
  type Row = T['$inferSelect']
  const get = async (id: string): Promise<Row | null> =>
    ((await db.select().from(table).where(eq(table.id, id))) as Row[])[0] ?? null
  return {
    get,
    insert: (rows) =>
      rows.length === 0 ? Promise.resolve() : write(() => db.insert(table).values(rows as never)),
    update: (id, change) =>
      write(() =>
        db
          .update(table)
          .set(change as never)
          .where(eq(table.id, id)),
      ),
    remove: (id) => write(() => db.delete(table).where(eq(table.id, id))),
    async page({ limit, after }, where) {
      const last = after === undefined ? null : await get(after)
      const older =
        last === null
          ? undefined
          : or(
              lt(table.createdAt, last['createdAt' as keyof Row]),
              and(eq(table.createdAt, last['createdAt' as keyof Row]), lt(table.id, after)),
            )
      const rows = (await db
        .select()
        .from(table)
        .where(and(where, older))
        .orderBy(desc(table.createdAt), desc(table.id))
        .limit(limit + 1)) as Row[]
      return { data: rows.slice(0, limit), hasMore: rows.length > limit }
    },
  }
}
