import { createClient } from '@libsql/client'
import { and, asc, desc, eq, gt, gte, inArray, isNull, lt, max, ne, sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/libsql'
import { migrate } from 'drizzle-orm/libsql/migrator'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import PQueue from 'p-queue'
import type { Axis } from '../schemas/feedback.ts'
import type { RoleName } from '../schemas/model.ts'
import { collection } from './collection.ts'
import type { Collection, Page, PageRequest } from './collection.ts'
import { labelRequestRows } from './label-requests.ts'
import type { LabelRequests } from './label-requests.ts'
import { lockFolder } from './lock.ts'
import { preferenceRows } from './preference-rows.ts'
import type { PreferenceRecord, PreferenceRows } from './preference-rows.ts'
import { runFilter } from './run-filter.ts'
import type { RunFilter } from './run-filter.ts'
import {
  audits,
  files,
  idempotency,
  judgeAnswers,
  judges,
  models,
  preferences,
  rewardChecks,
  roles,
  runEvents,
  runs,
  scorers,
  scores,
} from './schema.ts'
import { runRows } from './run-rows.ts'
import type { RunRows } from './run-rows.ts'
import { scoreRows } from './score-rows.ts'
import type { ScoreRows } from './score-rows.ts'

export type Run = typeof runs.$inferSelect
export type RunEvent = typeof runEvents.$inferSelect

export type { PreferenceRecord }
export type ModelRow = typeof models.$inferSelect
export type FileRow = typeof files.$inferSelect
export type AuditRow = typeof audits.$inferSelect
export type ScoreRow = typeof scores.$inferSelect
export type JudgeRow = typeof judges.$inferSelect
export type CheckRow = typeof rewardChecks.$inferSelect
export type Reply = { requestHash: string; status: number | null; reply: string | null }

export type Store = RunRows &
  PreferenceRows & {
    labelRequests: LabelRequests
    runs: Collection<typeof runs>
    models: Collection<typeof models>
    files: Collection<typeof files>
    preferences: Collection<typeof preferences>
    judges: Collection<typeof judges>
    scores: ScoreRows
    scorers: Collection<typeof scorers>
    audits: Collection<typeof audits>
    rewardChecks: Collection<typeof rewardChecks>
    /** removes scores from before a time; how many */
    dropScores(before: number): Promise<number>
    appendEvents(events: RunEvent[]): Promise<void>
    /** the place of a run's last event; 0 without one */
    lastSeq(run: string): Promise<number>
    /** in one: takes off what a run said after a place, but for events of type `resumed`, and adds one event */
    rewindEvents(after: number, event: RunEvent): Promise<void>
    events(run: string, after: number): Promise<RunEvent[]>
    /** the events that carry metrics, in order */
    metricEvents(run: string): Promise<RunEvent[]>
    roles(): Promise<Partial<Record<RoleName, string>>>
    setRoles(change: Partial<Record<RoleName, string>>): Promise<void>
    /** the models that a run made */
    modelsOf(run: string): Promise<ModelRow[]>
    pagePairs(request: PageRequest & { axis?: Axis | undefined }): Promise<Page<PreferenceRecord>>
    pageRuns(request: PageRequest, filter: RunFilter): Promise<Page<Run>>
    /** of a profile, newest first */
    pageAudits(request: PageRequest, judge: string): Promise<Page<AuditRow>>
    /** the newest audit that has these properties */
    lastAudit(
      of: Pick<AuditRow, 'version' | 'promptVersion' | 'axis'> & {
        dataHash?: string
        leastPairs?: number
        /** the name of one that it has */
        figure?: string
      },
    ): Promise<AuditRow | null>
    /** of a reward model, newest first */
    pageChecks(request: PageRequest, model: string): Promise<Page<CheckRow>>
    /** the checks of this version on this axis, newest first */
    checksOf(of: Pick<CheckRow, 'check' | 'version' | 'axis'>): Promise<CheckRow[]>
    /** what judges have answered before, or from a time on (ms), by key */
    judgeAnswers(keys: readonly string[], since?: number): Promise<Map<string, unknown>>
    /** in place of what was answered before under the same keys */
    keepJudgeAnswers(rows: readonly { key: string; answer: unknown }[]): Promise<void>
    /** takes a key for a request, or says what it was taken for before */
    takeKey(key: string, requestHash: string): Promise<Reply | null>
    answerKey(key: string, status: number, reply: string): Promise<void>
    dropKey(key: string): Promise<void>
    close(): Promise<void>
  }

/**
 * Opens the database file in a data folder. One process owns it: a lock says so, and all writes go through one
 * queue, because libSQL's interactive transactions fail under concurrency and a busy wait stops the event loop.
 * Throws `data_folder_locked` when another process has it.
 */
export async function openStore(folder: string): Promise<Store> {
  await mkdir(folder, { recursive: true })
  const release = await lockFolder(folder)
  const client = createClient({ url: `file:${join(folder, 'libra.db')}`, timeout: 100 })
  const db = drizzle(client)
  await client.execute('PRAGMA journal_mode=WAL')
  await migrate(db, {
    migrationsFolder: fileURLToPath(new URL('../../migrations', import.meta.url)),
  })
  // a process that is gone answers no request any more: the client may ask again
  await db.delete(idempotency).where(isNull(idempotency.status))
  const queue = new PQueue({ concurrency: 1 })
  const write = async (work: () => Promise<unknown>): Promise<void> => {
    await queue.add(work)
  }
  const collections = {
    runs: collection(db, write, runs),
    models: collection(db, write, models, { remembered: true }),
    files: collection(db, write, files),
    preferences: collection(db, write, preferences),
    judges: collection(db, write, judges),
    scores: scoreRows(db, write),
    scorers: collection(db, write, scorers, { remembered: true }),
    audits: collection(db, write, audits),
    rewardChecks: collection(db, write, rewardChecks),
  }
  let knownRoles: Promise<(typeof roles.$inferSelect)[]> | null = null
  return {
    ...collections,
    ...runRows(db, write),
    ...preferenceRows(db, write),
    labelRequests: labelRequestRows(db, write),
    pagePairs: ({ axis, ...page }) =>
      collections.preferences.page(page, axis === undefined ? axis : eq(preferences.axis, axis)),
    pageRuns: (page, filter) => collections.runs.page(page, runFilter(filter)),
    async dropScores(before) {
      let dropped = 0
      await write(async () => {
        dropped = (await db.delete(scores).where(lt(scores.createdAt, before))).rowsAffected
      })
      return dropped
    },
    appendEvents: (events) =>
      events.length === 0 ? Promise.resolve() : write(() => db.insert(runEvents).values(events)),
    async lastSeq(run) {
      const [row] = await db
        .select({ seq: max(runEvents.seq) })
        .from(runEvents)
        .where(eq(runEvents.run, run))
      return row?.seq ?? 0
    },
    rewindEvents: (after, event) =>
      write(() =>
        db.batch([
          db
            .delete(runEvents)
            .where(
              and(
                eq(runEvents.run, event.run),
                gt(runEvents.seq, after),
                ne(runEvents.type, 'resumed'),
              ),
            ),
          db.insert(runEvents).values(event),
        ]),
      ),
    events: (run, after) =>
      db
        .select()
        .from(runEvents)
        .where(and(eq(runEvents.run, run), gt(runEvents.seq, after)))
        .orderBy(asc(runEvents.seq)),
    metricEvents: (run) =>
      db
        .select()
        .from(runEvents)
        .where(and(eq(runEvents.run, run), eq(runEvents.type, 'metrics')))
        .orderBy(asc(runEvents.seq)),
    roles: () => {
      // a query is asked anew by each then: a promise is not
      knownRoles ??= db.select().from(roles).execute()
      knownRoles.catch(() => (knownRoles = null))
      return knownRoles.then((rows) =>
        Object.fromEntries(rows.map(({ role, model }) => [role, model])),
      )
    },
    setRoles: (change) =>
      write(async () => {
        const rows = Object.entries(change) as [RoleName, string][]
        const statements = rows.map(([role, model]) =>
          db
            .insert(roles)
            .values({ role, model })
            .onConflictDoUpdate({ target: roles.role, set: { model } }),
        )
        const [first, ...rest] = statements
        if (first !== undefined) await db.batch([first, ...rest])
      }).finally(() => (knownRoles = null)),
    modelsOf: (run) => db.select().from(models).where(eq(models.run, run)),
    pageAudits: (page, judge) => collections.audits.page(page, eq(audits.judge, judge)),
    async lastAudit({ version, promptVersion, axis, dataHash, leastPairs = 0, figure }) {
      const has = sql`exists (select 1 from json_each(${audits.figures}) where json_extract(value, '$.figure') = ${figure})`
      const found = await db
        .select()
        .from(audits)
        .where(
          and(
            eq(audits.version, version),
            eq(audits.promptVersion, promptVersion),
            eq(audits.axis, axis),
            dataHash === undefined ? undefined : eq(audits.dataHash, dataHash),
            gte(sql`json_array_length(${audits.probabilities})`, leastPairs),
            figure === undefined ? undefined : has,
          ),
        )
        .orderBy(desc(audits.createdAt), desc(audits.id))
        .limit(1)
      return found[0] ?? null
    },
    pageChecks: (page, model) => collections.rewardChecks.page(page, eq(rewardChecks.model, model)),
    checksOf: ({ check, version, axis }) => {
      const is = [eq(rewardChecks.version, version), eq(rewardChecks.axis, axis)]
      return db
        .select()
        .from(rewardChecks)
        .where(and(...is, eq(rewardChecks.check, check)))
        .orderBy(desc(rewardChecks.createdAt), desc(rewardChecks.id))
    },
    async judgeAnswers(keys, since = 0) {
      const found = new Map<string, unknown>()
      for (let i = 0; i < keys.length; i += 500) {
        const asked = inArray(judgeAnswers.key, keys.slice(i, i + 500))
        const part = and(asked, gte(judgeAnswers.createdAt, since))
        const rows = await db.select().from(judgeAnswers).where(part)
        for (const { key, answer } of rows) found.set(key, answer)
      }
      return found
    },
    async keepJudgeAnswers(rows) {
      const createdAt = Date.now()
      const set = { answer: sql`excluded.answer`, createdAt }
      for (let i = 0; i < rows.length; i += 500) {
        const values = rows.slice(i, i + 500).map((row) => ({ ...row, createdAt }))
        await write(() =>
          db
            .insert(judgeAnswers)
            .values(values)
            .onConflictDoUpdate({ target: judgeAnswers.key, set }),
        )
      }
    },
    async takeKey(key, requestHash) {
      let taken = 0
      await write(async () => {
        const row = { key, requestHash, createdAt: Date.now() }
        taken = (await db.insert(idempotency).values(row).onConflictDoNothing()).rowsAffected
      })
      if (taken > 0) return null
      return (await db.select().from(idempotency).where(eq(idempotency.key, key)))[0] ?? null
    },
    answerKey: (key, status, reply) =>
      write(() => db.update(idempotency).set({ status, reply }).where(eq(idempotency.key, key))),
    dropKey: (key) => write(() => db.delete(idempotency).where(eq(idempotency.key, key))),
    async close() {
      await collections.scores.flush()
      await queue.onIdle()
      client.close()
      await release()
    },
  }
}
