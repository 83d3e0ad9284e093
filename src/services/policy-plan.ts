import { LibraError } from '../errors.ts'
import type { Message } from '../schemas/chat.ts'
import { AXES } from '../schemas/feedback.ts'
import type { Axis } from '../schemas/feedback.ts'
import type { RunRequest } from '../schemas/run.ts'
import { openTax } from './alignment-tax.ts'
import { meet } from './arena.ts'
import { askedPrompts } from './asked-prompts.ts'
import { filesOf, findModel, findPolicy } from './catalog.ts'
import { trainingTexts } from './contamination.ts'
import { openLabelled } from './data.ts'
import type { Measure, Prepared } from './evaluate.ts'
import { DEFAULT_JUDGE, openJudge } from './judges.ts'
import { kinshipWarnings, policyKinship } from './kinship.ts'
import { judgeNow, modelNow } from './measured-by.ts'
import { longestRefusal } from './policy-baselines.ts'
import { evaluatePolicies } from './policy-evaluation.ts'
import { checkpointsOf, linesOf, topOf } from './policy-line.ts'
import type { NamedPolicy } from './policy-line.ts'
import type { People } from './policy-judging.ts'
import { checkLengths, checkTax } from './prompt-lengths.ts'
import type { Services } from './services.ts'
import { withSystem } from './turns.ts'

type Request = Extract<RunRequest, { kind: 'evaluation' }>

/** A model that writes answers, by its id or role. Throws `model_not_found`, `wrong_model_kind`. */
async function policyNamed({ store }: Services, ref: string, field: string): Promise<NamedPolicy> {
  const { id, ...row } = await findPolicy(store, ref, field)
  return { name: id, files: filesOf(row) }
}

/** Policies as they are now, in the order in which they are measured; read one by one, for each may be large. */
async function policiesNow(services: Services, policies: readonly NamedPolicy[]) {
  const now = []
  for (const { name, files } of policies) now.push(await modelNow(services, { id: name, ...files }))
  return now
}

/** Policies beside a baseline on the same prompts; see services/policy-evaluation.ts. */
export async function planPolicy(services: Services, { options }: Request): Promise<Prepared> {
  const { models, model, against, checkpoints_of: line, tax, audit_file, training_files } = options
  if (model !== undefined && models !== undefined)
    throw new LibraError(
      'conflicting_options',
      'options.model and options.models both name what is measured: give one of them',
      { details: { field: 'options.models' } },
    )
  const checkpoints = line === undefined ? [] : await checkpointsOf(services, line)
  const others = models ?? (model === undefined && line !== undefined ? [] : [model ?? 'policy'])
  const field = models === undefined ? 'options.model' : 'options.models'
  const named = await Promise.all([
    policyNamed(services, against ?? 'reference', 'options.against'),
    ...others.map((ref) => policyNamed(services, ref, field)),
  ])
  // a policy that comes again, by another name, as a checkpoint or as the baseline, is measured once
  const policies = [...named, ...checkpoints].filter(
    ({ files }, i, all) => all.findIndex((other) => topOf(other.files) === topOf(files)) === i,
  )
  if (policies.length < 2)
    throw new LibraError(
      'invalid_request',
      `nothing is to be measured beside the baseline ${named[0]?.name ?? ''}, which \`against\` names: name another policy`,
      { details: { field } },
    )
  const again = others.filter((_, i) => policies.every((policy) => policy !== named[i + 1]))
  const twice =
    again.length === 0
      ? []
      : [`${again.join(', ')}: a policy that is named twice, or is the baseline, is measured once`]
  const judging = options.judge ?? DEFAULT_JUDGE
  const judge = await openJudge(services, judging)
  const { prompts, hash: dataHash, warnings } = await askedPrompts(services, options)
  await checkLengths(services, policies, prompts, options)
  const reference = policies.slice(0, 1)
  if (options.baselines.includes('system_prompt'))
    await checkLengths(services, reference, withSystem(prompts, options.system_prompt), options)
  if (options.baselines.includes('refuse_on_keyword'))
    await checkLengths(services, reference, prompts, options, longestRefusal)
  const taxed = tax === undefined ? null : await openTax(services, tax, options)
  if (taxed !== null) await checkTax(services, policies, taxed, options)
  const helpfulness = await findModel(services.store, 'helpfulness')
  const safety = await findModel(services.store, 'safety')
  const rewards = { helpfulness: filesOf(helpfulness), safety: filesOf(safety) }
  const { people, hash: peopleHash } = await peopleOf(services, audit_file)
  const names = policies.map(({ name }) => name)
  const more = {
    baselines: options,
    tax: taxed,
    training: await trainingTexts(services, names, training_files),
    people,
  }
  const lines = await linesOf(services, policies)
  const measure: Measure = async ({ signal, emit }) => {
    const evaluated = await evaluatePolicies(services, {
      ...{ policies, judge, rewards, prompts, options, more, signal },
      progress: (stage, done, total) => emit({ type: 'progress', stage, done, total }),
    })
    const kin = await kinshipWarnings(services, judging, judge, rewards)
    return {
      ...evaluated,
      warnings: [...twice, ...warnings, ...kin, ...evaluated.warnings],
      lineage: lines,
    }
  }
  const [baseline, ...beside] = await policiesNow(services, policies)
  const measuredBy = {
    ...{ baseline, policies: beside },
    helpfulness: await modelNow(services, helpfulness),
    safety: await modelNow(services, safety),
    judge: await judgeNow(services, judge),
    people: peopleHash,
  }
  return { measure, measuredBy, dataHash }
}

/** What people said of comparisons and answers, from a file or what is stored; those who disagree are averaged. */
async function peopleOf(
  services: Services,
  file: string | undefined,
): Promise<{ people: People; hash: string | null }> {
  const hashes = new Set<string>()
  const said = new Map<string, number[]>()
  const say = (at: string, what: number) => said.set(at, [...(said.get(at) ?? []), what])
  const dialogue = (prompt: readonly Message[]) =>
    prompt.map(({ role, content }) => [role, content])
  const key = (axis: Axis, prompt: readonly Message[], a: string, b: string): string =>
    JSON.stringify([axis, dialogue(prompt), a, b])
  const answerKey = (prompt: readonly Message[], answer: string): string =>
    JSON.stringify([dialogue(prompt), answer])
  for (const axis of AXES) {
    // nobody need have labelled anything
    const { pairs, hash } = await openLabelled(services, file, axis).catch((error: unknown) => {
      if (error instanceof LibraError && error.code === 'empty_data')
        return { pairs: [], hash: null }
      throw error
    })
    if (hash !== null) hashes.add(hash)
    for (const { prompt, a, b, label, a_safe, b_safe } of pairs) {
      const p = label === 'tie' ? 0.5 : Number(label === 'a')
      say(key(axis, prompt, a, b), p)
      say(key(axis, prompt, b, a), 1 - p)
      if (a_safe != null) say(answerKey(prompt, a), Number(!a_safe))
      if (b_safe != null) say(answerKey(prompt, b), Number(!b_safe))
    }
  }
  const mean = (at: string): number | null => {
    const words = said.get(at)
    return words === undefined ? null : words.reduce((x, y) => x + y, 0) / words.length
  }
  const people: People = {
    prefer: (axis, prompt, a, b) => mean(key(axis, prompt, a, b)),
    unsafe: (prompt, answer) => mean(answerKey(prompt, answer)),
  }
  return { people, hash: hashes.size === 0 ? null : [...hashes].join() }
}

/** A round robin of policies by a judge; see services/arena.ts. Throws `invalid_request` where fewer than two meet. */
export async function planArena(services: Services, { options }: Request): Promise<Prepared> {
  const { models = [], axis } = options
  const policies = await Promise.all(
    models.map((ref) => policyNamed(services, ref, 'options.models')),
  )
  const names = new Set(policies.map(({ name }) => name))
  if (names.size < 2 || names.size < policies.length)
    throw new LibraError(
      'invalid_request',
      `an arena needs two to eight different policies in \`models\`, there are ${names.size} in ${policies.length}`,
      { details: { field: 'options.models' } },
    )
  const judge = await openJudge(services, options.judge ?? DEFAULT_JUDGE)
  const { prompts, hash: dataHash, warnings } = await askedPrompts(services, options)
  await checkLengths(services, policies, prompts, options)
  const lines = await linesOf(services, policies)
  const measure: Measure = async ({ signal, emit }) => {
    const met = await meet(services, {
      ...{ policies, judge, axis, prompts, options, signal },
      progress: (stage, done, total) => emit({ type: 'progress', stage, done, total }),
    })
    const kin = await policyKinship(services, judge.name, policies)
    return { ...met, warnings: [...warnings, ...kin, ...met.warnings], lineage: lines }
  }
  const measuredBy = {
    policies: await policiesNow(services, policies),
    judge: await judgeNow(services, judge),
  }
  return { measure, measuredBy, dataHash }
}
