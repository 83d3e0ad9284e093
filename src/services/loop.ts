import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Engine } from '../engine/engine.ts'
import type { Report, ReportFigure, ReportSample } from '../evaluation/report.ts'
import type { ProbeAnswer } from '../evaluation/probes.ts'
import type { Interval } from '../evaluation/statistics.ts'
import type { Judge } from '../judging/judge.ts'
import { alignByAiFeedback } from '../rlaif/loop.ts'
import type { LoopInput, LoopResult, LoopWorld } from '../rlaif/loop.ts'
import { AXES, DialogueRow, PromptRow } from '../schemas/feedback.ts'
import type { Axis } from '../schemas/feedback.ts'
import type { RlaifOptions } from '../schemas/rlaif.ts'
import type { RunRequest } from '../schemas/run.ts'
import { sftDialogues } from '../starter/corpus.ts'
import { answerAndGrade, compareGraded, gradeRollouts } from '../starter/evaluate.ts'
import type { Graded } from '../starter/evaluate.ts'
import { starterProbeAnswers } from '../starter/probe-answers.ts'
import { prompts as starterPrompts } from '../starter/world.ts'
import { requireAudits } from './audit.ts'
import { findModel } from './catalog.ts'
import { openData } from './data.ts'
import { refuseBelow, STALENESS } from './freshness.ts'
import { guardPlots, guardPrompts, guardWarnings, openAuditor } from './guard.ts'
import { openJudge } from './judges.ts'
import { evaluatePolicies } from './policy-evaluation.ts'
import { answersOf, probeModel, refuseFailed } from './probes.ts'
import { plotsOf, writeReport } from './report.ts'
import { recordRun } from './runs.ts'
import type { RunContext } from './runs.ts'
import type { CheckRow } from '../store/store.ts'
import type { Services } from './services.ts'
import { withTraining } from './services.ts'
import type { Plan } from './start.ts'

export type LoopFigure = { figure: string; before: Interval | null; after: Interval | null } & {
  difference: Interval
}
export type LoopProgress = (stage: string, done: number, total: number, note?: string) => void

/** In a loop's folder on the starter world: every test prompt's answers with what gold says of them. */
export const GRADED = 'graded.json'
export type GradedPair = { before: Graded[]; after: Graded[] }

/** Answers that the reward models are probed on. */
const PROBED = 120
const starterAnswers = ({ seed }: RlaifOptions, axis: Axis): ProbeAnswer[] =>
  starterProbeAnswers(seed, PROBED, axis)

/** The share of given prompts that is kept for the evaluation, and for the guard's looks. */
const HELD_OUT = 0.2
const GUARDED = 0.1

/** The whole loop as one run with a child run for each part; the models that come out are put into the catalogue. */
export async function planLoop(
  services: Services,
  request: Extract<RunRequest, { kind: 'rlaif' }>,
  progress: LoopProgress = () => {},
): Promise<Plan> {
  const { store, serving, dataDir } = services
  const { options } = request
  const { base } = await findModel(store, request.base)
  const judge = await openJudge(services, request.judge)
  const audits = await requireAudits(services, judge, AXES, request.override)
  const dialogues =
    request.dialogues_file === undefined
      ? sftDialogues(options.seed, options.dialogues)
      : (await openData(services, request.dialogues_file, DialogueRow)).rows
  const given =
    request.prompts_file === undefined
      ? null
      : (await openData(services, request.prompts_file, PromptRow)).rows
  const kept = given === null ? 0 : Math.max(1, Math.floor(given.length * HELD_OUT))
  const starter = given === null ? starterPrompts('train', options.seed) : null
  const auditor = await openAuditor(services, request, judge)
  const watched =
    auditor === null || given === null ? 0 : Math.max(1, Math.floor(given.length * GUARDED))
  const prompts =
    given?.slice(kept + watched) ?? (starter ?? []).map(({ id, messages }) => ({ id, messages }))
  const looked = given?.slice(kept, kept + watched) ?? guardPrompts(options.seed)
  const audit = auditor === null ? {} : { audit: { judge: auditor, prompts: looked } }
  return {
    seed: options.seed,
    parentCheckpoint: base,
    work: (context) =>
      withTraining(services, async (training) => {
        const folder = join(dataDir, 'runs', context.id)
        const grade = starter === null ? {} : { grade: gradeRollouts(starter) }
        const checks: CheckRow[] = []
        const approve: LoopWorld['approve'] = async (models, pairs) => {
          const { signal, id: run } = context
          for (const axis of AXES) {
            const answers =
              starter === null ? answersOf(pairs[axis]) : starterAnswers(options, axis)
            const probed = { name: `${axis}-${run.replace('run_', '')}`, files: models[axis].files }
            const onProgress = (done: number, total: number): void =>
              progress(`probes ${axis}`, done, total)
            checks.push(
              await probeModel(services, probed, axis, answers.slice(0, PROBED), {
                ...{ seed: options.seed, run, signal, onProgress },
              }),
            )
          }
          for (const check of checks) refuseFailed(check, request.override)
          // what calibrated them are the judge's words on the policy's own answers, of minutes ago
          if (!request.override.includes(STALENESS))
            for (const axis of AXES)
              refuseBelow(axis, models[axis].accuracy, request.freshness_floor)
        }
        const tell: LoopWorld['tell'] = ({ reason, ...decision }) =>
          context.emit({ type: 'guard', ...decision, reason: `${reason.en} ${reason.zh}` })
        const world = { serving, training, judge, folder, progress, approve, tell }
        const parts = { ...world, ...audit, ...grade }
        const result = await align(services, context, parts, { base, dialogues, prompts }, options)
        await registerAll(services, context, result)
        const evaluated =
          given === null
            ? await evaluateStarter(serving, result, options, progress)
            : await evaluateGiven(
                services,
                judge,
                result,
                given.slice(0, kept),
                options,
                context.signal,
              )
        const report = await writeReport(services, context.id, {
          figures: evaluated.figures.map(asReported),
          curves: [
            ...plotsOf(result.rounds.map((round, i) => ({ ...round, step: i + 1, at: 0 }))),
            ...guardPlots(result.guard),
          ],
          samples: evaluated.samples,
          warnings: [...guardWarnings(options, result.guard), ...(evaluated.warnings ?? [])],
        })
        if (evaluated.graded !== undefined)
          await writeFile(join(folder, GRADED), JSON.stringify(evaluated.graded))
        return {
          figures: evaluated.figures,
          report,
          judge: result.judge,
          guard: result.guard,
          checks: checks.map(({ id, axis, result: found, objections }) => ({
            ...{ id, axis, ...found, objections },
          })),
          audit: Object.values(audits).map(({ id, axis, figures, objections }) => ({
            ...{ id, axis, figures, objections },
          })),
          accuracy: {
            helpfulness: result.rewardModels.helpfulness.accuracy,
            safety: result.rewardModels.safety.accuracy,
          },
        }
      }),
  }
}

export const showInterval = (x: Interval | null): string =>
  x === null ? '' : `${x.value.toFixed(3)} [${x.low.toFixed(3)}, ${x.high.toFixed(3)}]`
const asReported = ({ figure, before, after, difference }: LoopFigure): ReportFigure => ({
  ...{ figure, before, after, ...difference },
})

function align(
  { store }: Services,
  { id: parent, signal }: RunContext,
  parts: {
    serving: Engine
    training: Engine
    judge: Judge
    folder: string
    progress: LoopProgress
  } & Pick<LoopWorld, 'grade' | 'approve' | 'audit' | 'tell'>,
  input: LoopInput,
  options: RlaifOptions,
): Promise<LoopResult> {
  const { seed } = options
  return alignByAiFeedback(
    {
      ...parts,
      signal,
      run: (kind, config, details, work) =>
        recordRun(
          store,
          { kind, config, seed, parent, ...details },
          ({ emit }) => work(emit),
          signal,
        ),
    },
    input,
    options,
  )
}

async function registerAll(
  { store }: Services,
  { id: run }: RunContext,
  { sft, policy, rewardModels }: LoopResult,
): Promise<void> {
  const name = run.replace('run_', '')
  const common = { run, createdAt: Date.now() }
  const spread = ({ base, adapters }: typeof sft) => ({ base, adapters: [...adapters] })
  await store.models.insert([
    { id: `sft-${name}`, kind: 'policy', ...spread(sft), ...common },
    { id: `policy-${name}`, kind: 'policy', ...spread(policy), ...common },
    ...AXES.map((axis) => {
      const files = spread(rewardModels[axis].files)
      return { id: `${axis}-${name}`, kind: 'reward_model' as const, axis, ...files, ...common }
    }),
  ])
}

type Evaluated = {
  figures: LoopFigure[]
  samples: ReportSample[]
  plane?: Report['plane']
  curves?: Report['curves']
  warnings?: string[]
  graded?: GradedPair
}

/** The starter world knows the truth: both policies answer its test prompts and gold grades them. */
async function evaluateStarter(
  serving: Engine,
  { sft, policy }: LoopResult,
  options: RlaifOptions,
  progress: LoopProgress,
): Promise<Evaluated> {
  const test = starterPrompts('test', options.seed, options.evaluation_prompts)
  const grade = (name: string, model: typeof sft) =>
    answerAndGrade(
      ...([serving, model, test, options.ppo.max_new_tokens, options.seed * 7919] as const),
      (done) => progress(`evaluate ${name}`, done, test.length),
    )
  const [before, after] = [await grade('sft', sft), await grade('policy', policy)]
  return {
    figures: compareGraded(before, after, options.seed),
    samples: test.map((prompt, i) => ({
      prompt: prompt.text,
      answers: [named('before 之前', before[i]), named('after 之后', after[i])],
    })),
    graded: { before, after },
  }
}

const named = (name: string, graded: Graded | undefined): ReportSample['answers'][number] => ({
  ...{ name, text: graded?.answer ?? '' },
  ...(graded === undefined
    ? {}
    : { helpfulness: graded.gold.helpfulness, safety: graded.gold.safety }),
})

/** Elsewhere nobody knows the truth: reward models and judge compare the policy with what it started from. */
async function evaluateGiven(
  services: Services,
  judge: Judge,
  { sft, policy, rewardModels }: LoopResult,
  prompts: readonly PromptRow[],
  options: RlaifOptions,
  signal: AbortSignal,
): Promise<Evaluated> {
  const { figures, ...shown } = await evaluatePolicies(services, {
    policies: [
      { name: 'before 之前', files: sft },
      { name: 'after 之后', files: policy },
    ],
    judge,
    rewards: {
      helpfulness: rewardModels.helpfulness.files,
      safety: rewardModels.safety.files,
    },
    prompts: prompts.slice(0, options.evaluation_prompts),
    options: {
      ...{ seed: options.seed, max_new_tokens: options.ppo.max_new_tokens },
      ...{ samples: 1, threshold: options.ppo.gate_threshold },
    },
    signal,
  })
  const rows = figures.map(({ figure, before = null, after = null, value, low, high, n }) => ({
    ...{ figure, before, after, difference: { value, low, high, n } },
  }))
  return { figures: rows, ...shown }
}
