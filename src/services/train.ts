import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { withCheckpoint } from '../engine/engine.ts'
import type { ModelFiles } from '../engine/engine.ts'
import { LibraError } from '../errors.ts'
import { isTie } from '../evaluation/pair-labels.ts'
import { dataFigures, mixable, mixPairs, ownPairs } from '../rlaif/mix.ts'
import { awayFrom, calibrateReward, splitForCalibration } from '../rlaif/reward.ts'
import { AXES, DialogueRow, PromptRow, TextRow } from '../schemas/feedback.ts'
import type { Axis } from '../schemas/feedback.ts'
import type { RunRequest } from '../schemas/run.ts'
import { checkPolicyOptions } from '../schemas/policy-options.ts'
import { checkRewardOptions } from '../schemas/training-options.ts'
import type { ModelRow } from '../store/store.ts'
import { readCard } from '../weights/folder.ts'
import { readJson } from '../weights/json.ts'
import { requireAudits } from './audit.ts'
import { filesOf, findModel, findPolicy, frozenReferences } from './catalog.ts'
import { calibrationReport } from './calibration-report.ts'
import { openAllPairs, openData, openPairsByAxis } from './data.ts'
import { hasBegun, trainExactly } from './exact.ts'
import { lastFreshness, requireFresh, STALENESS } from './freshness.ts'
import { openJudge } from './judges.ts'
import { requireProbes } from './probes.ts'
import { otherStarts } from './initialisation.ts'
import { writeReport } from './report.ts'
import type { RunContext } from './runs.ts'
import type { Services } from './services.ts'
import type { Plan } from './start.ts'

type Of<K extends RunRequest['kind']> = Extract<RunRequest, { kind: K }>
const spread = ({ base, adapters }: ModelFiles) => ({ base, adapters: [...adapters] })

/** The folder of a run: what it writes lies there. */
async function runFolder({ dataDir }: Services, { id }: RunContext): Promise<string> {
  const folder = join(dataDir, 'runs', id)
  await mkdir(folder, { recursive: true })
  return folder
}

async function register(
  { store }: Services,
  { id: run }: RunContext,
  suffix: string,
  model: Pick<ModelRow, 'kind' | 'axis'> & ModelFiles,
): Promise<string> {
  const id = `${suffix}-${run.replace('run_', '')}`
  const { kind, axis, base, adapters } = model
  const row = { id, kind, axis, base, adapters: [...adapters], run, createdAt: Date.now() }
  // a run that goes on may have come this far already
  if ((await store.models.get(id)) === null) await store.models.insert([row])
  return id
}

export async function planPretrain(services: Services, request: Of<'pretrain'>): Promise<Plan> {
  const { base } = await findModel(services.store, request.tokenizer)
  const data = await openData(services, request.training_file, z.union([DialogueRow, TextRow]))
  const { options } = request
  return {
    seed: options.seed,
    dataHash: data.hash,
    async work(context) {
      const output = join(await runFolder(services, context), 'model')
      const spec = { kind: 'pretrain', output, tokenizer: base, data: data.path, options } as const
      const metrics = await trainExactly(services, context, spec, options.checkpoint_every)
      const files = { base: output, adapters: [] }
      const name = request.suffix ?? 'base'
      return {
        model: await register(services, context, name, { kind: 'base', axis: null, ...files }),
        ...metrics,
      }
    },
  }
}

export async function planSft(services: Services, request: Of<'sft'>): Promise<Plan> {
  const model = await findPolicy(services.store, request.model, 'model')
  const start = spread(filesOf(model))
  const data = await openData(services, request.training_file, DialogueRow)
  const { options } = request
  return {
    request: { ...request, model: model.id },
    seed: options.seed,
    dataHash: data.hash,
    parentCheckpoint: start.adapters.at(-1) ?? start.base,
    async work(context) {
      const output = join(await runFolder(services, context), 'model')
      const spec = { kind: 'sft', output, model: start, data: data.path, options } as const
      const metrics = await trainExactly(services, context, spec, options.checkpoint_every)
      const files = withCheckpoint(start, output, options.lora)
      const name = request.suffix ?? 'sft'
      return {
        model: await register(services, context, name, { kind: 'policy', axis: null, ...files }),
        ...metrics,
      }
    },
  }
}

/**
 * The model whose reference answers a helpfulness model is held against, by its id from here on (the role may be given to
 * another before the run goes on), and these. Throws `conflicting_options` for safety, `model_not_found`.
 */
async function referencesOf({ store }: Services, request: Of<'reward_model'>) {
  const { references: named, options } = request
  if (options.axis === 'safety') {
    if (named === undefined) return { references: null }
    throw new LibraError(
      'conflicting_options',
      'references: helpfulness alone is held against reference answers',
      { details: { field: 'references' } },
    )
  }
  const yardstick =
    named === undefined
      ? (await store.roles()).helpfulness
      : (await findModel(store, named, 'references')).id
  return { yardstick, references: await frozenReferences(store, yardstick) }
}

export async function planRewardModel(
  services: Services,
  request: Of<'reward_model'>,
): Promise<Plan> {
  const model = await findModel(services.store, request.model)
  const start = spread(filesOf(model))
  const { options } = request
  const { axis, seed } = options
  checkRewardOptions(options)
  const { yardstick, references } = await referencesOf(services, request)
  const all = await openPairsByAxis(services, request.training_file, axis)
  const pairs = ownPairs(all[axis], axis, request.mix)
  if (pairs.length < 5)
    throw new LibraError(
      'too_little_data',
      `${pairs.length} pairs are too few: one in five calibrates the model, so give at least five`,
    )
  // what calibrates it is of its own axis, whatever else is mixed in for it to learn from
  const { training: own, held, shared } = splitForCalibration(pairs, seed)
  const cut = new Set(pairs)
  const others =
    request.mix === undefined
      ? []
      : mixable(Object.values(all).flat(), axis).filter((row) => !cut.has(row))
  const apart = awayFrom(others, shared ? [] : held.map(({ prompt }) => prompt))
  // where conversations are too few to be cut nothing can be kept apart
  const known = shared ? [...own, ...apart] : awayFrom([...own, ...apart], references ?? [])
  if (!known.some((row) => row.axis === axis))
    throw new LibraError(
      'too_little_data',
      'every pair is of a conversation that the reference answers are of: give pairs of others',
    )
  const { rows: training, left_out } = mixPairs(known, axis, request.mix, seed)
  const sft = filesOf(await findModel(services.store, 'reference'))
  const warnings = otherStarts({ [axis]: start }, sft)
  if (shared)
    warnings.push(
      'the pairs are of fewer than five conversations, so the pairs that calibrate the model share theirs with those that it learned from: its accuracy and calibration flatter it',
    )
  const text = training.map((row) => JSON.stringify(row)).join('\n')
  const dataHash = createHash('sha256').update(text).digest('hex')
  const unused = own.length + apart.length - known.length
  if (unused > 0)
    warnings.push(
      `${unused} pairs train nothing: they are of conversations of the reference answers that helpfulness is held against`,
    )
  return {
    request: {
      ...{ ...request, model: model.id },
      ...(yardstick === undefined ? {} : { references: yardstick }),
    },
    seed,
    dataHash,
    parentCheckpoint: start.adapters.at(-1) ?? start.base,
    async work(context) {
      const folder = await runFolder(services, context)
      const data = join(folder, 'pairs.jsonl')
      await writeFile(data, text)
      const [raw, output] = [join(folder, 'raw'), join(folder, 'model')]
      const spec = { kind: 'reward_model', output: raw, model: start, data, options } as const
      const metrics = await trainExactly(services, context, spec, options.checkpoint_every)
      await rm(output, { recursive: true, force: true }) // of a run that ended while it calibrated
      const { serving } = services
      const trained = withCheckpoint(start, raw, options.lora)
      const fitted = await calibrateReward(serving, trained, output, {
        ...{ axis, held, dataHash, seed, references },
      })
      const told = [...warnings, ...fitted.warnings]
      const report = await calibrationReport(services, context.id, fitted)
      await writeReport(services, context.id, {
        ...{ ...report, warnings: [...told, ...(report.warnings ?? [])] },
      })
      const files = withCheckpoint(start, output, options.lora)
      return {
        model: await register(services, context, request.suffix ?? axis, {
          kind: 'reward_model',
          axis,
          ...files,
        }),
        ...metrics,
        data: dataFigures(training, left_out),
        held_out_accuracy: fitted.accuracy,
        held_out_pairs: fitted.compared,
        held_out_ties: held.length - fitted.compared,
        calibration: fitted.calibration,
        warnings: told,
      }
    },
  }
}

export async function planDpo(services: Services, request: Of<'dpo'>): Promise<Plan> {
  const model = await findPolicy(services.store, request.model, 'model')
  const start = spread(filesOf(model))
  const { options } = request
  const all = await openAllPairs(services, request.training_file, options.axis ?? null)
  // as a hard label a tie would say that one answer is better
  const pairs = options.soft_labels ? all : all.filter((pair) => !isTie(pair))
  if (pairs.length === 0)
    throw new LibraError(
      'empty_data',
      `all ${all.length} pairs are ties, of which options.soft_labels: false can learn nothing`,
      { details: { field: 'options.soft_labels' } },
    )
  const text = pairs.map((row) => JSON.stringify(row)).join('\n')
  return {
    request: { ...request, model: model.id },
    seed: options.seed,
    dataHash: createHash('sha256').update(text).digest('hex'),
    parentCheckpoint: start.adapters.at(-1) ?? start.base,
    async work(context) {
      const folder = await runFolder(services, context)
      const data = join(folder, 'pairs.jsonl')
      await writeFile(data, text)
      const output = join(folder, 'model')
      const spec = { kind: 'dpo', output, model: start, data, options } as const
      const metrics = await trainExactly(services, context, spec, options.checkpoint_every)
      const files = withCheckpoint(start, output, options.lora)
      const name = request.suffix ?? 'dpo'
      return {
        model: await register(services, context, name, { kind: 'policy', axis: null, ...files }),
        ...metrics,
        ...{ pairs: pairs.length, ties_left_out: all.length - pairs.length },
      }
    },
  }
}

/** What a policy's KL is measured against: the stack below its adapter, or what its state names. */
async function referenceOf(
  policy: ReturnType<typeof spread>,
  checkpoint: string,
): Promise<ReturnType<typeof spread>> {
  if (policy.adapters.length > 0) return { ...policy, adapters: policy.adapters.slice(0, -1) }
  const state = await readJson(join(checkpoint, 'trainer_state.json'))
  return z.object({ base: z.string(), adapters: z.array(z.string()) }).parse(state['reference'])
}

export async function planPolicyUpdate(
  services: Services,
  request: Of<'policy_update'>,
): Promise<Plan> {
  checkPolicyOptions(request.options)
  const start = await findPolicy(services.store, request.policy, 'policy')
  const policy = spread(filesOf(start))
  const data = await openData(services, request.training_file, PromptRow)
  const scorer = async (axis: Axis) => {
    const model = await findModel(services.store, request[axis])
    if (!(await services.serving.describe(filesOf(model))).hasScoreHead)
      throw new LibraError('no_score_head', `${axis}: ${model.id} is not a reward model`, {
        details: { field: axis },
      })
    const card = await readCard(model.adapters.at(-1) ?? model.base)
    const files = spread(filesOf(model))
    return { name: model.id, files, calibration: card?.calibration ?? null }
  }
  const rewards = { helpfulness: await scorer('helpfulness'), safety: await scorer('safety') }
  const { override, freshness_floor: floor } = request
  const checks = Object.values(await requireProbes(services, rewards, override))
  const judge = override.includes(STALENESS) ? null : await openJudge(services, request.judge)
  if (judge !== null) await requireAudits(services, judge, AXES, override)
  // a policy that came out of a round goes on from its state; any other model is the reference itself
  const last = policy.adapters.at(-1) ?? policy.base
  const parent = existsSync(join(last, 'trainer_state.json')) ? last : null
  const reference = parent === null ? policy : await referenceOf(policy, parent)
  const { options } = request
  const warnings = otherStarts(
    { helpfulness: rewards.helpfulness.files, safety: rewards.safety.files },
    reference,
  )
  const names = { helpfulness: rewards.helpfulness.name, safety: rewards.safety.name }
  return {
    request: { ...request, policy: start.id, ...names },
    seed: options.seed,
    dataHash: data.hash,
    parentCheckpoint: last,
    async work(context) {
      if (judge !== null && (await hasBegun(services, context)))
        checks.push(...(await lastFreshness(services, rewards)))
      else if (judge !== null) {
        const { rows: prompts, hash: dataHash } = data
        const asked = { policy, rewards, judge, prompts, dataHash, floor, options }
        checks.push(...(await requireFresh(services, asked, context)))
      }
      const output = join(await runFolder(services, context), 'model')
      const spec = {
        ...{ kind: 'policy_update' as const, output, reference, parent, data: data.path },
        ...{ ...rewards, options },
      }
      const metrics = await trainExactly(services, context, spec, options.checkpoint_every)
      const files = withCheckpoint(reference, output, options.lora)
      const name = request.suffix ?? 'policy'
      return {
        model: await register(services, context, name, { kind: 'policy', axis: null, ...files }),
        ...metrics,
        warnings,
        checks: checks.map(({ id, check, axis, objections }) => ({ id, check, axis, objections })),
      }
    },
  }
}
