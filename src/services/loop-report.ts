import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { distanceOf, fitGao } from '../evaluation/overoptimisation.ts'
import type { Report, ReportFigure } from '../evaluation/report.ts'
import type { Interval } from '../evaluation/statistics.ts'
import type { LoopResult } from '../rlaif/world.ts'
import { AXES } from '../schemas/feedback.ts'
import type { Axis } from '../schemas/feedback.ts'
import type { RlaifOptions } from '../schemas/rlaif.ts'
import type { AuditRow } from '../store/store.ts'
import { FEWEST_VERDICTS, fewVerdicts } from './freshness.ts'
import { guardPlots, guardWarnings, voteRows } from './guard.ts'
import type { Evaluated, LoopFigure } from './loop-evaluation.ts'
import { plotsOf, writeReport } from './report.ts'
import type { RunContext } from './runs.ts'
import type { Services } from './services.ts'

/** In a loop's folder on the starter world: every test prompt's answers with what gold says of them. */
export const GRADED = 'graded.json'

type Asked = {
  /** of the last iteration */
  options: RlaifOptions
  /** of the judges that labelled */
  audits: Partial<Record<Axis, AuditRow>>
  planned: number
}

/** The report of a loop, and its summary. */
export async function tellLoop(
  services: Services,
  context: RunContext,
  result: LoopResult,
  evaluations: readonly Evaluated[],
  { options, audits, planned }: Asked,
): Promise<Record<string, unknown>> {
  const last: Evaluated = evaluations.at(-1) ?? { figures: [], samples: [] }
  const gao = gaoOf(result, evaluations.length)
  const ofModels = AXES.flatMap((axis) => {
    const { warnings: own = [], decided } = result.rewardModels[axis]
    return decided === undefined || decided.n >= FEWEST_VERDICTS
      ? own
      : [...own, fewVerdicts(axis, decided.n)]
  })
  const warnings = [...guardWarnings(options, result.guard), ...ofModels, ...(last.warnings ?? [])]
  const report = await writeReport(services, context.id, {
    figures: [...last.figures.map(asReported), ...result.agreement, ...gao.figures],
    votes: voteRows(result.guard),
    curves: [
      ...plotsOf(result.rounds.map((round, i) => ({ ...round, step: i + 1, at: 0 }))),
      ...guardPlots(result.guard),
      ...gao.curves,
      ...iterationPlots(evaluations),
      ...(last.curves ?? []),
    ],
    ...(last.plane === undefined ? {} : { plane: last.plane }),
    samples: last.samples,
    ...(last.asked === undefined ? {} : { samples_in_all: last.asked }),
    warnings,
  })
  if (last.graded !== undefined) {
    const path = join(services.dataDir, 'runs', context.id, GRADED)
    await writeFile(path, JSON.stringify(last.graded))
  }
  const { helpfulness, safety } = result.rewardModels
  return {
    figures: last.figures,
    report,
    warnings,
    judge: result.judge,
    ...(result.agreement.length === 0 ? {} : { agreement: result.agreement }),
    guard: result.guard,
    iterations: { done: evaluations.length, planned },
    checks: result.approval.checks,
    audit: Object.values(audits).map(({ id, axis, figures, objections }) => ({
      ...{ id, axis, figures, objections },
    })),
    accuracy: { helpfulness: helpfulness.accuracy, safety: safety.accuracy },
    data: { helpfulness: helpfulness.data, safety: safety.data },
  }
}

const GOLD = 'gold/safe_and_helpful'

/**
 * Gold against √KL with Gao's curve and its interval, where the truth is known and one pair of reward models taught:
 * refreshed ones void the fit. Nothing where there are too few rounds or the policy stayed too near.
 */
function gaoOf({ rounds }: LoopResult, iterations: number): Pick<Report, 'curves' | 'figures'> {
  const points = rounds.map((round) => ({
    kl: round['objective/kl'] ?? NaN,
    gold: round[GOLD] ?? NaN,
  }))
  const fit = iterations > 1 ? null : fitGao(points)
  if (fit === null) return { curves: [], figures: [] }
  const sorted = points
    .map(({ kl, gold }) => ({ d: distanceOf(kl), gold }))
    .toSorted((a, b) => a.d - b.d)
  const steps = sorted.map(({ d }) => d)
  const line = (name: string, of: (row: { d: number; gold: number }) => number) => ({
    ...{ name, steps },
    values: sorted.map(of),
  })
  return {
    curves: [
      {
        title: 'Gold against √KL, Gao’s curve 真值与 √KL：Gao 曲线',
        curves: [
          line('rounds 各轮', ({ gold }) => gold),
          line('fit 拟合', ({ d }) => fit.at(d).value),
          line('low', ({ d }) => fit.at(d).low),
          line('high', ({ d }) => fit.at(d).high),
        ],
      },
    ],
    figures: [
      { figure: 'Gao’s curve: α', ...fit.alpha },
      { figure: 'Gao’s curve: β', ...fit.beta },
      ...(fit.peak === null ? [] : [{ figure: 'Gao’s curve: √KL of the most gold', ...fit.peak }]),
    ],
  }
}

/** Figures of the policy after each iteration, where there is more than one. */
function iterationPlots(evaluations: readonly Evaluated[]): Report['curves'] {
  if (evaluations.length < 2) return []
  const steps = evaluations.map((_, i) => i + 1)
  return (evaluations[0]?.figures ?? []).slice(0, 6).map(({ figure, before }) => ({
    title: `By iteration 各轮迭代: ${figure}`,
    curves: [
      {
        ...{ name: 'after 之后', steps },
        values: evaluations.map(
          ({ figures }) => figures.find((each) => each.figure === figure)?.after?.value ?? null,
        ),
      },
      { name: 'before 之前', steps, values: steps.map(() => before?.value ?? null) },
    ],
  }))
}

export const showInterval = (x: Interval | null): string =>
  x === null ? '' : `${x.value.toFixed(3)} [${x.low.toFixed(3)}, ${x.high.toFixed(3)}]`
const asReported = ({ difference, ...row }: LoopFigure): ReportFigure => ({ ...row, ...difference })

/** The name of a model that a loop makes. */
export const nameOf = (what: string, run: string, iteration: number | ''): string =>
  `${what}-${run.replace('run_', '')}${iteration === '' ? '' : `-${iteration}`}`

/**
 * Puts what an iteration made into the catalogue, or what the loop made in the end; what is there stays. A policy that
 * comes of two steps, as the SFT policy that the guard kept, has two names: it is told by the older one.
 */
export async function register(
  { store }: Services,
  { id: run }: RunContext,
  { sft, policy, rewardModels }: LoopResult,
  iteration: number | '',
): Promise<void> {
  const spread = ({ base, adapters }: typeof sft) => ({ base, adapters: [...adapters] })
  const rows = [
    { id: nameOf('sft', run, ''), kind: 'policy' as const, ...spread(sft), run },
    { id: nameOf('policy', run, iteration), kind: 'policy' as const, ...spread(policy), run },
    ...AXES.map((axis) => {
      const files = spread(rewardModels[axis].files)
      const id = nameOf(axis, run, iteration)
      return { id, kind: 'reward_model' as const, axis, ...files, run }
    }),
  ]
  const now = Date.now()
  for (const [i, row] of rows.entries())
    if ((await store.models.get(row.id)) === null)
      await store.models.insert([{ ...row, createdAt: now + i }])
}
