import type { Usage } from '../judging/respondent.ts'
import { noFigures } from '../rlaif/label.ts'
import type { LabelFigures } from '../rlaif/label.ts'
import type { RunEvent } from '../store/store.ts'

/** Prompts that are answered, judged and stored together; a run goes on behind its last whole part. */
export const PART = 100

/** How far a labelling run was when it ended. */
export type LabelProgress = {
  /** whether its log says anything */
  begun: boolean
  /** labelled and stored, in order */
  prompts: number
  figures: LabelFigures
  /** what all that was asked has cost, of a panel's judges in order, also in a part that was not finished */
  used: Usage[]
  /** the place in its log behind which comes what is done again */
  seq: number
}

const FAILED = 'failed/'

/** Figures from the metrics of an event (`figureMetrics`). */
export function readFigures(metrics: Record<string, number>): LabelFigures {
  const of = (name: string): number => metrics[name] ?? 0
  const failures = Object.entries(metrics)
    .filter(([name]) => name.startsWith(FAILED))
    .map(([name, n]) => [name.slice(FAILED.length), n] as const)
  return {
    ...noFigures(),
    ...{ labelled: of('labelled'), failed: of('failed'), unassessed: of('unassessed') },
    ...{ same: of('same'), consistent: of('consistent') },
    failures: Object.fromEntries(failures),
  }
}

/**
 * How far a run was by its log. The metrics of a stop are of the parts before it, with what the unfinished one has cost;
 * a run of before parts were counted begins anew, and finds in the cache what it has paid for.
 */
export function labelProgress(log: readonly RunEvent[]): LabelProgress {
  const started = log.find(({ type }) => type === 'started')
  const so: LabelProgress = {
    ...{ begun: log.length > 0, prompts: 0, figures: noFigures(), used: [] },
    seq: started?.seq ?? 0,
  }
  for (const { type, seq, data } of log) {
    const { metrics = {}, used, step } = data as Told
    const { prompts } = metrics
    if ((type === 'metrics' || type === 'resumed') && used !== undefined) so.used = used
    if (type !== 'metrics' || prompts === undefined) continue
    so.prompts = prompts
    so.figures = readFigures(metrics)
    if (step === Math.ceil(prompts / PART)) so.seq = seq
  }
  return so
}
type Told = { metrics?: Record<string, number>; used?: Usage[]; step?: number }
