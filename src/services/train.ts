import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { withCheckpoint } from '../engine/engine.ts'
import { LibraError } from '../errors.ts'
import { isTie } from '../evaluation/pair-labels.ts'
import { AXES, DialogueRow, PromptRow, TextRow } from '../schemas/feedback.ts'
import type { Axis } from '../schemas/feedback.ts'
import { checkPolicyOptions } from '../schemas/policy-options.ts'
import { readCard } from '../weights/folder.ts'
import { readJson } from '../weights/json.ts'
import { requireAudits } from './audit.ts'
import { filesOf, findModel, findPolicy } from './catalog.ts'
import { openAllPairs, openData } from './data.ts'
import { hasBegun, trainExactly } from './exact.ts'
import { lastFreshness, requireFresh, STALENESS } from './freshness.ts'
import { openJudge } from './judges.ts'
import { requireProbes } from './probes.ts'
import { otherStarts } from './initialisation.ts'
import type { Services } from './services.ts'
import type { Plan } from './start.ts'
import { register, runFolder, spread } from './trained.ts'
import type { Of } from './trained.ts'

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
