import { createHash } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { withCheckpoint } from '../engine/engine.ts'
import type { Engine, ModelFiles } from '../engine/engine.ts'
import type { Judge } from '../judging/judge.ts'
import type { Message } from '../schemas/chat.ts'
import { AXES } from '../schemas/feedback.ts'
import type { Axis, PreferenceRow, PromptRow } from '../schemas/feedback.ts'
import type { Calibration } from '../schemas/model.ts'
import type { RlaifOptions } from '../schemas/rlaif.ts'
import type { TrainSpec } from '../schemas/training.ts'
import { counterfactualPairs } from './counterfactuals.ts'
import { follow } from './follow.ts'
import type { Emit, Grade } from './follow.ts'
import type { Decision } from './guard.ts'
import { guardedUpdate } from './guarded.ts'
import type { Audit, GuardReport } from './guarded.ts'
import { figureMetrics, labelPrompts } from './label.ts'
import type { LabelFigures } from './label.ts'
import { calibrateReward, splitForCalibration } from './reward.ts'

/** What the loop needs of the world around it: engines, a judge, a folder, and a place to record runs. */
export type LoopWorld = {
  serving: Engine
  training: Engine
  judge: Judge
  folder: string
  signal: AbortSignal
  /** records a child run around its work */
  run<T extends Record<string, unknown>>(
    kind: 'sft' | 'label' | 'reward_model' | 'policy_update',
    config: Record<string, unknown>,
    details: { dataHash?: string; output?: string; parentCheckpoint?: string },
    work: (emit: Emit) => Promise<T>,
  ): Promise<T>
  progress(stage: string, done: number, total: number, note?: string): void
  /** throws where a reward model must not teach a policy; `pairs` are what they learned from */
  approve?(
    rewardModels: LoopResult['rewardModels'],
    pairs: Record<Axis, PreferenceRow[]>,
  ): Promise<void>
  /** without one the guard has nothing to go by, and all rounds are done */
  audit?: Audit
  /** hears what the guard decides */
  tell?(decision: Decision): Promise<void>
  /** the truth about rollouts, where the world's truth is known; `prompt` is the place in the loop's prompts */
  grade?: Grade
}

export type LoopInput = {
  base: string
  dialogues: readonly { messages: Message[]; ended: boolean }[]
  prompts: readonly PromptRow[]
  /** pairs that people labelled: they join the judge's */
  pairs?: Record<Axis, PreferenceRow[]>
  /** the answers that helpfulness was held against before; default: some of the pairs' */
  references?: readonly (readonly Message[])[] | null
}
export type LoopResult = {
  sft: ModelFiles
  policy: ModelFiles
  rewardModels: Record<Axis, { files: ModelFiles; calibration: Calibration; accuracy: number }>
  rounds: Record<string, number>[]
  guard: GuardReport | null
  judge: LabelFigures
}

/** SFT → judge labels on both axes → two reward models, calibrated → PPO rounds. Evaluation is the caller's. */
export async function alignByAiFeedback(
  world: LoopWorld,
  input: LoopInput,
  options: RlaifOptions,
): Promise<LoopResult> {
  await mkdir(world.folder, { recursive: true })
  // 1. a policy to start from
  const sft = await fineTune(world, input, options)
  // 2. its own answers, compared by the judge in both orders on both axes
  const { pairs, figures } = await labelOwnAnswers(world, sft, input, options)
  // 3. two reward models from the same start, each calibrated on pairs that it did not train on
  const reward = (axis: Axis) => trainReward(world, sft, axis, pairs[axis], input, options)
  const rewardModels = { helpfulness: await reward('helpfulness'), safety: await reward('safety') }
  await world.approve?.(rewardModels, pairs)
  // 4. the policy learns from both, under guard
  const updated = await updatePolicy(world, sft, rewardModels, input.prompts, options)
  return { sft, ...updated, rewardModels, judge: figures }
}

function train(
  world: LoopWorld,
  stage: string,
  spec: TrainSpec,
  emit: Emit,
  before = 0,
  all?: number,
): Promise<Record<string, number>[]> {
  return follow(world.training.train(spec, world.signal), emit, {
    onStep: (done, steps, metrics) =>
      world.progress(stage, before + done, all ?? steps, describe(metrics)),
    grade: world.grade,
  })
}

const SHOWN = [
  'loss',
  'accuracy',
  'objective/scores',
  'objective/kl',
  'objective/helpfulness',
  'objective/safety',
  'gate/safety_share',
  'response/length',
  'gold/safe_and_helpful',
]
const describe = (metrics: Record<string, number>): string =>
  SHOWN.flatMap((name) => {
    const value = metrics[name]
    return value === undefined ? [] : [`${name.replace('objective/', '')} ${value.toFixed(2)}`]
  }).join(' · ')

async function writeRows(
  path: string,
  rows: readonly unknown[],
): Promise<{ path: string; dataHash: string }> {
  const text = rows.map((row) => JSON.stringify(row)).join('\n')
  await writeFile(path, text)
  return { path, dataHash: createHash('sha256').update(text).digest('hex') }
}

async function fineTune(
  world: LoopWorld,
  input: LoopInput,
  options: RlaifOptions,
): Promise<ModelFiles> {
  const { path, dataHash } = await writeRows(join(world.folder, 'dialogues.jsonl'), input.dialogues)
  const output = join(world.folder, 'sft')
  const spec: TrainSpec = {
    kind: 'sft',
    output,
    model: { base: input.base, adapters: [] },
    data: path,
    options: { ...options.sft, seed: options.seed },
  }
  const details = { dataHash, output, parentCheckpoint: input.base }
  await world.run('sft', spec.options, details, async (emit) => ({
    ...(await train(world, 'sft', spec, emit)).at(-1),
  }))
  return withCheckpoint({ base: input.base, adapters: [] }, output, options.sft.lora)
}

async function labelOwnAnswers(
  world: LoopWorld,
  sft: ModelFiles,
  input: LoopInput,
  options: RlaifOptions,
): Promise<{ pairs: Record<Axis, PreferenceRow[]>; figures: LabelFigures }> {
  const { judge } = world
  const config = { judge: judge.name, prompt_version: judge.promptVersion, pairs: options.pairs }
  let pairs: Record<Axis, PreferenceRow[]> = { helpfulness: [], safety: [] }
  const figures = await world.run('label', config, {}, async (emit) => {
    const labelled = await labelPrompts(
      world.serving,
      judge,
      sft,
      input.prompts.slice(0, options.pairs),
      AXES,
      { maxNewTokens: options.ppo.max_new_tokens, temperature: 1, seed: options.seed * 1000 },
      world.progress,
      world.signal,
    )
    await emit({ type: 'metrics', step: 1, metrics: figureMetrics(labelled.figures) })
    pairs = labelled.pairs
    return { ...labelled.figures, usage: judge.usage() }
  })
  for (const axis of AXES) pairs[axis].push(...(input.pairs?.[axis] ?? []))
  return { pairs, figures }
}

async function trainReward(
  world: LoopWorld,
  sft: ModelFiles,
  axis: Axis,
  pairs: readonly PreferenceRow[],
  input: LoopInput,
  options: RlaifOptions,
) {
  const { training: judged, held } = splitForCalibration(pairs, options.seed)
  // on safety nothing idle pays anyway: docs/decisions.md
  const share = axis === 'helpfulness' ? options.counterfactuals : 0
  const training = [...judged, ...counterfactualPairs(judged, share, options.seed)]
  const { path, dataHash } = await writeRows(join(world.folder, `pairs-${axis}.jsonl`), training)
  const raw = join(world.folder, `${axis}-raw`)
  const output = join(world.folder, axis)
  const spec: TrainSpec = {
    kind: 'reward_model',
    output: raw,
    model: { base: sft.base, adapters: [...sft.adapters] },
    data: path,
    options: { ...options.reward_model, axis, seed: options.seed },
  }
  const details = { dataHash, output, parentCheckpoint: sft.adapters.at(-1) ?? sft.base }
  return world.run('reward_model', spec.options, details, async (emit) => {
    await train(world, `reward ${axis}`, spec, emit)
    const { lora } = options.reward_model
    const trained = withCheckpoint(sft, raw, lora)
    const { seed } = options
    const fitted = await calibrateReward(world.serving, trained, output, {
      ...{ axis, held, dataHash, seed, references: input.references ?? null },
    })
    const metrics = { held_out_accuracy: fitted.accuracy }
    await emit({ type: 'metrics', step: 0, metrics })
    return { files: withCheckpoint(sft, output, lora), ...fitted }
  })
}

type Updated = Pick<LoopResult, 'policy' | 'rounds' | 'guard'>

/** All rounds at once, or in parts between which the guard looks where there is an audit judge. */
async function updatePolicy(
  world: LoopWorld,
  sft: ModelFiles,
  rewardModels: LoopResult['rewardModels'],
  prompts: readonly PromptRow[],
  options: RlaifOptions,
): Promise<Updated> {
  const { path, dataHash } = await writeRows(join(world.folder, 'prompts.jsonl'), prompts)
  const scorer = ({ files, calibration }: LoopResult['rewardModels'][Axis]) => ({
    files: { base: files.base, adapters: [...files.adapters] },
    calibration,
  })
  const { rounds: all } = options.ppo
  const update = async (parent: ModelFiles | null, from: number, rounds: number) => {
    const whole = from === 0 && rounds === all
    const output = join(world.folder, whole ? 'policy' : `policy-${from + rounds}`)
    const last = parent?.adapters.at(-1) ?? parent?.base ?? null
    const spec: TrainSpec = {
      kind: 'policy_update',
      output,
      reference: { base: sft.base, adapters: [...sft.adapters] },
      parent: last,
      data: path,
      helpfulness: scorer(rewardModels.helpfulness),
      safety: scorer(rewardModels.safety),
      options: { ...options.ppo, rounds, total_rounds: all, seed: options.seed },
    }
    const details = {
      ...{ dataHash, output },
      parentCheckpoint: last ?? sft.adapters.at(-1) ?? sft.base,
    }
    const { metrics } = await world.run('policy_update', spec.options, details, async (emit) => ({
      metrics: await train(world, 'ppo', spec, emit, from, all),
    }))
    return { policy: withCheckpoint(sft, output, options.ppo.lora), metrics }
  }
  const { audit } = world
  if (options.guard === null || audit === undefined) {
    const { policy, metrics } = await update(null, 0, all)
    return { policy, rounds: metrics, guard: null }
  }
  return guardedUpdate(sft, {
    ...{ serving: world.serving, audit, options: options.guard, rounds: all, update },
    ...{
      signal: world.signal,
      progress: world.progress,
      tell: (decision) => world.tell?.(decision) ?? Promise.resolve(),
    },
    sampling: { maxNewTokens: options.ppo.max_new_tokens, seed: options.seed },
  })
}
