import { LibraError } from '../errors.ts'
import type { Judge } from '../judging/judge.ts'
import { requireSources, sharesOf } from '../rlaif/mix.ts'
import { AXES } from '../schemas/feedback.ts'
import { checkPolicyOptions } from '../schemas/policy-options.ts'
import { RlaifOptions } from '../schemas/rlaif.ts'
import { checkRewardOptions } from '../schemas/training-options.ts'
import { LoopRequest } from '../schemas/run.ts'
import type { RunRequest, LoopChange } from '../schemas/run.ts'
import type { Run, Store } from '../store/store.ts'
import { openAuditor } from './guard.ts'
import { openJudge } from './judges.ts'
import { iterationsDone, partsDone } from './loop-parts.ts'
import { merge } from './merge.ts'
import { findRun } from './run-records.ts'
import type { Services } from './services.ts'

type Request = Extract<RunRequest, { kind: 'rlaif' }>

/** What holds in one iteration of a loop. */
export type IterationPlan = Pick<Request, 'judge' | 'override' | 'freshness_floor' | 'options'>

/** Options that are settled before the first iteration; so is `ppo.lora`, as updates go on with the first one's adapter. */
const SETTLED = ['seed', 'dialogues', 'sft', 'evaluation_prompts'] as const

const refuse = (field: string, why: string): LibraError =>
  new LibraError('conflicting_options', `${field}: ${why}`, { details: { field } })

/** Options with changes on top. Throws `invalid_request` naming the field that is wrong. */
function changedOptions(
  before: RlaifOptions,
  { options = {} }: LoopChange,
  at: string,
): RlaifOptions {
  for (const field of SETTLED)
    if (field in options)
      throw refuse(`${at}.options.${field}`, 'is settled before the first iteration')
  const after = RlaifOptions.safeParse(merge(before, options))
  if (after.success) {
    if (JSON.stringify(after.data.ppo.lora) !== JSON.stringify(before.ppo.lora))
      throw refuse(`${at}.options.ppo.lora`, 'is settled before the first iteration')
    return after.data
  }
  const [issue] = after.error.issues
  const field = [at, 'options', ...(issue?.path ?? [])].join('.')
  throw new LibraError('invalid_request', `${field}: ${issue?.message ?? 'invalid'}`, {
    details: { field },
  })
}

/**
 * What holds in each iteration, changes taken in, and what a method could not use in those that a branch has not behind
 * it. Throws `invalid_request`, `conflicting_options`.
 */
export function iterationPlans(request: Request): IterationPlan[] {
  const planned = mergedPlans(request)
  for (const { plan, at, iteration } of planned.slice(request.branch?.iteration ?? 0)) {
    checkPolicyOptions(plan.options.ppo, { at: `${at}.ppo.`, iteration })
    checkRewardOptions({ ...plan.options.reward_model, axis: 'safety' }, `${at}.reward_model.`)
  }
  return planned.map(({ plan }) => plan)
}

/** A plan, and where its options stand: `iteration` is that of the change that they come of. */
type Planned = { plan: IterationPlan; at: string; iteration?: number }

function mergedPlans(request: Request): Planned[] {
  const { judge, override, freshness_floor, options, changes } = request
  let plan: IterationPlan = { judge, override, freshness_floor, options }
  let place: Omit<Planned, 'plan'> = { at: 'options' }
  const plans: Planned[] = []
  // a change may ask for more iterations than there were
  let total = options.iterations
  for (let iteration = 1; iteration <= total; iteration++) {
    for (const [i, change] of changes.entries())
      if (change.iteration === iteration) {
        plan = {
          judge: change.judge ?? plan.judge,
          override: change.override ?? plan.override,
          freshness_floor: change.freshness_floor ?? plan.freshness_floor,
          options: changedOptions(plan.options, change, `changes.${i}`),
        }
        if (change.options !== undefined) place = { at: `changes.${i}.options`, iteration }
      }
    total = plan.options.iterations
    if (total >= iteration) plans.push({ plan, ...place })
  }
  for (const [i, { iteration }] of changes.entries())
    if (iteration > total)
      throw refuse(
        `changes.${i}.iteration`,
        `the loop has ${total} iterations; options.iterations of a change gives it more`,
      )
  return plans
}

/**
 * The judges that label, by name, and the one that the guard goes by. Throws `judge_not_found`, `judge_misconfigured`,
 * `conflicting_options`, and `empty_data` where a mix names what none of them labels.
 */
export async function openJudges(
  services: Services,
  request: Request,
  plans: readonly IterationPlan[],
): Promise<{ judges: Map<string, Judge>; auditor: Judge | null }> {
  const judges = new Map<string, Judge>()
  let auditor: Judge | null = null
  for (const { judge: name } of plans) {
    if (judges.has(name)) continue
    const judge = await openJudge(services, name)
    judges.set(name, judge)
    auditor = await openAuditor(services, request, plans, judge)
  }
  checkMix(request, judges)
  return { judges, auditor }
}

/**
 * Throws `empty_data` where a mix names a source that no pair can have: where no people label, who may name theirs as
 * they like, all pairs are of the judges, those of earlier iterations too where pairs are learned again.
 */
function checkMix(request: Request, judges: ReadonlyMap<string, Judge>): void {
  const labelled = new Set<string>()
  let people = false
  for (const { plan, at } of mergedPlans(request)) {
    const { mix, people: share, replay } = plan.options
    if (replay === 0) labelled.clear()
    labelled.add(judges.get(plan.judge)?.name ?? plan.judge)
    people = share > 0 || (people && replay > 0)
    if (people) continue
    for (const axis of AXES)
      requireSources(Object.keys(sharesOf(mix, axis) ?? {}), labelled, `${at}.mix.${axis}`)
  }
}

/** What a loop was asked for. Throws `not_found`, `wrong_run_kind`. */
async function findLoop(store: Store, id: string): Promise<{ run: Run; request: Request }> {
  const run = await findRun(store, id)
  const request = LoopRequest.safeParse(run.config)
  if (run.kind !== 'rlaif' || !request.success)
    throw new LibraError(
      'wrong_run_kind',
      `run ${id} is of kind ${run.kind}, not a loop that can go on`,
    )
  return { run, request: request.data }
}

/**
 * Throws `conflicting_options` naming the field where a loop would not wait: after an iteration that is over, or the
 * last one, which ends it.
 */
export function checkPause(
  field: 'after' | 'pause_after',
  after: Request['pause_after'] | null,
  total: number,
  done = 0,
): void {
  if (typeof after !== 'number' || (after > done && after < total)) return
  const [first, last] = [done + 1, total - 1]
  const open = first > last ? '' : first === last ? `${first}, ` : `${first} to ${last}, `
  throw refuse(
    field,
    `${after} is not to come, or not before the end: the loop has done ${done} of ${total} iterations; give one of ${open}"each" or ${field === 'after' ? 'null' : 'nothing'}`,
  )
}

/**
 * Lets a loop wait after an iteration; null: after none. Throws `not_found`, `wrong_run_kind`, `already_ended`,
 * `conflicting_options`.
 */
export async function pauseLoop(
  store: Store,
  id: string,
  after: Request['pause_after'] | null,
): Promise<Run> {
  const { run, request } = await findLoop(store, id)
  if (run.state === 'succeeded')
    throw new LibraError('already_ended', `run ${id} has ended: it ${run.state}`)
  const done = await iterationsDone(store, id, request.branch ?? null)
  checkPause('after', after, mergedPlans(request).length, done)
  const { pause_after: _, ...rest } = request
  await store.runs.update(id, { config: after == null ? rest : { ...rest, pause_after: after } })
  return findRun(store, id)
}

/**
 * Changes a loop that does not run from an iteration on that has not begun. What reward models may fail (`override`,
 * `freshness_floor`) may change as long as the iteration's policy has not learned. Throws `still_active`,
 * `already_ended`, `conflicting_options`, `invalid_request`, `judge_not_found`.
 */
export async function changeLoop(services: Services, id: string, change: LoopChange): Promise<Run> {
  const { store } = services
  const { run, request } = await findLoop(store, id)
  if (run.state === 'queued' || run.state === 'running')
    throw new LibraError('still_active', `run ${id} is ${run.state}: pause it first`)
  if (run.state === 'succeeded')
    throw new LibraError(
      'already_ended',
      `run ${id} has ended: branch it from one of its iterations`,
    )
  const { options, judge, override, freshness_floor: floor, iteration } = change
  if (Object.keys(options ?? {}).length === 0 && (judge ?? override ?? floor) === undefined)
    throw new LibraError(
      'invalid_request',
      'options: nothing would change; name options, judge, override or freshness_floor',
      { details: { field: 'options' } },
    )
  const names = new Set(await partsDone(store, id))
  const learned = (of: number): boolean => names.has(`${of}/approve`)
  const begun = (of: number): boolean => [...names].some((name) => name.startsWith(`${of}/`))
  const from = iteration <= (request.branch?.iteration ?? 0)
  if (from || learned(iteration) || (begun(iteration) && (options ?? judge) !== undefined))
    throw refuse(
      'iteration',
      `iteration ${iteration} has begun; change the next one, or branch the loop from the one before`,
    )
  const changed = { ...request, changes: [...request.changes, change] }
  const plans = iterationPlans(changed)
  await openJudges(services, changed, plans)
  checkPause('pause_after', changed.pause_after, plans.length)
  await store.runs.update(id, { config: changed })
  return findRun(store, id)
}

/**
 * The request of a loop that goes on from another's end of an iteration, with what is otherwise from there on. Unless
 * it says how many iterations there are, it has one more at least. Throws `conflicting_options`, `invalid_request`.
 */
export async function branchRequest(
  store: Store,
  id: string,
  change: LoopChange,
): Promise<Request> {
  const { request } = await findLoop(store, id)
  const at = change.iteration - 1
  const changes = request.changes.filter(({ iteration }) => iteration <= at)
  // what is wrong in it the change may put right
  const whole = mergedPlans({ ...request, changes }).length
  const options = { iterations: Math.max(whole, at + 1), ...change.options }
  const { pause_after: _, ...rest } = request
  const branched = {
    ...rest,
    changes: [...changes, { ...change, options }],
    branch: { run: id, iteration: at },
  }
  await checkBranch(store, branched)
  return branched
}

/** Throws `conflicting_options` where a branch was asked for otherwise than what it goes on from. */
export async function checkBranch(store: Store, request: Request): Promise<void> {
  const { branch } = request
  if (branch === undefined) return
  const { request: parent } = await findLoop(store, branch.run)
  const done = await iterationsDone(store, branch.run, parent.branch ?? null)
  if (branch.iteration > done)
    throw refuse('branch.iteration', `run ${branch.run} has come through ${done} iterations`)
  const plans = iterationPlans(request)
  if (plans.length <= branch.iteration)
    throw refuse(
      'options.iterations',
      `the loop has ${plans.length}, so nothing is left to do after iteration ${branch.iteration}`,
    )
  const same = (of: Request): string => {
    const { base, audit_judge, twin_base, dialogues_file, prompts_file } = of
    const { seed, dialogues, sft } = of.options
    const each = mergedPlans(of)
      .slice(0, branch.iteration)
      .map(({ plan }) => plan)
      .map(({ judge, options: { iterations: _, evaluation_prompts: __, ...options } }) => ({
        ...{ judge, options },
      }))
    const start = [base, audit_judge, twin_base, dialogues_file, prompts_file].map((x) => x ?? null)
    return JSON.stringify([...start, seed, dialogues, sft, each])
  }
  if (same(request) !== same(parent))
    throw refuse(
      'branch',
      `up to iteration ${branch.iteration} all must be asked for as in ${branch.run}`,
    )
}
