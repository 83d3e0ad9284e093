import { asc, eq, inArray, sql } from 'drizzle-orm'
import type { LibSQLDatabase } from 'drizzle-orm/libsql'
import type { Axis } from '../schemas/feedback.ts'
import type { Write } from './collection.ts'
import { labelRequests, preferences } from './schema.ts'

export type PreferenceRecord = typeof preferences.$inferSelect
type NewPair = typeof preferences.$inferInsert
type Correction = { id: string; row: PreferenceRecord; superseded: string[] }

export type PreferenceRows = {
  pairsOf(axis: Axis): Promise<PreferenceRecord[]>
  /** stores what is not there yet; absolute safety labels that a stored label lacks are added to it */
  addPairs(rows: readonly NewPair[]): Promise<void>
  /** another word of the same person on a pair: it takes the place of `id` and of those superseded, where runs wait too */
  correctPairs(corrections: readonly Correction[]): Promise<void>
  /** takes pairs away; what runs have them for waits for a label again */
  withdrawPairs(ids: readonly string[]): Promise<void>
  /** of labels that are there, by fingerprint */
  pairIds(fingerprints: readonly string[]): Promise<Map<string, StoredLabel>>
}
export type StoredLabel = Pick<PreferenceRecord, 'id' | 'annotatorKind' | 'run'>

/** What is asked of preference pairs. SQLite takes 32,766 values in a statement: they are written in parts. */
export const preferenceRows = (db: LibSQLDatabase, write: Write): PreferenceRows => ({
  pairsOf: (axis) =>
    db
      .select()
      .from(preferences)
      .where(eq(preferences.axis, axis))
      .orderBy(asc(preferences.createdAt), asc(preferences.id)),
  addPairs: async (rows) => {
    const filled = {
      chosenSafe: sql`coalesce(${preferences.chosenSafe}, excluded.chosen_safe)`,
      rejectedSafe: sql`coalesce(${preferences.rejectedSafe}, excluded.rejected_safe)`,
    }
    for (let i = 0; i < rows.length; i += 1000)
      await write(() =>
        db
          .insert(preferences)
          .values(rows.slice(i, i + 1000))
          .onConflictDoUpdate({ target: preferences.fingerprint, set: filled }),
      )
  },
  async correctPairs(corrections) {
    for (let i = 0; i < corrections.length; i += 1000) {
      const [first, ...rest] = corrections.slice(i, i + 1000).flatMap(({ id, row, superseded }) => {
        const { id: _id, run: _run, createdAt: _at, ...label } = row
        const set = db.update(preferences).set(label).where(eq(preferences.id, id))
        if (superseded.length === 0) return [set]
        const gone = inArray(labelRequests.preference, superseded)
        return [
          db.update(labelRequests).set({ preference: id }).where(gone),
          db.delete(preferences).where(inArray(preferences.id, superseded)),
          set,
        ]
      })
      if (first !== undefined) await write(() => db.batch([first, ...rest]))
    }
  },
  async withdrawPairs(ids) {
    for (let i = 0; i < ids.length; i += 1000) {
      const part = ids.slice(i, i + 1000)
      const given = inArray(labelRequests.preference, part)
      await write(() =>
        db.batch([
          db.update(labelRequests).set({ preference: null }).where(given),
          db.delete(preferences).where(inArray(preferences.id, part)),
        ]),
      )
    }
  },
  async pairIds(fingerprints) {
    const found = new Map<string, StoredLabel>()
    for (let i = 0; i < fingerprints.length; i += 1000) {
      const part = inArray(preferences.fingerprint, fingerprints.slice(i, i + 1000))
      const rows = await db
        .select({
          ...{ id: preferences.id, fingerprint: preferences.fingerprint },
          ...{ annotatorKind: preferences.annotatorKind, run: preferences.run },
        })
        .from(preferences)
        .where(part)
      for (const { fingerprint, ...label } of rows) found.set(fingerprint ?? '', label)
    }
    return found
  },
})
