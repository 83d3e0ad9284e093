import { createHash } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ProbeAnswer } from '../evaluation/probes.ts'
import type { Judge } from '../judging/judge.ts'
import { paused } from '../errors.ts'
import { alignByAiFeedback } from '../rlaif/loop.ts'
import type { Approval, LoopInput, LoopResult, LoopWorld } from '../rlaif/world.ts'
import { AXES, DialogueRow } from '../schemas/feedback.ts'
import type { Axis, PromptRow } from '../schemas/feedback.ts'
import { LoopRequest } from '../schemas/run.ts'
import type { RunRequest } from '../schemas/run.ts'
import { sftDialogues } from '../starter/corpus.ts'
import { gradeRollouts } from '../starter/evaluate.ts'
import { starterProbeAnswers } from '../starter/probe-answers.ts'
import { prompts as starterPrompts } from '../starter/world.ts'
import { requireAudits } from './audit.ts'
import { findBase, frozenReferences } from './catalog.ts'
import { openData, openPromptSets } from './data.ts'
import type { DrawnSets } from './data.ts'
import { gainsSideBySide, keepEngines } from './engines.ts'
import type { Lend } from './engines.ts'
import { FEWEST_VERDICTS, refuseStale, STALENESS } from './freshness.ts'
import { guardPrompts, openTwins } from './guard.ts'
import { evaluateGiven, evaluateStarter, evaluationPrompts } from './loop-evaluation.ts'
import type { Evaluated, LoopProgress } from './loop-evaluation.ts'
import { evaluationOf, iterationsDone, partsDone, recordedParts } from './loop-parts.ts'
import { nameOf, register, tellLoop } from './loop-report.ts'
import { checkBranch, checkPause, iterationPlans, openJudges } from './loop-plan.ts'
import type { IterationPlan } from './loop-plan.ts'
import { splitPrompts } from './loop-prompts.ts'
import { agreementInLoop, askPeople } from './people.ts'
import { answersOf, probeInLoop } from './probes.ts'
import { findRun } from './run-records.ts'
import type { RunContext } from './runs.ts'
import type { AuditRow } from '../store/store.ts'
import type { Services } from './services.ts'
import type { Plan } from './start.ts'

type Request = Extract<RunRequest, { kind: 'rlaif' }>

/** Answers that the reward models are probed on. */
const PROBED = 120

/** What a loop is about, opened and checked before it begins. */
type Opened = {
  services: Services
  request: Request
  plans: IterationPlan[]
  judges: Map<string, Judge>
  auditor: Judge | null
  audits: Partial<Record<Axis, AuditRow>>
  progress: LoopProgress
  /** folder */
  base: string
  /** of the reward models' twins; null: none */
  twinBase: string | null
  dialogues: LoopInput['dialogues']
  /** those that are trained on */
  prompts: readonly PromptRow[]
  /** those of the guard's looks */
  looked: readonly PromptRow[]
  /** of given prompts those of the evaluation */
  held: readonly PromptRow[]
  /** the prompts of the starter world, whose truth is known; null: others were given */
  starter: ReturnType<typeof starterPrompts> | null
  /** how many prompts of each given file there are */
  sets: DrawnSets
  /** of what was given; null: nothing */
  dataHash: string | null
}

/** Opens what a loop is about. Throws what is wrong with the request, before anything is done. */
async function openLoop(
  services: Services,
  request: Request,
  progress: LoopProgress,
): Promise<Opened> {
  const plans = iterationPlans(request)
  checkPause('pause_after', request.pause_after, plans.length)
  await checkBranch(services.store, request)
  const { seed, dialogues: demonstrations } = request.options
  const base = await findBase(services.store, request.base, 'base')
  const { judges, auditor } = await openJudges(services, request, plans)
  let audits: Opened['audits'] = {}
  const labelling = new Set<string>()
  for (const { judge: name, override, options } of plans) {
    const judge = judges.get(name)
    // where people label all, it says no more than how the policies compare
    if (judge === undefined || labelling.has(name) || options.people === 1) continue
    labelling.add(name)
    audits = { ...(await requireAudits(services, judge, AXES, override)), ...audits }
  }
  const watched = auditor !== null
  const twinBase = await openTwins(services, request, base, watched)
  const file = { dialogues: request.dialogues_file, prompts: request.prompts_file }
  const own = {
    dialogues: file.dialogues && (await openData(services, file.dialogues, DialogueRow)),
    prompts: file.prompts && (await openPromptSets(services, file.prompts, seed)),
  }
  const hashes = Object.values(own).flatMap((data) => (data ? [data.hash] : []))
  const common = {
    ...{ services, request, plans, judges, auditor, audits, progress, base, twinBase },
    dialogues: own.dialogues ? own.dialogues.rows : sftDialogues(seed, demonstrations),
    dataHash: hashes.length === 0 ? null : createHash('sha256').update(hashes.join()).digest('hex'),
  }
  if (!own.prompts) {
    const starter = starterPrompts('train', seed)
    const prompts = starter.map(({ id, messages }) => ({ id, messages }))
    return { ...common, starter, prompts, looked: guardPrompts(seed), held: [], sets: [] }
  }
  const { rows, sets } = own.prompts
  return { ...common, starter: null, sets, ...splitPrompts(rows, seed, watched) }
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
  const opened = await openLoop(services, request, progress)
  const { base, twinBase, dialogues, prompts, dataHash, plans } = opened
  const evaluated = evaluationPrompts(
    request.options,
    opened.starter === null ? 'given' : 'starter',
  )
  return {
    ...{ seed: request.options.seed, parentCheckpoint: base },
    request: { ...request, options: { ...request.options, evaluation_prompts: evaluated } },
    ...(dataHash === null ? {} : { dataHash }),
    async work(context) {
      await sayResumed(opened, context)
      const engines = keepEngines(services)
      try {
        const evaluations: Evaluated[] = []
        const world = await worldOf(opened, context, engines.lend, evaluations)
        const options = plans.map((each) => each.options)
        // so that a score of this loop means what one of the model in the role does; of another world it says nothing
        const references = opened.starter === null ? null : await frozenReferences(services.store)
        const result = await alignByAiFeedback(
          world,
          { base, twinBase, dialogues, prompts, references },
          options,
        )
        await register(services, context, result, '')
        return await tellLoop(services, context, result, evaluations, {
          ...{ options: planOf(opened, evaluations.length).options, planned: plans.length },
          audits: opened.audits,
        })
      } finally {
        await engines.close()
      }
    },
  }
}

/** What the loop needs of the world around it, recorded under a run. */
async function worldOf(
  opened: Opened,
  context: RunContext,
  lend: Lend,
  evaluations: Evaluated[],
): Promise<LoopWorld> {
  const { services, request, starter, auditor, looked, progress } = opened
  const { serving, store, dataDir } = services
  const { seed } = request.options
  const bases = [opened.base, ...(opened.twinBase === null ? [] : [opened.twinBase])]
  const branch = request.branch ?? null
  const grade = starter === null ? undefined : gradeRollouts(starter)
  const parts = await recordedParts(services, context, { seed, lend, grade, branch })
  return {
    ...{ serving, parts, progress, signal: context.signal },
    sideBySide: await gainsSideBySide(services, bases),
    ...(auditor === null ? {} : { audit: { judge: auditor, prompts: looked } }),
    folder: join(dataDir, 'runs', context.id),
    judge: (iteration) => judgeOf(opened, iteration),
    people: askPeople(services, context),
    agreement: agreementInLoop(seed),
    approve: (iteration, models, pairs) => approve(opened, context, iteration, models, pairs),
    async tell(iteration, { reason, ...decision }) {
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
}

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

/**
 * A loop that goes on says so, with how many parts it has behind it and how many steps of those that it is in: the
 * same number again and again, of all or of one, is a crash loop.
 */
async function sayResumed(
  { services: { store }, sets }: Opened,
  { id, emit }: RunContext,
): Promise<void> {
  if ((await store.events(id, 0)).length === 0) {
    if (sets.length > 0) await emit({ type: 'prompts', sets })
    return emit({ type: 'started' })
  }
  const done = (await partsDone(store, id)).length
  const at: Record<string, number> = {}
  for (const open of await store.partsOf(id))
    if (open.state !== 'succeeded')
      at[open.part ?? open.id] = (await store.metricEvents(open.id)).length
  const steps = Object.values(at).reduce((sum, n) => sum + n, 0)
  await emit({ type: 'resumed', step: done + steps, at })
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
    const probed = { name, files: models[axis].files }
    checks.push(
      await probeInLoop(services, probed, axis, answers.slice(0, PROBED), {
        ...{ seed, run, signal, override, progress },
      }),
    )
  }
  // what calibrated them are the judge's words on the policy's own answers, of minutes ago
  if (!override.includes(STALENESS))
    for (const axis of AXES) {
      const { decided } = models[axis]
      // a part that was done before this was measured has none; of few the report says that they are
      if (decided !== undefined && decided.n >= FEWEST_VERDICTS) refuseStale(axis, decided, floor)
    }
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
    // answers of another length would be other answers
    const alike = planOf(opened, 1).options.ppo.max_new_tokens === options.ppo.max_new_tokens
    const known = alike ? evaluations[0]?.graded?.before : undefined
    const { file } = await parts.note(evaluationOf(iteration), async () => {
      const evaluated =
        starter === null
          ? await evaluateGiven(
              ...([services, comparingJudge(opened, iteration), so, held] as const),
              ...([options, context.signal] as const),
            )
          : await evaluateStarter(serving, so, options, { progress, known, signal: context.signal })
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
