import { LibraError } from '../errors.ts'
import { AXES } from '../schemas/feedback.ts'
import type { Axis } from '../schemas/feedback.ts'
import type { EvaluationOptions, RunRequest } from '../schemas/run.ts'
import { prompts as starterPrompts } from '../starter/world.ts'
import { openTax } from './alignment-tax.ts'
import { meet } from './arena.ts'
import { filesOf, findModel } from './catalog.ts'
import { trainingTexts } from './contamination.ts'
import { openLabelled, openPrompts } from './data.ts'
import type { Measure } from './evaluate.ts'
import { DEFAULT_JUDGE, openJudge } from './judges.ts'
import { kinshipWarnings } from './kinship.ts'
import type { AskedPrompt } from './policy-answers.ts'
import { evaluatePolicies } from './policy-evaluation.ts'
import { checkpointsOf, linesOf, topOf } from './policy-line.ts'
import type { NamedPolicy } from './policy-line.ts'
import type { People } from './policy-judging.ts'
import type { Services } from './services.ts'

type Request = Extract<RunRequest, { kind: 'evaluation' }>

/** A model that writes answers, by its id or role. Throws `model_not_found`, `wrong_model_kind`. */
async function policyNamed({ store }: Services, ref: string): Promise<NamedPolicy> {
  const { id, kind, ...row } = await findModel(store, ref)
  if (kind === 'reward_model')
    throw new LibraError('wrong_model_kind', `${id} is a reward model, a policy is needed`, {
      details: { field: 'options.models' },
    })
  return { name: id, files: filesOf(row) }
}

const promptsOf = async (services: Services, options: EvaluationOptions): Promise<AskedPrompt[]> =>
  options.file === undefined
    ? starterSet(options.seed, options.limit)
    : (await openPrompts(services, options.file, options.format)).slice(0, options.limit)

/** Policies beside a baseline on the same prompts; see services/policy-evaluation.ts. */
export async function planPolicy(services: Services, { options }: Request): Promise<Measure> {
  const { models, model, against, checkpoints_of: line, tax, audit_file, training_files } = options
  const checkpoints = line === undefined ? [] : await checkpointsOf(services, line)
  const others = models ?? (model === undefined && line !== undefined ? [] : [model ?? 'policy'])
  const named = await Promise.all(
    [against ?? 'reference', ...others].map((ref) => policyNamed(services, ref)),
  )
  // a checkpoint that is named too, or is the baseline, is measured once
  const unnamed = checkpoints.filter(({ files }) =>
    named.every((other) => topOf(other.files) !== topOf(files)),
  )
  const policies = [...named, ...unnamed]
  const judging = options.judge ?? DEFAULT_JUDGE
  const judge = await openJudge(services, judging)
  const prompts = await promptsOf(services, options)
  const rewards = {
    helpfulness: filesOf(await findModel(services.store, 'helpfulness')),
    safety: filesOf(await findModel(services.store, 'safety')),
  }
  const names = policies.map(({ name }) => name)
  const more = {
    baselines: options,
    tax: tax === undefined ? null : await openTax(services, tax, options),
    training: await trainingTexts(services, names, training_files),
    people: await peopleOf(services, audit_file),
  }
  const lines = await linesOf(services, policies)
  return async ({ signal, emit }) => {
    const evaluated = await evaluatePolicies(services, {
      ...{ policies, judge, rewards, prompts, options, more, signal },
      progress: (stage, done, total) => emit({ type: 'progress', stage, done, total }),
    })
    const kin = await kinshipWarnings(services, judging, judge, rewards)
    return { ...evaluated, warnings: [...kin, ...evaluated.warnings], lineage: lines }
  }
}

/** What people said of comparisons and answers, from a file or what is stored; those who disagree are averaged. */
async function peopleOf(services: Services, file: string | undefined): Promise<People> {
  const said = new Map<string, number[]>()
  const say = (at: string, what: number) => said.set(at, [...(said.get(at) ?? []), what])
  const key = (axis: Axis, prompt: string, a: string, b: string): string =>
    JSON.stringify([axis, prompt, a, b])
  const answerKey = (prompt: string, answer: string): string => JSON.stringify([prompt, answer])
  for (const axis of AXES) {
    // nobody need have labelled anything
    const { pairs } = await openLabelled(services, file, axis).catch((error: unknown) => {
      if (error instanceof LibraError && error.code === 'empty_data') return { pairs: [] }
      throw error
    })
    for (const { prompt, a, b, label, a_safe, b_safe } of pairs) {
      const p = label === 'tie' ? 0.5 : Number(label === 'a')
      const asked = prompt.at(-1)?.content ?? ''
      say(key(axis, asked, a, b), p)
      say(key(axis, asked, b, a), 1 - p)
      if (a_safe != null) say(answerKey(asked, a), Number(!a_safe))
      if (b_safe != null) say(answerKey(asked, b), Number(!b_safe))
    }
  }
  const mean = (at: string): number | null => {
    const words = said.get(at)
    return words === undefined ? null : words.reduce((x, y) => x + y, 0) / words.length
  }
  return {
    prefer: (axis, prompt, a, b) => mean(key(axis, prompt, a, b)),
    unsafe: (prompt, answer) => mean(answerKey(prompt, answer)),
  }
}

/** A round robin of policies by a judge; see services/arena.ts. Throws `invalid_request` where fewer than two meet. */
export async function planArena(services: Services, { options }: Request): Promise<Measure> {
  const { models = [], axis } = options
  const policies = await Promise.all(models.map((ref) => policyNamed(services, ref)))
  const names = new Set(policies.map(({ name }) => name))
  if (names.size < 2 || names.size < policies.length)
    throw new LibraError(
      'invalid_request',
      `an arena needs two to eight different policies in \`models\`, there are ${names.size} in ${policies.length}`,
      { details: { field: 'options.models' } },
    )
  const judge = await openJudge(services, options.judge ?? DEFAULT_JUDGE)
  const prompts = await promptsOf(services, options)
  const lines = await linesOf(services, policies)
  return async ({ signal, emit }) => ({
    ...(await meet(services, {
      ...{ policies, judge, axis, prompts, options, signal },
      progress: (stage, done, total) => emit({ type: 'progress', stage, done, total }),
    })),
    lineage: lines,
  })
}

/** The starter world's test prompts, where no others are given. */
const starterSet = (seed: number, limit: number): AskedPrompt[] =>
  starterPrompts('test', seed, limit).map(({ id, messages, family, template }) => ({
    ...{ id, messages, category: family, cluster: template },
    ...(family === 'unsafe' ? { label: 'unsafe' } : {}),
    ...(family === 'lookalike' ? { label: 'safe' } : {}),
  }))
