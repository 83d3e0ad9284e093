import { index, integer, primaryKey, real, sqliteTable, text } from 'drizzle-orm/sqlite-core'

export const RUN_KINDS = [
  'pretrain',
  'sft',
  'reward_model',
  'policy_update',
  'label',
  'evaluation',
  'rlaif',
] as const
export const RUN_STATES = ['queued', 'running', 'succeeded', 'failed', 'cancelled'] as const

/** Everything that was ever started, with what it came from. */
export const runs = sqliteTable('runs', {
  id: text('id').primaryKey(),
  kind: text('kind', { enum: RUN_KINDS }).notNull(),
  state: text('state', { enum: RUN_STATES }).notNull(),
  parent: text('parent'),
  config: text('config', { mode: 'json' }).notNull().$type<Record<string, unknown>>(),
  seed: integer('seed').notNull(),
  dataHash: text('data_hash'),
  parentCheckpoint: text('parent_checkpoint'),
  output: text('output'),
  device: text('device'),
  codeVersion: text('code_version').notNull(),
  createdAt: integer('created_at').notNull(),
  startedAt: integer('started_at'),
  endedAt: integer('ended_at'),
  error: text('error', { mode: 'json' }).$type<{ code: string; message: string }>(),
  summary: text('summary', { mode: 'json' }).$type<Record<string, unknown>>(),
})

/** Append-only: what a run said, in order. */
export const runEvents = sqliteTable(
  'run_events',
  {
    run: text('run')
      .notNull()
      .references(() => runs.id),
    seq: integer('seq').notNull(),
    at: integer('at').notNull(),
    type: text('type').notNull(),
    data: text('data', { mode: 'json' }).notNull().$type<Record<string, unknown>>(),
  },
  (table) => [primaryKey({ columns: [table.run, table.seq] })],
)

/** Every score given out, with what it takes to give it again. */
export const scores = sqliteTable(
  'scores',
  {
    id: text('id').primaryKey(),
    axis: text('axis').notNull(),
    model: text('model').notNull(),
    modelVersion: text('model_version').notNull(),
    calibration: text('calibration'),
    logit: real('logit').notNull(),
    messages: text('messages', { mode: 'json' }).notNull().$type<unknown[]>(),
    createdAt: integer('created_at').notNull(),
  },
  (table) => [index('scores_created').on(table.createdAt)],
)
