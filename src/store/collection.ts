import { and, desc, eq, sql } from 'drizzle-orm'
import type { SQL } from 'drizzle-orm'
import type { LibSQLDatabase } from 'drizzle-orm/libsql'
import type { AnySQLiteColumn, SQLiteTable } from 'drizzle-orm/sqlite-core'
import { unknownCursor } from '../errors.ts'

type Table = SQLiteTable & { id: AnySQLiteColumn; createdAt: AnySQLiteColumn }
export type Write = (work: () => Promise<unknown>) => Promise<void>
export type Page<Row> = { data: Row[]; hasMore: boolean }
export type PageRequest = { limit: number; after?: string | undefined }

export type Collection<T extends Table> = {
  insert(rows: T['$inferInsert'][]): Promise<void>
  get(id: string): Promise<T['$inferSelect'] | null>
  /** newest first; `after` is the id of the last row of the page before. Throws `invalid_request` where it is gone. */
  page(request: PageRequest, where?: SQL): Promise<Page<T['$inferSelect']>>
  update(id: string, change: Partial<T['$inferInsert']>): Promise<void>
  remove(id: string): Promise<void>
}

/**
 * Rows that are named by `id` and listed newest first. Writes go through the one queue. `remembered`: a row that was
 * read stays in memory until the table is written to, which this process alone does.
 */
export function collection<T extends Table>(
  db: LibSQLDatabase,
  write: Write,
  table: T,
  { remembered = false } = {},
): Collection<T> {
  type Row = T['$inferSelect']
  const known = new Map<string, Promise<Row | null>>()
  const read = async (id: string): Promise<Row | null> =>
    ((await db.select().from(table).where(eq(table.id, id))) as Row[])[0] ?? null
  const get = (id: string): Promise<Row | null> => {
    if (!remembered) return read(id)
    const row = known.get(id) ?? read(id)
    known.set(id, row)
    row.catch(() => known.delete(id))
    return row
  }
  const change = (work: () => Promise<unknown>): Promise<void> =>
    write(work).finally(() => known.clear())
  return {
    get,
    insert: (rows) =>
      rows.length === 0 ? Promise.resolve() : change(() => db.insert(table).values(rows as never)),
    update: (id, values) =>
      change(() =>
        db
          .update(table)
          .set(values as never)
          .where(eq(table.id, id)),
      ),
    remove: (id) => change(() => db.delete(table).where(eq(table.id, id))),
    async page({ limit, after }, where) {
      const last = after === undefined ? null : await get(after)
      if (after !== undefined && last === null) throw unknownCursor(after)
      const from =
        last === null ? null : { id: last['id' as keyof Row], at: last['createdAt' as keyof Row] }
      const rows = (await pageQuery(db, table, limit + 1, from, where)) as Row[]
      return { data: rows.slice(0, limit), hasMore: rows.length > limit }
    },
  }
}

/** Newest first, below the row of the cursor. A comparison of rows walks the index; `a < x or (a = x and …)` does not. */
export const pageQuery = <T extends Table>(
  db: LibSQLDatabase,
  table: T,
  limit: number,
  from: { id: unknown; at: unknown } | null,
  where?: SQL,
) =>
  db
    .select()
    .from(table)
    .where(
      and(
        where,
        from === null
          ? undefined
          : sql`(${table.createdAt}, ${table.id}) < (${from.at}, ${from.id})`,
      ),
    )
    .orderBy(desc(table.createdAt), desc(table.id))
    .limit(limit)
