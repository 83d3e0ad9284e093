import { and, desc, eq, exists, sql } from 'drizzle-orm'
import type { LibSQLDatabase } from 'drizzle-orm/libsql'
import { alias } from 'drizzle-orm/sqlite-core'
import { LibraError } from '../errors.ts'
import { collection } from './collection.ts'
import type { Collection, Write } from './collection.ts'
import { scores } from './schema.ts'

type Row = typeof scores.$inferInsert
export type ScoreRows = Pick<Collection<typeof scores>, 'get' | 'page'> & {
  /** Takes rows to be written soon. Throws `not_ready` when the disk does not keep up. */
  append(rows: readonly Row[]): void
  /** Ids of the newest scores that have a row for each axis, newest first. */
  newest(axes: readonly [string, ...string[]], limit: number): Promise<string[]>
  /** Writes what waits. */
  flush(): Promise<void>
}

/** Rows wait so long for others: what a crash may lose is this and one write, at most 250 ms together. */
const GROUP_MS = 100
const STATEMENT_ROWS = 500
const MOST_WAITING = 50_000

/** Score rows are written in groups after the reply. Whoever reads them finds all that were appended before. */
export function scoreRows(db: LibSQLDatabase, write: Write): ScoreRows {
  const rows = collection(db, write, scores)
  let waiting: Row[] = []
  let timer: NodeJS.Timeout | null = null
  let writing: Promise<void> = Promise.resolve()

  const later = (): void => {
    timer ??= setTimeout(() => void flush().catch(console.error), GROUP_MS)
  }
  function flush(): Promise<void> {
    if (timer !== null) clearTimeout(timer)
    timer = null
    writing = writing.catch(() => {}).then(writeGroup)
    return writing
  }
  async function writeGroup(): Promise<void> {
    const group = waiting
    waiting = []
    try {
      for (let i = 0; i < group.length; i += STATEMENT_ROWS) {
        const part = group.slice(i, i + STATEMENT_ROWS)
        // a commit that failed may be there all the same
        await write(() => db.insert(scores).values(part).onConflictDoNothing())
      }
    } catch (error) {
      waiting = [...group, ...waiting]
      later()
      throw error
    }
  }

  return {
    append(more) {
      if (waiting.length + more.length > MOST_WAITING)
        throw new LibraError('not_ready', 'the database does not keep up with the scores', {
          fault: 'engine',
        })
      waiting.push(...more)
      later()
    },
    flush,
    async newest([axis, ...others], limit) {
      await flush()
      const score = sql<string>`substr(${scores.id}, 1, length(${scores.id}) - ${axis.length + 1})`
      const twins = alias(scores, 'twins')
      const has = (other: string) =>
        exists(
          db
            .select({ id: twins.id })
            .from(twins)
            .where(eq(twins.id, sql`${score} || ${`_${other}`}`)),
        )
      const found = await db
        .select({ score })
        .from(scores)
        .where(and(eq(scores.axis, axis), ...others.map(has)))
        .orderBy(desc(scores.createdAt), desc(scores.id))
        .limit(limit)
      return found.map((row) => row.score)
    },
    get: async (id) => flush().then(() => rows.get(id)),
    page: async (...asked) => flush().then(() => rows.page(...asked)),
  }
}
