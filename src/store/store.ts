import { createClient } from '@libsql/client'
import { asc, desc, eq, gt, and } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/libsql'
import { migrate } from 'drizzle-orm/libsql/migrator'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import PQueue from 'p-queue'
import lockfile from 'proper-lockfile'
import { LibraError } from '../errors.ts'
import { runEvents, runs, scores } from './schema.ts'

export type Run = typeof runs.$inferSelect
export type RunEvent = typeof runEvents.$inferSelect
export type ScoreRow = typeof scores.$inferSelect

export type Store = {
  insertRun(run: typeof runs.$inferInsert): Promise<void>
  updateRun(id: string, change: Partial<Run>): Promise<void>
  run(id: string): Promise<Run | null>
  listRuns(limit: number): Promise<Run[]>
  appendEvents(events: RunEvent[]): Promise<void>
  events(run: string, after: number): Promise<RunEvent[]>
  insertScores(rows: ScoreRow[]): Promise<void>
  score(id: string): Promise<ScoreRow | null>
  close(): Promise<void>
}

/**
 * Opens the database file in a data folder. One process owns it: a lock says so, and all writes go through one
 * queue, because libSQL's interactive transactions fail under concurrency and a busy wait stops the event loop.
 * Throws `data_folder_locked` when another process has it.
 */
export async function openStore(folder: string): Promise<Store> {
  await mkdir(folder, { recursive: true })
  const lockTarget = join(folder, 'libra.lock')
  await writeFile(lockTarget, '', { flag: 'a' })
  const release = await lockfile.lock(lockTarget, { stale: 10_000 }).catch((cause: unknown) => {
    throw new LibraError(
      'data_folder_locked',
      `${folder} is in use by another Libra process: stop it, or set LIBRA_DATA_DIR to another folder`,
      { cause },
    )
  })
  const client = createClient({ url: `file:${join(folder, 'libra.db')}`, timeout: 100 })
  const db = drizzle(client)
  await client.execute('PRAGMA journal_mode=WAL')
  await migrate(db, {
    migrationsFolder: fileURLToPath(new URL('../../migrations', import.meta.url)),
  })
  const queue = new PQueue({ concurrency: 1 })
  const write = async (work: () => Promise<unknown>): Promise<void> => {
    await queue.add(work)
  }
  return {
    insertRun: (run) => write(() => db.insert(runs).values(run)),
    updateRun: (id, change) => write(() => db.update(runs).set(change).where(eq(runs.id, id))),
    run: async (id) => (await db.select().from(runs).where(eq(runs.id, id)))[0] ?? null,
    listRuns: (limit) =>
      db.select().from(runs).orderBy(desc(runs.createdAt), desc(runs.id)).limit(limit),
    appendEvents: (events) =>
      events.length === 0 ? Promise.resolve() : write(() => db.insert(runEvents).values(events)),
    events: (run, after) =>
      db
        .select()
        .from(runEvents)
        .where(and(eq(runEvents.run, run), gt(runEvents.seq, after)))
        .orderBy(asc(runEvents.seq)),
    insertScores: (rows) =>
      rows.length === 0 ? Promise.resolve() : write(() => db.insert(scores).values(rows)),
    score: async (id) => (await db.select().from(scores).where(eq(scores.id, id)))[0] ?? null,
    async close() {
      await queue.onIdle()
      client.close()
      await release()
    },
  }
}
