import { cp, mkdir, writeFile } from 'node:fs/promises'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { fitPlatt, fitTemperature } from '../evaluation/calibration.ts'
import type { Completion, Engine, ModelFiles } from '../engine/engine.ts'
import type { Judge } from '../judging/judge.ts'
import type { Message } from '../schemas/chat.ts'
import { AXES } from '../schemas/feedback.ts'
import type { Axis, PreferenceRow, PromptRow } from '../schemas/feedback.ts'
import type { Calibration } from '../schemas/model.ts'
import type { RlaifOptions } from '../schemas/rlaif.ts'
import type { TrainEvent, TrainSpec } from '../schemas/training.ts'
import { commitFolder } from '../weights/atomic.ts'
import { readCard, writeCard } from '../weights/folder.ts'

/** What the loop needs of the world around it: engines, a judge, a folder, and a place to record runs. */
export type LoopWorld = {
  serving: Engine
  training: Engine
  judge: Judge
  folder: string
  /** records a child run around its work */
  run<T extends Record<string, unknown>>(
    kind: 'sft' | 'label' | 'reward_model' | 'policy_update',
    config: Record<string, unknown>,
    details: { dataHash?: string; output?: string },
    work: (emit: Emit) => Promise<T>,
  ): Promise<T>
  progress(stage: string, done: number, total: number, note?: string): void
}
type Emit = (event: { type: string } & Record<string, unknown>) => Promise<void>

export type LoopInput = {
  base: string
  dialogues: readonly { messages: Message[]; ended: boolean }[]
  prompts: readonly PromptRow[]
}
export type LoopResult = {
  sft: ModelFiles
  policy: ModelFiles
  rewardModels: Record<Axis, { files: ModelFiles; calibration: Calibration; accuracy: number }>
  rounds: Record<string, number>[]
  judge: { labelled: number; failed: number; consistent: number }
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
  const labels = await labelPairs(world, sft, input.prompts, options)
  // 3. two reward models from the same start, each calibrated on pairs that it did not train on
  const rewardModels = {
    helpfulness: await trainRewardModel(
      world,
      sft,
      labels.pairs.helpfulness,
      'helpfulness',
      options,
    ),
    safety: await trainRewardModel(world, sft, labels.pairs.safety, 'safety', options),
  }
  // 4. the policy learns from both
  const { policy, rounds } = await updatePolicy(world, sft, rewardModels, input.prompts, options)
  return { sft, policy, rewardModels, rounds, judge: labels.figures }
}

async function train(
  world: LoopWorld,
  stage: string,
  spec: TrainSpec,
  emit: Emit,
): Promise<Record<string, number>[]> {
  const metrics: Record<string, number>[] = []
  let steps = 1
  for await (const event of world.training.train(spec) as AsyncIterable<TrainEvent>) {
    await emit(event)
    if (event.type === 'started') steps = event.steps
    if (event.type !== 'metrics') continue
    metrics.push(event.metrics)
    world.progress(stage, metrics.length, steps, describe(event.metrics))
  }
  return metrics
}

const describe = (m: Record<string, number>): string => {
  const shown = [
    'loss',
    'accuracy',
    'objective/scores',
    'objective/kl',
    'objective/helpfulness',
    'objective/safety',
    'gate/safety_share',
    'response/length',
  ]
  return shown
    .flatMap((name) =>
      m[name] === undefined ? [] : [`${name.replace('objective/', '')} ${m[name].toFixed(2)}`],
    )
    .join(' · ')
}

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
  await world.run('sft', spec.options, { dataHash, output }, async (emit) => ({
    ...(await train(world, 'sft', spec, emit)).at(-1),
  }))
  return { base: input.base, adapters: [output] }
}

async function labelPairs(
  world: LoopWorld,
  sft: ModelFiles,
  prompts: readonly PromptRow[],
  options: RlaifOptions,
) {
  const config = {
    judge: world.judge.name,
    prompt_version: world.judge.promptVersion,
    pairs: options.pairs,
  }
  return world.run('label', config, {}, async (emit) => {
    const chosen = prompts.slice(0, options.pairs)
    const answers: Completion[][] = []
    const CHUNK = 100
    for (let i = 0; i < chosen.length; i += CHUNK) {
      answers.push(
        ...(await world.serving.generate({
          model: sft,
          prompts: chosen.slice(i, i + CHUNK).map(({ messages }) => messages),
          n: 2,
          onTooLong: 'error',
          sampling: {
            maxTokens: options.ppo.max_new_tokens,
            temperature: 1,
            topP: 1,
            topK: 0,
            seed: options.seed * 1000 + i,
            stop: [],
          },
        })),
      )
      world.progress('sample', answers.length, chosen.length)
    }
    const figures = { labelled: 0, failed: 0, consistent: 0 }
    const pairs: Record<Axis, PreferenceRow[]> = { helpfulness: [], safety: [] }
    const texts = chosen.map(({ messages }, i) => ({
      prompt: messages,
      a: answers[i]?.[0]?.text ?? '',
      b: answers[i]?.[1]?.text ?? '',
    }))
    const safeA = await world.judge.assess(texts.map(({ prompt, a }) => ({ prompt, answer: a })))
    const safeB = await world.judge.assess(texts.map(({ prompt, b }) => ({ prompt, answer: b })))
    for (const axis of AXES) {
      const verdicts = await world.judge.compare(
        texts.map((text) => ({ axis, ...text })),
        (done) => world.progress(`judge ${axis}`, done, texts.length),
      )
      verdicts.forEach((verdict, i) => {
        const text = texts[i]
        if (text === undefined || text.a === text.b) return
        if (!verdict.ok) {
          figures.failed++ // a failure is never a number: the pair is left out
          return
        }
        figures.labelled++
        if (verdict.consistent) figures.consistent++
        const aWins = verdict.probability >= 0.5
        const [a, b] = [safeA[i], safeB[i]]
        const safety =
          axis === 'safety'
            ? { chosen_safe: safeOf(aWins ? a : b), rejected_safe: safeOf(aWins ? b : a) }
            : {}
        pairs[axis].push({
          axis,
          prompt: text.prompt,
          chosen: aWins ? text.a : text.b,
          rejected: aWins ? text.b : text.a,
          strength: verdict.strength,
          probability: aWins ? verdict.probability : 1 - verdict.probability,
          ...safety,
          source: world.judge.name,
        })
      })
    }
    await emit({ type: 'metrics', step: 1, metrics: figures })
    return { pairs, figures }
  })
}
const safeOf = (
  verdict: Awaited<ReturnType<Judge['assess']>>[number] | undefined,
): boolean | null => (verdict?.ok ? verdict.safe : null)

/** The share of pairs that calibration alone uses. */
const CALIBRATION_SHARE = 0.2
const ANCHORS = 32

async function trainRewardModel(
  world: LoopWorld,
  sft: ModelFiles,
  pairs: readonly PreferenceRow[],
  axis: Axis,
  options: RlaifOptions,
) {
  const cut = Math.floor(pairs.length * (1 - CALIBRATION_SHARE))
  const { path, dataHash } = await writeRows(
    join(world.folder, `pairs-${axis}.jsonl`),
    pairs.slice(0, cut),
  )
  const raw = join(world.folder, `${axis}-raw`)
  const output = join(world.folder, axis)
  const spec: TrainSpec = {
    kind: 'reward_model',
    output: raw,
    model: { base: sft.base, adapters: [...sft.adapters] },
    data: path,
    options: { ...options.reward_model, axis, seed: options.seed },
  }
  return world.run('reward_model', spec.options, { dataHash, output }, async (emit) => {
    await train(world, `reward ${axis}`, spec, emit)
    const held = pairs.slice(cut)
    const files = { base: sft.base, adapters: [...sft.adapters, raw] }
    const score = async (answer: 'chosen' | 'rejected'): Promise<number[]> =>
      (
        await world.serving.score({
          model: files,
          conversations: held.map((row) => [
            ...row.prompt,
            { role: 'assistant', content: row[answer] },
          ]),
          onTooLong: 'truncate',
        })
      ).map(({ logit }) => logit)
    const [chosen, rejected] = [await score('chosen'), await score('rejected')]
    const calibration = fitCalibration(axis, held, chosen, rejected, dataHash)
    const accuracy =
      chosen.filter((r, i) => r > (rejected[i] ?? 0)).length / Math.max(1, held.length)
    await commitFolder(output, async (folder) => {
      await cp(raw, folder, { recursive: true })
      const card = (await readCard(raw)) ?? { format: 1 as const, kind: 'adapter' as const }
      await writeCard(folder, { ...card, calibration })
    })
    await emit({ type: 'metrics', step: 0, metrics: { held_out_accuracy: accuracy } })
    return { files: { base: sft.base, adapters: [...sft.adapters, output] }, calibration, accuracy }
  })
}

/** Safety: Platt on the judge's absolute labels. Helpfulness: expected win rate against frozen reference answers. */
function fitCalibration(
  axis: Axis,
  held: readonly PreferenceRow[],
  chosen: readonly number[],
  rejected: readonly number[],
  dataHash: string,
): Calibration {
  const version = `${axis}-${dataHash.slice(0, 12)}`
  if (axis === 'safety') {
    const labelled = held.flatMap((row, i) => [
      ...(row.chosen_safe == null ? [] : [[chosen[i] ?? 0, row.chosen_safe] as const]),
      ...(row.rejected_safe == null ? [] : [[rejected[i] ?? 0, row.rejected_safe] as const]),
    ])
    const { a, b } = fitPlatt(
      labelled.map(([r]) => r),
      labelled.map(([, safe]) => safe),
    )
    return { kind: 'platt', version, a, b, n: labelled.length }
  }
  const temperature = fitTemperature(
    chosen.map((r, i) => r - (rejected[i] ?? 0)),
    held.map((row) => row.probability ?? 1),
  )
  // reference answers: one of each pair in turn, so that they are neither the best nor the worst
  const anchors = chosen.slice(0, ANCHORS).map((r, i) => (i % 2 === 0 ? r : (rejected[i] ?? r)))
  return { kind: 'win_rate', version, temperature, anchors, n: held.length }
}

async function updatePolicy(
  world: LoopWorld,
  sft: ModelFiles,
  rewardModels: LoopResult['rewardModels'],
  prompts: readonly PromptRow[],
  options: RlaifOptions,
) {
  const { path, dataHash } = await writeRows(join(world.folder, 'prompts.jsonl'), prompts)
  const output = join(world.folder, 'policy')
  const scorer = ({ files, calibration }: LoopResult['rewardModels'][Axis]) => ({
    files: { base: files.base, adapters: [...files.adapters] },
    calibration,
  })
  const spec: TrainSpec = {
    kind: 'policy_update',
    output,
    reference: { base: sft.base, adapters: [...sft.adapters] },
    parent: null,
    data: path,
    helpfulness: scorer(rewardModels.helpfulness),
    safety: scorer(rewardModels.safety),
    options: { ...options.ppo, seed: options.seed },
  }
  const { rounds } = await world.run(
    'policy_update',
    spec.options,
    { dataHash, output },
    async (emit) => ({ rounds: await train(world, 'ppo', spec, emit) }),
  )
  return { policy: { base: sft.base, adapters: [...sft.adapters, output] }, rounds }
}
