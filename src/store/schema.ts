import {
  index,
  integer,
  primaryKey,
  real,
  sqliteTable,
  text,
  uniqueIndex,
} from 'drizzle-orm/sqlite-core'
import type { AuditFigure } from '../schemas/audit.ts'
import { CHECKS } from '../schemas/checks.ts'
import type { CheckResult } from '../schemas/checks.ts'
import type { Message } from '../schemas/chat.ts'
import { ANNOTATOR_KINDS, AXES, PROMPT_CLASSES, STRENGTHS } from '../schemas/feedback.ts'
import type { JudgeSettings } from '../schemas/judging.ts'
import { MODEL_KINDS, ROLE_NAMES } from '../schemas/model.ts'
import type { Build, Calibration, PlacedScore } from '../schemas/model.ts'
import { RUN_KINDS, RUN_STATES } from '../schemas/run.ts'

/** Everything that was ever started, with what it came from. */
export const runs = sqliteTable(
  'runs',
  {
    id: text('id').primaryKey(),
    kind: text('kind', { enum: RUN_KINDS }).notNull(),
    state: text('state', { enum: RUN_STATES }).notNull(),
    parent: text('parent'),
    /** its name among the parts of its parent, which are done once each */
    part: text('part'),
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
    /** what people say of it */
    tags: text('tags', { mode: 'json' }).notNull().default([]).$type<string[]>(),
    notes: text('notes').notNull().default(''),
  },
  (table) => [
    index('runs_created').on(table.createdAt, table.id),
    index('runs_kind').on(table.kind, table.createdAt, table.id),
    index('runs_state').on(table.state, table.createdAt, table.id),
    index('runs_parent').on(table.parent, table.createdAt, table.id),
    uniqueIndex('runs_part').on(table.parent, table.part),
  ],
)

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
    /** the scorer: see below */
    modelVersion: text('model_version').notNull(),
    calibration: text('calibration'),
    logit: real('logit').notNull(),
    /** of the gate; null where one axis alone was asked */
    branch: text('branch'),
    /** of the prompt, as the request said it; null also in rows of before migration 0010 */
    promptClass: text('prompt_class', { enum: PROMPT_CLASSES }),
    /** where the conversation lay in its pass */
    placed: text('placed', { mode: 'json' }).$type<PlacedScore>(),
    /** the HTTP request or the run that it was given to */
    request: text('request'),
    /** in one of the rows of a score */
    messages: text('messages', { mode: 'json' }).$type<Message[]>(),
    createdAt: integer('created_at').notNull(),
  },
  (table) => [index('scores_created').on(table.createdAt, table.id)],
)

/** What gave scores: a model's files by the build that ran them. Rows of before migration 0009 have the version as id. */
export const scorers = sqliteTable('scorers', {
  id: text('id').primaryKey(),
  /** a hash over base, adapters, heads, tokenizer and template */
  version: text('version'),
  /** SHA-256 of each of its files */
  files: text('files', { mode: 'json' }).$type<Record<string, string>>(),
  model: text('model').notNull(),
  base: text('base').notNull(),
  adapters: text('adapters', { mode: 'json' }).notNull().$type<string[]>(),
  calibration: text('calibration', { mode: 'json' }).$type<Calibration>(),
  device: text('device').notNull(),
  tensorflow: text('tensorflow').notNull(),
  codeVersion: text('code_version').notNull(),
  /** hashes of the sources that decide a score and of the native kernels, and the processor; null: not noted */
  build: text('build', { mode: 'json' }).$type<Build>(),
  createdAt: integer('created_at').notNull(),
})

/** What can be named in a request: a base and the adapters on it. The weights lie in folders. */
export const models = sqliteTable(
  'models',
  {
    id: text('id').primaryKey(),
    kind: text('kind', { enum: MODEL_KINDS }).notNull(),
    base: text('base').notNull(),
    adapters: text('adapters', { mode: 'json' }).notNull().$type<string[]>(),
    axis: text('axis', { enum: AXES }),
    run: text('run'),
    createdAt: integer('created_at').notNull(),
  },
  (table) => [index('models_created').on(table.createdAt, table.id)],
)

/** Which model plays which part. */
export const roles = sqliteTable('roles', {
  role: text('role', { enum: ROLE_NAMES }).primaryKey(),
  model: text('model')
    .notNull()
    .references(() => models.id),
})

/** Uploaded data sets; their bytes lie in the data folder under their id. */
export const files = sqliteTable(
  'files',
  {
    id: text('id').primaryKey(),
    filename: text('filename').notNull(),
    purpose: text('purpose').notNull(),
    bytes: integer('bytes').notNull(),
    sha256: text('sha256').notNull(),
    createdAt: integer('created_at').notNull(),
  },
  (table) => [index('files_created').on(table.createdAt, table.id)],
)

/** Preference pairs from people or judges, one row per pair and axis. */
export const preferences = sqliteTable(
  'preferences',
  {
    id: text('id').primaryKey(),
    axis: text('axis', { enum: AXES }).notNull(),
    prompt: text('prompt', { mode: 'json' }).notNull().$type<Message[]>(),
    chosen: text('chosen').notNull(),
    rejected: text('rejected').notNull(),
    strength: text('strength', { enum: STRENGTHS }),
    probability: real('probability'),
    chosenSafe: integer('chosen_safe', { mode: 'boolean' }),
    rejectedSafe: integer('rejected_safe', { mode: 'boolean' }),
    source: text('source').notNull(),
    annotator: text('annotator'),
    annotatorKind: text('annotator_kind', { enum: ANNOTATOR_KINDS }),
    judgeVersion: text('judge_version'),
    promptVersion: text('prompt_version'),
    orders: text('orders', { mode: 'json' }).$type<(number | null)[]>(),
    principle: text('principle'),
    rationale: text('rationale'),
    ranking: text('ranking'),
    /** hash of what was labelled, how and by whom: the same label is kept once; null: from before there was one */
    fingerprint: text('fingerprint'),
    run: text('run'),
    createdAt: integer('created_at').notNull(),
  },
  (table) => [
    uniqueIndex('preferences_fingerprint').on(table.fingerprint),
    index('preferences_created').on(table.createdAt, table.id),
    index('preferences_axis').on(table.axis, table.createdAt, table.id),
  ],
)

/** Pairs of answers that a run waits for people to label, on one axis each. */
export const labelRequests = sqliteTable(
  'label_requests',
  {
    id: text('id').primaryKey(),
    run: text('run')
      .notNull()
      .references(() => runs.id),
    /** of the run that waits */
    part: text('part').notNull(),
    axis: text('axis', { enum: AXES }).notNull(),
    prompt: text('prompt', { mode: 'json' }).notNull().$type<Message[]>(),
    a: text('a').notNull(),
    b: text('b').notNull(),
    /** hash of what is compared, whichever way round */
    compared: text('compared').notNull(),
    /** the first label of a person that came */
    preference: text('preference'),
    createdAt: integer('created_at').notNull(),
  },
  (table) => [
    index('label_requests_run').on(table.run, table.part),
    index('label_requests_compared').on(table.compared),
  ],
)

/** Judge profiles. A key is named by its environment variable and never stored. */
export const judges = sqliteTable(
  'judges',
  {
    id: text('id').primaryKey(),
    kind: text('kind', { enum: ['local', 'openai'] }).notNull(),
    model: text('model').notNull(),
    baseUrl: text('base_url'),
    apiKeyEnv: text('api_key_env'),
    settings: text('settings', { mode: 'json' }).$type<JudgeSettings>(),
    createdAt: integer('created_at').notNull(),
  },
  (table) => [index('judges_created').on(table.createdAt, table.id)],
)

/** What became of judges beside people's labels: one row for each audit of a version with its prompts on one axis. */
export const audits = sqliteTable(
  'audits',
  {
    id: text('id').primaryKey(),
    judge: text('judge').notNull(),
    version: text('version').notNull(),
    promptVersion: text('prompt_version').notNull(),
    axis: text('axis', { enum: AXES }).notNull(),
    dataHash: text('data_hash').notNull(),
    run: text('run'),
    figures: text('figures', { mode: 'json' }).notNull().$type<AuditFigure[]>(),
    /** why it may not label; empty: it may */
    objections: text('objections', { mode: 'json' }).notNull().$type<string[]>(),
    /** P(a) for each pair, null where there was no verdict: for the drift of the next audit */
    probabilities: text('probabilities', { mode: 'json' }).notNull().$type<(number | null)[]>(),
    createdAt: integer('created_at').notNull(),
  },
  (table) => [
    index('audits_judge').on(table.version, table.promptVersion, table.axis),
    index('audits_by_judge').on(table.judge, table.createdAt, table.id),
  ],
)

/** What was found of reward models before they taught a policy: one row for each check of a version on its axis. */
export const rewardChecks = sqliteTable(
  'reward_checks',
  {
    id: text('id').primaryKey(),
    check: text('check', { enum: CHECKS }).notNull(),
    model: text('model').notNull(),
    version: text('version').notNull(),
    axis: text('axis', { enum: AXES }).notNull(),
    dataHash: text('data_hash').notNull(),
    run: text('run'),
    result: text('result', { mode: 'json' }).notNull().$type<CheckResult>(),
    /** what must be overridden by name */
    objections: text('objections', { mode: 'json' }).notNull().$type<string[]>(),
    createdAt: integer('created_at').notNull(),
  },
  (table) => [
    index('reward_checks_version').on(table.version, table.axis, table.check),
    index('reward_checks_model').on(table.model, table.createdAt, table.id),
  ],
)

/** What judges have answered, by the hash of who was asked what. */
export const judgeAnswers = sqliteTable('judge_answers', {
  key: text('key').primaryKey(),
  answer: text('answer', { mode: 'json' }).notNull().$type<unknown>(),
  createdAt: integer('created_at').notNull(),
})

/** Replies by idempotency key: the same write sent twice is done once. */
export const idempotency = sqliteTable('idempotency', {
  key: text('key').primaryKey(),
  requestHash: text('request_hash').notNull(),
  status: integer('status'),
  reply: text('reply'),
  createdAt: integer('created_at').notNull(),
})
