import { createHash } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ProbeAnswer } from '../evaluation/probes.ts'
import type { Judge } from '../judging/judge.ts'
import { paused } from '../errors.ts'
import { permutation } from '../random.ts'
import { alignByAiFeedback } from '../rlaif/loop.ts'
import type { Approval, LoopResult, LoopWorld } from '../rlaif/world.ts'
import { AXES, DialogueRow, PromptRow } from '../schemas/feedback.ts'
import type { Axis } from '../schemas/feedback.ts'
import { LoopRequest } from '../schemas/run.ts'
import type { RunRequest } from '../schemas/run.ts'
import { sftDialogues } from '../starter/corpus.ts'
import { gradeRollouts } from '../starter/evaluate.ts'
import { starterProbeAnswers } from '../starter/probe-answers.ts'
import { prompts as starterPrompts } from '../starter/world.ts'
import { requireAudits } from './audit.ts'
import { findModel } from './catalog.ts'
import { openData } from './data.ts'
import { keepEngine } from './exact.ts'
import { refuseBelow, STALENESS } from './freshness.ts'
import { guardPrompts, openAuditor } from './guard.ts'
import { openJudge } from './judges.ts'
import { evaluateGiven, evaluateStarter } from './loop-evaluation.ts'
import type { Evaluated, LoopProgress } from './loop-evaluation.ts'
import { evaluationOf, iterationsDone, partsDone, recordedParts } from './loop-parts.ts'
import { nameOf, register, tellLoop } from './loop-report.ts'
import { checkBranch, iterationPlans } from './loop-plan.ts'
import type { IterationPlan } from './loop-plan.ts'
import { agreementInLoop, askPeople } from './people.ts'
import { answersOf, probeModel, refuseFailed } from './probes.ts'
import { findRun } from './run-records.ts'
import type { RunContext } from './runs.ts'
import type { AuditRow } from '../store/store.ts'
import type { Services } from './services.ts'
import type { Plan } from './start.ts'

type Request = Extract<RunRequest, { kind: 'rlaif' }>

/** Answers that the reward models are probed on. */
const PROBED = 120
/** The share of given prompts that is kept for the evaluation, and for the guard's looks. */
const HELD_OUT = 0.2
const GUARDED = 0.1

/** What a loop is about, opened and checked before it begins. */
type Opened = {
  services: Services
  request: Request
  plans: IterationPlan[]
  judges: Map<string, Judge>
  auditor: Judge | null
  audits: Partial<Record<Axis, AuditRow>>
  progress: LoopProgress
  /** the world's truth is known */
  starter: ReturnType<typeof starterPrompts> | null
  /** of given prompts those that nothing trains on */
  held: readonly PromptRow[]
}

/**
 * The whole loop as one run with a child run for each part; the models that come out are put into the catalogue. A run
 * that goes on, or is a branch of another, takes what was done before from the record.
 */
export async function planLoop(
  services: Services,
  request: Request,
  progress: LoopProgress = () => {},
): Promise<Plan> {
  const { store } = services
  const plans = iterationPlans(request)
  await checkBranch(store, request)
  const { options } = request
  const { base } = await findModel(store, request.base)
  const judges = new Map<string, Judge>()
  let audits: Opened['audits'] = {}
  for (const {
    judge: name,
    override,
    options: { people: labelled },
  } of plans) {
    if (judges.has(name)) continue
    const judge = await openJudge(services, name)
    judges.set(name, judge)
    // where people label all, it says no more than how the policies compare
    if (labelled === 1) continue
    audits = { ...(await requireAudits(services, judge, AXES, override)), ...audits }
  }
  const demonstrations =
    request.dialogues_file === undefined
      ? null
      : await openData(services, request.dialogues_file, DialogueRow)
  const dialogues = demonstrations?.rows ?? sftDialogues(options.seed, options.dialogues)
  const asked =
    request.prompts_file === undefined
      ? null
      : await openData(services, request.prompts_file, PromptRow)
  const given = asked === null ? null : shuffled(asked.rows, options.seed)
  const kept = given === null ? 0 : Math.max(1, Math.floor(given.length * HELD_OUT))
  const starter = given === null ? starterPrompts('train', options.seed) : null
  let auditor: Judge | null = null
  for (const judge of judges.values()) auditor = await openAuditor(services, request, judge)
  const watched =
    auditor === null || given === null ? 0 : Math.max(1, Math.floor(given.length * GUARDED))
  const prompts =
    given?.slice(kept + watched) ?? (starter ?? []).map(({ id, messages }) => ({ id, messages }))
  const looked = given?.slice(kept, kept + watched) ?? guardPrompts(options.seed)
  const audit = auditor === null ? {} : { audit: { judge: auditor, prompts: looked } }
  const held = given?.slice(0, kept) ?? []
  const opened: Opened = {
    ...{ services, request, plans, judges, auditor, audits, progress, starter, held },
  }
  const hashes = [demonstrations?.hash, asked?.hash].filter((hash) => hash !== undefined)
  return {
    seed: options.seed,
    parentCheckpoint: base,
    ...(hashes.length === 0
      ? {}
      : { dataHash: createHash('sha256').update(hashes.join()).digest('hex') }),
    async work(context) {
      const engine = keepEngine(services)
      const branch = request.branch ?? null
      const { seed } = options
      const grade = starter === null ? undefined : gradeRollouts(starter)
      const parts = recordedParts(services, context, { seed, lend: engine.lend, grade, branch })
      await sayResumed(opened, context)
      try {
        const evaluations: Evaluated[] = []
        const world: LoopWorld = {
          ...{ serving: services.serving, parts, progress, signal: context.signal, ...audit },
          folder: join(services.dataDir, 'runs', context.id),
          judge: (iteration) => judgeOf(opened, iteration),
          people: askPeople(services, context),
          agreement: agreementInLoop(seed),
          approve: (...given) => approve(opened, context, ...given),
          tell: async (iteration, { reason, ...decision }) => {
            const told = await store.events(context.id, 0)
            if (told.some(({ type, data }) => type === 'guard' && data['round'] === decision.round))
              return
            await context.emit({
              ...{ type: 'guard', iteration, ...decision, reason: `${reason.en} ${reason.zh}` },
            })
          },
          endsStopped: (iteration) => iteration > (branch?.iteration ?? 0),
          finished: await finisher(opened, context, parts, evaluations),
        }
        const plan = plans.map((each) => each.options)
        const result = await alignByAiFeedback(world, { base, dialogues, prompts }, plan)
        await register(services, context, result, '')
        const { options: last } = planOf(opened, evaluations.length)
        const told = { options: last, audits, planned: plans.length }
        return await tellLoop(services, context, result, evaluations, told)
      } finally {
        await engine.close()
      }
    },
  }
}

const shuffled = <T>(rows: readonly T[], seed: number): T[] =>
  Array.from(permutation(rows.length, seed, 53)).flatMap((i) => rows[i] ?? [])

/** Throws where there is no such iteration. */
function planOf({ plans }: Opened, iteration: number): IterationPlan {
  const plan = plans[iteration - 1]
  if (plan === undefined) throw new Error(`no iteration ${iteration}`)
  return plan
}

function judgeOf(opened: Opened, iteration: number): Judge {
  const { judge: name } = planOf(opened, iteration)
  const judge = opened.judges.get(name)
  if (judge === undefined) throw new Error(`judge ${name} is not open`)
  return judge
}

/** Who compares the policies in the end: the audit judge where there is one, which taught nobody. */
function comparingJudge(opened: Opened, iteration: number): { judge: Judge; name: string } {
  const { auditor, request } = opened
  if (auditor !== null && request.audit_judge !== undefined)
    return { judge: auditor, name: request.audit_judge }
  return { judge: judgeOf(opened, iteration), name: planOf(opened, iteration).judge }
}

/** A loop that goes on says so, with how many parts it has behind it: the same number again and again is a crash loop. */
async function sayResumed({ services }: Opened, { id, emit }: RunContext): Promise<void> {
  const done = await partsDone(services.store, id)
  const log = await services.store.events(id, 0)
  if (log.length > 0 || done.length > 0) await emit({ type: 'resumed', step: done.length })
  else await emit({ type: 'started' })
}

/** Probes both reward models and asks whether they know the policy's answers as they are now. */
async function approve(
  opened: Opened,
  { signal, id: run }: RunContext,
  iteration: number,
  models: LoopResult['rewardModels'],
  pairs: Parameters<NonNullable<LoopWorld['approve']>>[2],
): Promise<Approval> {
  const { services, starter, progress } = opened
  const { override, freshness_floor: floor, options } = planOf(opened, iteration)
  const { seed } = options
  const checks: Approval['checks'] = []
  for (const axis of AXES) {
    const answers: ProbeAnswer[] =
      starter === null ? answersOf(pairs[axis]) : starterProbeAnswers(seed, PROBED, axis)
    const name = nameOf(axis, run, opened.plans.length > 1 ? iteration : '')
    const onProgress = (done: number, total: number): void =>
      progress(`probes ${axis}`, done, total)
    const probed = { name, files: models[axis].files }
    const how = { seed, run, signal, onProgress }
    const row = await probeModel(services, probed, axis, answers.slice(0, PROBED), how)
    refuseFailed(row, override)
    checks.push({ id: row.id, axis, ...row.result, objections: row.objections })
  }
  // what calibrated them are the judge's words on the policy's own answers, of minutes ago
  if (!override.includes(STALENESS))
    for (const axis of AXES) refuseBelow(axis, models[axis].accuracy, floor)
  return { checks }
}

/** What is done when an iteration is over: evaluated, put into the catalogue, and waited after where that is wanted. */
async function finisher(
  opened: Opened,
  context: RunContext,
  parts: LoopWorld['parts'],
  evaluations: Evaluated[],
): Promise<NonNullable<LoopWorld['finished']>> {
  const { services, starter, plans, held, progress, request } = opened
  const { store, serving, dataDir } = services
  const before = await iterationsDone(store, context.id, request.branch ?? null)
  return async (iteration, so) => {
    const { options } = planOf(opened, iteration)
    const { file } = await parts.note(evaluationOf(iteration), async () => {
      const evaluated =
        starter === null
          ? await evaluateGiven(
              ...([services, comparingJudge(opened, iteration), so, held] as const),
              ...([options, context.signal] as const),
            )
          : await evaluateStarter(serving, so, options, progress)
      const path = join(
        ...([dataDir, 'runs', context.id, `iteration-${iteration}`, 'evaluated.json'] as const),
      )
      await writeFile(path, JSON.stringify(evaluated))
      return { file: path, figures: evaluated.figures }
    })
    evaluations.push(JSON.parse(await readFile(file, 'utf8')) as Evaluated)
    if (plans.length > 1) await register(services, context, so, iteration)
    const { pause_after: after } = LoopRequest.parse((await findRun(store, context.id)).config)
    const waits = after === 'each' ? iteration < plans.length : after === iteration
    if (waits && iteration > before)
      throw paused(`waits after iteration ${iteration} of ${plans.length}: resume it to go on`)
  }
}
