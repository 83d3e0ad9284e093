import { LibraError } from '../errors.ts'
import type { METRIC_FORMATS } from '../schemas/http.ts'
import type { Run, RunEvent, Store } from '../store/store.ts'
import { eventFileHeader, eventRecord } from './event-file.ts'

/** What is kept of runs, as people read it: metrics in files' formats, tags and notes, differences. */

type MetricFormat = (typeof METRIC_FORMATS)[number]

/** Throws `not_found`. */
export async function findRun(store: Store, id: string): Promise<Run> {
  const run = await store.runs.get(id)
  if (run === null) throw new LibraError('not_found', `no run ${id}`)
  return run
}

export type MetricRow = { step: number; at: number } & Record<string, number>
const toRow = ({ at, data }: RunEvent): MetricRow => ({
  step: Number(data['step'] ?? 0),
  at,
  ...(data['metrics'] as Record<string, number> | undefined),
})

/** Every metric that a run recorded, step by step. */
export const metricsOf = async (store: Store, run: string): Promise<MetricRow[]> =>
  (await store.metricEvents(run)).map(toRow)

/** The runs whose curves are a run's own: of a loop its policy updates, whose steps count on, before them the newest part that runs. */
export function curveRuns(run: Run, newestFirst: readonly Run[]): readonly Run[] {
  if (run.kind !== 'rlaif') return [run]
  const updates = newestFirst.filter(({ kind }) => kind === 'policy_update').toReversed()
  const newest = newestFirst.find(({ state }) => state === 'running') ?? newestFirst[0]
  return updates.length > 0 ? updates : [newest ?? run]
}

async function curveEvents(store: Store, run: Run): Promise<RunEvent[]> {
  const { data: parts } = await store.pageRuns({ limit: 1000 }, { parent: run.id })
  const events = curveRuns(run, parts).map(({ id }) => store.metricEvents(id))
  return (await Promise.all(events)).flat()
}

/** The metrics of a run's curves, step by step: of a loop those of its parts. */
export const curvesOf = async (store: Store, run: Run): Promise<MetricRow[]> =>
  (await curveEvents(store, run)).map(toRow)

/** A run's metrics as a file: JSON Lines, CSV with a column for each metric, or a TensorBoard event file. */
export async function exportMetrics(store: Store, run: Run, format: MetricFormat): Promise<Buffer> {
  const events = await curveEvents(store, run)
  if (format === 'tensorboard')
    return Buffer.concat([eventFileHeader(run.createdAt), ...events.map(eventRecord)])
  const rows = events.map(toRow)
  if (format === 'jsonl') return Buffer.from(rows.map((row) => `${JSON.stringify(row)}\n`).join(''))
  const names = [...new Set(['step', 'at', ...rows.flatMap((row) => Object.keys(row))])]
  const quoted = (text: string): string =>
    /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
  const lines = [
    names.map(quoted),
    ...rows.map((row) => names.map((name) => String(row[name] ?? ''))),
  ]
  return Buffer.from(lines.map((line) => `${line.join(',')}\r\n`).join('')) // RFC 4180
}

/** Changes what people say of a run; what is not given stays. */
export async function annotateRun(
  store: Store,
  id: string,
  change: { tags?: string[] | undefined; notes?: string | undefined },
): Promise<Run> {
  const { tags, notes } = await findRun(store, id)
  await store.runs.update(id, { tags: change.tags ?? tags, notes: change.notes ?? notes })
  return findRun(store, id)
}

/** A nested object as one level: `{a: {b: 1}}` → `{'a.b': 1}`. A list is a value. */
export function flatten(value: unknown, path = ''): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return { [path]: value }
  return Object.assign(
    {},
    ...Object.entries(value).map(([key, each]) =>
      flatten(each, path === '' ? key : `${path}.${key}`),
    ),
  ) as Record<string, unknown>
}

export type Difference = { field: string; values: unknown[] }
export type RunComparison = {
  runs: Run[]
  /** fields of the configuration that are not the same in all */
  configuration: Difference[]
  /** the last value of each metric */
  metrics: { metric: string; values: (number | null)[] }[]
}

/** Runs beside each other: where their configurations differ, and where each ended. */
export async function compareRuns(store: Store, ids: readonly string[]): Promise<RunComparison> {
  const runs = await Promise.all(ids.map((id) => findRun(store, id)))
  const configs = runs.map(({ kind, seed, dataHash, parentCheckpoint, config }) => ({
    ...{ kind, seed, data_hash: dataHash, parent_checkpoint: parentCheckpoint },
    ...flatten(config),
  }))
  const fields = [...new Set(configs.flatMap((config) => Object.keys(config)))]
  const configuration = fields
    .map((field) => ({
      field,
      values: configs.map((config) => (config as Record<string, unknown>)[field] ?? null),
    }))
    .filter(({ values }) => new Set(values.map((value) => JSON.stringify(value))).size > 1)
  const last = await Promise.all(
    runs.map(async (run) => {
      const {
        at: _at,
        step: _step,
        ...row
      } = Object.assign({}, ...(await curveEvents(store, run)).map(toRow)) as MetricRow
      return row as Record<string, number>
    }),
  )
  const names = [...new Set(last.flatMap((row) => Object.keys(row)))].sort()
  const metrics = names.map((metric) => ({
    metric,
    values: last.map((row) => row[metric] ?? null),
  }))
  return { runs, configuration, metrics }
}
