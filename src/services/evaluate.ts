import { LibraError } from '../errors.ts'
import { refuseTooFew } from '../evaluation/exploit.ts'
import type { PolicyFigure } from '../evaluation/policy-measures.ts'
import { distinct } from '../evaluation/probes.ts'
import type { ProbeAnswer } from '../evaluation/probes.ts'
import type { Report } from '../evaluation/report.ts'
import type { ReportSample } from '../evaluation/report-samples.ts'
import { EVALUATION_TARGETS } from '../schemas/evaluation.ts'
import type { EvaluationOptions } from '../schemas/evaluation.ts'
import type { RunRequest } from '../schemas/run.ts'
import { starterProbeAnswers } from '../starter/probe-answers.ts'
import { auditJudge } from './audit.ts'
import { filesOf, findPolicy } from './catalog.ts'
import { answersFor, certificateFigures, certificateReport, certify } from './certificate.ts'
import { drawnPlaces, openLabelled, openPairs, rowsHash } from './data.ts'
import { DEFAULT_JUDGE, openJudge } from './judges.ts'
import { planPolicyAttack } from './policy-attack.ts'
import { checkLengths } from './prompt-lengths.ts'
import type { RunContext } from './runs.ts'
import { planArena, planPolicy } from './policy-plan.ts'
import { answersOf, probeFigures, probeModel } from './probes.ts'
import { writeReport } from './report.ts'
import { findRewardModel, planRewardModel } from './reward-evaluation.ts'
import { judgeNow, modelNow } from './measured-by.ts'
import type { Services } from './services.ts'
import type { Plan } from './start.ts'

type Request = Extract<RunRequest, { kind: 'evaluation' }>
type Target = EvaluationOptions['target']

/**
 * Evaluations of a reward model, a judge or a policy: figures with intervals, as JSON and as a report. Throws
 * `conflicting_options` where an option is given that the target does not use.
 */
export async function planEvaluation(services: Services, request: Request): Promise<Plan> {
  checkUsed(request.options)
  const { target, seed } = request.options
  const { measure, ...measured } = await PLANS[target](services, request)
  return {
    ...{ seed, ...measured },
    async work(context) {
      const {
        figures,
        plane = [],
        lineage = [],
        curves = [],
        samples = [],
        warnings = [],
        more = {},
      } = await measure(context)
      await writeReport(services, context.id, {
        ...{ figures, plane, lineage, curves, samples, warnings },
      })
      return { target, figures, ...(plane.length === 0 ? {} : { plane }), warnings, ...more }
    },
  }
}

/** The options without which a target can do, and who uses them; those that always have a value are of no harm. */
const USED_BY = {
  model: ['policy', 'reward_model', 'judge', 'probes', 'certificate'],
  against: ['policy', 'reward_model', 'certificate'],
  models: ['policy', 'arena'],
  file: EVALUATION_TARGETS,
  baseline_file: ['reward_model'],
  format: ['policy', 'arena'],
  attack_rounds: ['certificate'],
  judge: ['policy', 'arena', 'judge', 'certificate'],
  self: ['judge'],
  rationale: ['judge'],
  constitution: ['judge'],
  compare_by: ['judge'],
  baselines: ['policy'],
  tax: ['policy'],
  audit_file: ['policy'],
  training_files: ['policy'],
  checkpoints_of: ['policy'],
} satisfies Partial<Record<keyof EvaluationOptions, readonly Target[]>>

/** Nobody is to believe in what was never measured. Throws `conflicting_options`. */
function checkUsed(options: EvaluationOptions): void {
  const { target } = options
  const refuse = (field: string, why: string): LibraError =>
    new LibraError('conflicting_options', `options.${field} is not used ${why}: leave it out`, {
      details: { field: `options.${field}` },
    })
  for (const [field, targets] of Object.entries<readonly Target[]>(USED_BY)) {
    const given = options[field as keyof typeof USED_BY]
    if (given === undefined || (field === 'baselines' && options.baselines.length === 0)) continue
    if (!targets.includes(target))
      throw refuse(field, `where the target is ${target} (it is where it is ${targets.join(', ')})`)
  }
  if (options.format !== undefined && options.file === undefined)
    throw refuse('format', `by target ${target} without options.file`)
}

export type Measure = (context: RunContext) => Promise<{
  figures: PolicyFigure[]
  plane?: Report['plane']
  /** what is measured stands on: base → … */
  lineage?: string[]
  curves?: Report['curves']
  samples?: ReportSample[]
  warnings?: string[]
  /** what else the summary says */
  more?: Record<string, unknown>
}>
/** What is to be measured, by what and on which data: roles and profiles may stand for others tomorrow. */
export type Prepared = { measure: Measure; measuredBy: Record<string, unknown>; dataHash: string }
const PLANS: Record<Target, (services: Services, request: Request) => Promise<Prepared>> = {
  reward_model: planRewardModel,
  judge: planJudge,
  policy: planPolicy,
  arena: planArena,
  probes: planProbes,
  certificate: planCertificate,
}

/** A judge beside people's labels; what comes of it decides whether it may label. Throws `conflicting_options`. */
async function planJudge(services: Services, { options }: Request): Promise<Prepared> {
  const { axis, file, limit, seed, self = null, rationale, constitution, compare_by } = options
  if (options.judge !== undefined && options.model !== undefined)
    throw new LibraError(
      'conflicting_options',
      `options.model: both \`judge\` (${options.judge}) and \`model\` (${options.model}) name the judge that is audited; give one of them`,
      { details: { field: 'options.model' } },
    )
  const id = options.judge ?? options.model ?? DEFAULT_JUDGE
  // asked anew: an audit that heard the cache would never see that a server's model has changed
  const judge = await openJudge(services, id, {
    ...{ rationale, constitution, axes: [axis], compare_by, seed, fresh: true },
  })
  const { pairs, hash } = await openLabelled(services, file, axis)
  const measure: Measure = async ({ id: run, signal }) => {
    const input = { axis, pairs, limit, seed, run, self, signal }
    const { audit, warnings } = await auditJudge(services, judge, input)
    const { figures, objections, id } = audit
    const usage = judge.usage()
    const more = { audit: id, objections, usage, prompt_version: judge.promptVersion }
    return { figures, warnings, more }
  }
  return { measure, measuredBy: { judge: await judgeNow(services, judge) }, dataHash: hash }
}

/**
 * Answers that edits are tried on: drawn from the pairs in a file, else of the starter world's test prompts; and what is
 * left over, of the starter world no more than `spare`.
 */
async function answersToEdit(
  services: Services,
  { file, axis, seed }: EvaluationOptions,
  limit: number,
  spare = 0,
): Promise<{ answers: ProbeAnswer[]; others: ProbeAnswer[] }> {
  if (file === undefined) {
    const all = starterProbeAnswers(seed, limit + spare, axis)
    return { answers: all.slice(0, limit), others: all.slice(limit) }
  }
  const all = distinct(answersOf(await openPairs(services, file, axis)))
  const places = new Set(drawnPlaces(all.length, limit, seed))
  return {
    answers: all.filter((_, i) => places.has(i)),
    others: all.filter((_, i) => !places.has(i)),
  }
}

/** Idle edits of answers, and what a reward model pays for them; what fails blocks the policy updates against it. */
async function planProbes(services: Services, { options }: Request): Promise<Prepared> {
  const { axis, limit, seed } = options
  const row = await findRewardModel(services, options.model ?? axis, axis)
  const { id: name, ...model } = row
  const { answers } = await answersToEdit(services, options, limit)
  const measure: Measure = async ({ id: run, emit, signal }) => {
    const onProgress = (done: number, total: number) =>
      emit({ type: 'progress', stage: 'probes', done, total })
    const probed = { name, files: filesOf(model) }
    const how = { seed, run, signal, onProgress }
    const { id, objections, result } = await probeModel(services, probed, axis, answers, how)
    const figures = probeFigures(result.probes ?? [])
    return { figures, more: { model: name, check: id, ...result, objections } }
  }
  const measuredBy = { model: await modelNow(services, row) }
  return { measure, measuredBy, dataHash: rowsHash(answers) }
}

/** Prompts of the starter world that a policy may be trained on beside those that the search sees. */
const SPARE = 256

/** The cheapest way that a budgeted attack finds to be paid for nothing. Throws as `planPolicyAttack`. */
async function planCertificate(services: Services, { options }: Request): Promise<Prepared> {
  const { axis, limit, seed, budget, samples, attack_rounds: rounds = 0 } = options
  if (rounds > 0 && options.judge === undefined)
    throw new LibraError(
      'conflicting_options',
      'options.attack_rounds: what a policy learns may be better answers, which a judge alone can say; give options.judge too, or leave it out',
      { details: { field: 'options.attack_rounds' } },
    )
  const row = await findRewardModel(services, options.model ?? axis, axis)
  const name = row.id
  const most = Math.min(limit, answersFor(budget))
  const { answers, others } = await answersToEdit(services, options, most, SPARE)
  refuseTooFew(answers) // before there is a run
  const plan = rounds === 0 ? null : planPolicyAttack(answers, others, { rounds, budget, seed })
  const judge = options.judge === undefined ? null : await openJudge(services, options.judge)
  const writer = await findPolicy(services.store, options.against ?? 'policy', 'options.against')
  const policy = {
    ...{ name: writer.id, files: filesOf(writer), samples },
    maxTokens: options.max_new_tokens,
  }
  const written = samples > 1 || plan !== null
  if (plan !== null) {
    const asked = [...plan.prompts, ...plan.held.map(({ prompt }) => prompt)]
    const rows = asked.map((messages) => ({ id: messages.at(-1)?.content.slice(0, 40), messages }))
    await checkLengths(services, [policy], rows, options)
  }
  const measuredBy = {
    model: await modelNow(services, row),
    ...(written ? { policy: await modelNow(services, writer) } : {}),
    ...(judge === null ? {} : { judge: await judgeNow(services, judge) }),
  }
  const measure: Measure = async (context) => {
    const model = { name, files: filesOf(row) }
    const { check, certificate, curve, learned } = await certify(
      services,
      { model, axis, answers, judge, policy: written ? policy : null, plan, budget, seed },
      context,
    )
    return {
      figures: certificateFigures(certificate),
      ...certificateReport(certificate, curve, learned),
      warnings: [
        ...(judge === null
          ? ['no judge was asked: that the edits make no answer better rests on what they are']
          : []),
        ...(plan !== null && plan.rounds < rounds
          ? [
              `the policy attack had room for ${plan.rounds} of ${rounds} rounds: give a greater budget`,
            ]
          : []),
      ],
      more: { model: name, check: check.id, certificate },
    }
  }
  return { measure, measuredBy, dataHash: rowsHash(answers) }
}
