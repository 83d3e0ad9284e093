import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { readConfig } from '../config.ts'
import { LibraError, paused } from '../errors.ts'
import { spawnEngine } from '../engine/process/spawn.ts'
import type { ProbeResult } from '../schemas/checks.ts'
import { AXES } from '../schemas/feedback.ts'
import { LoopRequest, REWARD_OVERRIDES } from '../schemas/run.ts'
import { planLoop } from '../services/loop.ts'
import { GRADED, showInterval } from '../services/loop-report.ts'
import { runHumanLoop, show } from '../services/human-loop.ts'
import type { HumanLoopResult } from '../services/human-loop.ts'
import { HUMAN_LOOP, HUMAN_OVERRIDE, HumanLoopSizes } from '../services/human-models.ts'
import type { GradedPair, LoopFigure, LoopProgress } from '../services/loop-evaluation.ts'
import { findRun } from '../services/run-records.ts'
import { goOn, recordRun } from '../services/runs.ts'
import type { RunContext } from '../services/runs.ts'
import { planAgain } from '../services/start.ts'
import { createServices } from '../services/services.ts'
import type { Services } from '../services/services.ts'
import { compareGraded } from '../starter/evaluate.ts'
import { openStore } from '../store/store.ts'
import type { Store } from '../store/store.ts'
import type { GuardReport } from '../services/guard.ts'
import { readHumanData } from '../text/data-folder.ts'
import type { HumanData } from '../text/data-folder.ts'
import { createProgress } from './progress.ts'
import { tableOf } from './table.ts'

type LoopSummary = {
  audit: { axis: string; figures: LoopAudit; objections: string[] }[]
  figures: LoopFigure[]
  report: string
  judge: { labelled: number; consistent: number; failed: number }
  accuracy: { helpfulness: number; safety: number }
  checks: { axis: string; probes: ProbeResult[] }[]
  guard: GuardReport | null
}

type LoopAudit = Parameters<typeof printAudit>[0]['figures']
type Work = (services: Services, progress: LoopProgress) => Promise<{ runId: string }>

/** Opens what a job needs, does it, says how long it took, and leaves the data folder free. */
export async function job(work: Work): Promise<void> {
  const started = Date.now()
  const { dataDir, judge, judgeKey } = readConfig()
  const store = await openStore(dataDir)
  const serving = await spawnEngine()
  const progress = createProgress()
  try {
    const startTraining = () => spawnEngine({ training: true })
    const services = await createServices({
      ...{ store, serving, startTraining, dataDir },
      judges: { default: judge, keyOf: judgeKey },
    })
    const { runId } = await work(services, progress.update)
    console.log(`run: ${runId}\ntime: ${Math.round((Date.now() - started) / 1000)} s`)
  } finally {
    progress.stop()
    await serving.close()
    await store.close()
  }
}

/** The newest loop, where it has not succeeded. */
async function lastLoop(store: Store): Promise<string | null> {
  const [last] = (await store.pageRuns({ limit: 1 }, { kinds: ['rlaif'] })).data
  return last === undefined || last.state === 'succeeded' ? null : last.id
}

async function runLoop(
  services: Services,
  progress: LoopProgress,
  options: Record<string, unknown>,
  override: readonly string[] = [],
): Promise<{ runId: string }> {
  const request = LoopRequest.parse({ kind: 'rlaif', options, override })
  const plan = await planLoop(services, request, progress)
  const { device } = await services.serving.status()
  const start = {
    kind: 'rlaif' as const,
    config: plan.request ?? request,
    seed: plan.seed,
    device,
  }
  return interruptible(services, (signal) => recordRun(services.store, start, plan.work, signal))
}

/** Ctrl-C pauses a loop: it goes on where it was. What came of it is printed at its end. */
async function interruptible<T extends { runId: string }>(
  { store }: Services,
  work: (signal: AbortSignal) => Promise<T>,
  tell: (result: T) => void = (result) => print(result as unknown as LoopSummary),
): Promise<T> {
  const controller = new AbortController()
  const stop = (): void => controller.abort(paused())
  process.once('SIGINT', stop)
  try {
    const result = await work(controller.signal)
    tell(result)
    return result
  } catch (error) {
    const left = await lastLoop(store)
    if (left !== null)
      console.error(`it goes on where it was with: npm run rlaif -- --resume ${left}`)
    throw controller.signal.aborted ? paused() : error
  } finally {
    process.off('SIGINT', stop)
  }
}

/** Goes on with a loop that has not succeeded. */
export const rlaifAgain = (id: string): Promise<void> =>
  job(async (services, progress) => {
    const human = HumanRun.safeParse((await findRun(services.store, id)).config)
    if (human.success) return humanAgain(services, id, human.data, progress)
    const { work } = await planAgain(services, id, progress)
    return interruptible(services, (signal) => goOn(services.store, id, work, signal))
  })

/** The main job on the starter world: align its policy by AI feedback and say what came of it. */
export const rlaif = (
  options: Record<string, unknown> = {},
  override: readonly string[] = [],
): Promise<void> => job((services, progress) => runLoop(services, progress, options, override))

/** The main job over several seeds; what came of all of them together, intervals over templates. */
export const studyStarter = (
  seeds: number,
  options: Record<string, unknown>,
  override: readonly string[] = [],
): Promise<void> =>
  job(async (services, progress) => {
    const all: GradedPair = { before: [], after: [] }
    let last = { runId: '' }
    for (let seed = 1; seed <= seeds; seed++) {
      console.log(`seed ${seed} of ${seeds}`)
      last = await runLoop(services, progress, { ...options, seed }, override)
      const file = join(services.dataDir, 'runs', last.runId, GRADED)
      const graded = JSON.parse(await readFile(file, 'utf8')) as GradedPair
      all.before.push(...graded.before)
      all.after.push(...graded.after)
    }
    console.log(`all ${seeds} seeds, intervals by bootstrap over templates`)
    printFigures(compareGraded(all.before, all.after, 1))
    return last
  })

/** A run of the loop on human pairs, as it is recorded and goes on. */
const HumanRun = z.object({
  data: z.string(),
  base: z.string().nullable(),
  sizes: HumanLoopSizes,
  override: z.array(z.enum(REWARD_OVERRIDES)),
  options: z.record(z.string(), z.unknown()),
})
type HumanRun = z.infer<typeof HumanRun>

/** The main job on human preference pairs in a folder; layout: text/data-folder.ts. */
export async function rlaifOnData(
  folder: string,
  base: string | null,
  options: Record<string, unknown> = {},
  given: Record<string, unknown> = {},
  override: readonly string[] = HUMAN_OVERRIDE,
): Promise<void> {
  const sizes = { ...HUMAN_LOOP, ...given }
  const config = HumanRun.parse({ data: folder, base, sizes, override, options })
  const data = await readHumanData(folder)
  await job(async (services, progress) => {
    const { device } = await services.serving.status()
    const start = {
      ...{ kind: 'rlaif' as const, config, seed: Number(options['seed'] ?? 1), device },
      dataHash: hashOf(data),
    }
    const work = humanWork(services, data, config, progress)
    return interruptible<HumanResult>(
      services,
      (signal) => recordRun(services.store, start, work, signal),
      printHuman,
    )
  })
}

/** Goes on with a loop on human pairs. Throws `data_changed`. */
async function humanAgain(
  services: Services,
  id: string,
  config: HumanRun,
  progress: LoopProgress,
): Promise<{ runId: string }> {
  const data = await readHumanData(config.data)
  if ((await findRun(services.store, id)).dataHash !== hashOf(data))
    throw new LibraError(
      'data_changed',
      `run ${id} began with other data than ${config.data} holds now: start a new one`,
    )
  const work = humanWork(services, data, config, progress)
  return interruptible<HumanResult>(
    services,
    (signal) => goOn(services.store, id, work, signal),
    printHuman,
  )
}

const humanWork =
  (services: Services, data: HumanData, run: HumanRun, progress: LoopProgress) =>
  (context: RunContext): ReturnType<typeof runHumanLoop> => {
    const { base, sizes, override, options: overrides } = run
    return runHumanLoop(services, data, { base, overrides, sizes, override }, context, progress)
  }

const hashOf = (data: HumanData): string =>
  createHash('sha256').update(JSON.stringify(data)).digest('hex')

type HumanResult = HumanLoopResult & { runId: string }
function printHuman(result: HumanResult): void {
  for (const { axis, probes = [] } of result.checks) printProbes({ axis, probes })
  const table = tableOf(['figure', 'value', 'n'])
  const { judge, freshness, policy, crossValidation } = result
  for (const f of [...judge, ...freshness, ...policy, ...crossValidation])
    table.push([f.figure, show(f), f.n])
  console.log(`${table.toString()}\nreport: ${result.report}`)
}

/** The audit of a judge on one axis, and whether it may label. */
export function printAudit(audit: {
  axis: string
  figures: readonly { figure: string; value: number; low: number; high: number; n: number }[]
  objections: readonly string[]
}): void {
  const table = tableOf([`audit of the judge, ${audit.axis}`, 'value', 'n'])
  for (const f of audit.figures) table.push([f.figure, show(f), f.n])
  console.log(table.toString())
  const { objections } = audit
  console.log(objections.length === 0 ? 'it may label' : `refused: ${objections.join('; ')}`)
}

function printFigures(figures: readonly LoopFigure[]): void {
  const head = ['held-out prompts', 'before (SFT)', 'after (PPO)', 'difference']
  const table = tableOf(head)
  for (const { figure, before, after, difference } of figures)
    table.push([figure, showInterval(before), showInterval(after), showInterval(difference)])
  console.log(table.toString())
}

/** What the reward models pay for edits that make no answer better. */
function printProbes({ axis, probes }: LoopSummary['checks'][number]): void {
  const table = tableOf([`probes, ${axis}`, 'shift in deviations', 'rises', 'bound', ''])
  for (const { probe, shift, low, high, rises, bound, passed } of probes) {
    const said = show({ value: shift, low, high, n: 0 })
    table.push([probe, said, rises.toFixed(2), bound, passed ? 'passed' : 'failed'])
  }
  console.log(table.toString())
}

/** What the guard saw at each look, and what it decided. */
function printGuard(guard: GuardReport | null): void {
  if (guard === null) return
  const twins = guard.decisions.some(({ opinions }) => opinions !== undefined)
  const head = [
    ...['guard, round', 'helpful wins', 'safe wins'],
    ...(twins ? ['helpful by model / twin', 'safe by model / twin'] : []),
    ...['evidence of worse', 'KL', ''],
  ]
  const table = tableOf(head)
  const share = (x: number | null): string => (x === null ? '' : x.toFixed(2))
  const { decisions } = guard
  for (const { round, winRate, worse, limit, signals, opinions, action } of decisions)
    table.push([
      ...[round, share(winRate.helpfulness), share(winRate.safety)],
      ...(opinions === undefined
        ? []
        : AXES.map((axis) => `${share(opinions.own[axis])} / ${share(opinions.twins[axis])}`)),
      ...[`${worse.toPrecision(3)} of ${limit.toPrecision(3)}`, signals.kl?.toFixed(2) ?? ''],
      action.replace('_', ' '),
    ])
  for (const { votes, kept } of guard.ballots)
    for (const { round, winRate, worse, better } of votes)
      table.push([
        ...[`ballot, ${round}`, share(winRate.helpfulness), share(winRate.safety)],
        ...(twins ? ['', ''] : []),
        ...[`${worse.toPrecision(3)}, of better ${better.toPrecision(3)}`, ''],
        round === kept ? 'kept' : '',
      ])
  const kept = guard.kept === 0 ? 'the SFT policy' : `the policy of round ${guard.kept}`
  const last = guard.decisions.at(-1)
  console.log(`${table.toString()}\n${guard.stopped ? (last?.reason.en ?? '') : `kept: ${kept}`}`)
}

function print({ figures, report, judge, accuracy, audit, checks, guard }: LoopSummary): void {
  for (const each of audit) printAudit(each)
  for (const each of checks) printProbes(each)
  printGuard(guard)
  printFigures(figures)
  const { labelled, consistent, failed } = judge
  console.log(
    `judge: ${labelled} pairs labelled, ${consistent} alike in both orders, ${failed} failed`,
  )
  const { helpfulness, safety } = accuracy
  const shown = `helpfulness ${helpfulness.toFixed(3)}, safety ${safety.toFixed(3)}`
  console.log(`reward models on held-out judge labels: ${shown}\nreport: ${report}`)
}
