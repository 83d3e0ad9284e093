import { existsSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { LibraError } from '../errors.ts'
import { renderHtml, renderMarkdown } from '../evaluation/report.ts'
import type { Report } from '../evaluation/report.ts'
import type { Curve } from '../evaluation/report-charts.ts'
import type { Run, Store } from '../store/store.ts'
import { lineOf, tellLine } from './lineage.ts'
import { curvesOf, findRun, metricsOf } from './run-records.ts'
import type { MetricRow } from './run-records.ts'
import type { Services } from './services.ts'

/** Metrics that are drawn in one plot; others get a plot each. */
const TOGETHER: [string, string[]][] = [
  ['Reward 奖励', ['objective/scores', 'objective/helpfulness', 'objective/safety']],
  ['KL to the reference 与参考策略的距离', ['objective/kl']],
  ['Gold, the truth 真值', ['gold/helpfulness', 'gold/safety', 'gold/safe_and_helpful']],
  ['Length 长度', ['response/length']],
  ['Gate: share of the safety model 门', ['gate/safety_share']],
]

/** Plots of a run's metrics; more than a dozen would be read by nobody. */
export function plotsOf(rows: readonly MetricRow[]): Report['curves'] {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))].filter(
    (name) => name !== 'step' && name !== 'at',
  )
  const curve = (name: string): Curve => {
    const having = rows.filter((row) => name in row)
    return {
      name,
      steps: having.map(({ step }) => step),
      values: having.map((row) => row[name] ?? null),
    }
  }
  const grouped = TOGETHER.map(([title, list]) => ({
    title,
    curves: list.filter((name) => names.includes(name)).map(curve),
  })).filter(({ curves }) => curves.length > 0)
  if (grouped.length > 0) return grouped
  return names.slice(0, 12).map((name) => ({ title: name, curves: [curve(name)] }))
}

export type ReportParts = Partial<
  Pick<
    Report,
    'figures' | 'plane' | 'votes' | 'lineage' | 'curves' | 'samples' | 'samples_in_all' | 'warnings'
  >
>

const minute = (at: number): string =>
  `${new Date(at).toISOString().slice(0, 16).replace('T', ' ')} UTC`

/** A report from a run's row and what came of it. */
export const reportOf = (run: Run, parts: ReportParts): Report => ({
  object: 'report',
  title: `${run.kind} ${run.id}`,
  provenance: {
    run: run.id,
    kind: run.kind,
    state: run.state,
    seed: run.seed,
    'started from': run.parentCheckpoint,
    'data (SHA-256)': run.dataHash,
    'part of': run.parent,
    device: run.device,
    'code version': run.codeVersion,
    started: minute(run.startedAt ?? run.createdAt),
    ended: run.endedAt === null ? null : minute(run.endedAt),
    tags: run.tags.length === 0 ? null : run.tags.join(', '),
    notes: run.notes === '' ? null : run.notes,
  },
  ...{ warnings: warningsOf(run), figures: [], curves: [], samples: [], ...parts },
  config: run.config,
})

/** What came of a run must be read with these. */
export const warningsOf = ({ summary }: Pick<Run, 'summary'>): string[] => {
  const told = summary?.['warnings']
  return Array.isArray(told) ? told.map(String) : []
}

const folderOf = (dataDir: string, run: string): string => join(dataDir, 'runs', run)

/** Leaves what a run came to in its folder, as data and as a page; returns the page's path. */
export async function writeReport(
  { store, dataDir }: Pick<Services, 'store' | 'dataDir'>,
  runId: string,
  parts: ReportParts,
): Promise<string> {
  const { provenance, ...told } = reportOf(await findRun(store, runId), parts)
  // the run is about to end and its row says "running": how it ended is told where the row is read as well
  const report: Report = { ...told, provenance: { ...provenance, state: null } }
  const folder = folderOf(dataDir, runId)
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'report.json'), JSON.stringify(report))
  await writeFile(join(folder, 'report.html'), renderHtml(report))
  return join(folder, 'report.html')
}

/** A loop and an evaluation write one when they succeed; until they have ended they have none. */
const isDue = ({ kind, endedAt }: Run): boolean =>
  (kind === 'evaluation' || kind === 'rlaif') && endedAt === null

/** Whether there is something for `readReport` to read. */
export const hasReport = (dataDir: string, run: Run): boolean =>
  run.kind !== 'evaluation' && run.kind !== 'rlaif'
    ? run.endedAt !== null
    : !isDue(run) || existsSync(join(folderOf(dataDir, run.id), 'report.json'))

/** What a loop or an evaluation says that ended before its report was written: how it ended, and what was done. */
async function unfinished(store: Store, run: Run): Promise<ReportParts> {
  const parts = (await store.partsOf(run.id)).map(
    ({ part, kind, state }) => `${part ?? kind} (${state})`,
  )
  const why = run.error === null ? '' : `, ${run.error.code}: ${run.error.message}`
  return {
    curves: plotsOf(await curvesOf(store, run)),
    warnings: [
      `This run is not complete 运行未完成: ${run.state}${why}`,
      ...(parts.length === 0 ? [] : [`What it began 已开始的部分: ${parts.join(', ')}`]),
      ...warningsOf(run),
    ],
  }
}

/**
 * What a run left, with its row as it is now; for a run that left nothing its metrics, and where it should have left
 * something how it ended. Throws `not_found`, also while a loop or an evaluation runs.
 */
export async function readReport(
  { store, dataDir }: Pick<Services, 'store' | 'dataDir'>,
  id: string,
): Promise<Report> {
  const run = await findRun(store, id)
  const text = await readFile(join(folderOf(dataDir, id), 'report.json'), 'utf8').catch(() => null)
  const made = await lineOf(store, (node) => node.run?.id === id)
  const lineage = made.length === 0 ? [] : [tellLine(made)]
  if (text !== null) {
    const kept = JSON.parse(text) as Report
    return { lineage, ...kept, ...fresh(run) }
  }
  if (isDue(run)) throw new LibraError('not_found', `run ${run.id} (${run.state}) has no report`)
  if (run.kind === 'evaluation' || run.kind === 'rlaif')
    return reportOf(run, { lineage, ...(await unfinished(store, run)) })
  return reportOf(run, { lineage, curves: plotsOf(await metricsOf(store, id)) })
}
const fresh = (run: Run) => ({ provenance: reportOf(run, {}).provenance })

export const REPORT_FORMATS = {
  html: { type: 'text/html; charset=utf-8', render: renderHtml },
  md: { type: 'text/markdown; charset=utf-8', render: renderMarkdown },
  json: { type: 'application/json', render: (report: Report) => JSON.stringify(report) },
} as const
export type ReportFormat = keyof typeof REPORT_FORMATS
