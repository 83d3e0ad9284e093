import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import type { Engine, ModelFiles } from '../engine/engine.ts'
import { renderReport } from '../evaluation/report.ts'
import type { Interval } from '../evaluation/statistics.ts'
import { createLocalJudge } from '../judging/local-judge.ts'
import { localJudgePrompt } from '../judging/prompts.ts'
import { permutation } from '../random.ts'
import { follow } from '../rlaif/follow.ts'
import { alignByAiFeedback } from '../rlaif/loop.ts'
import { AXES } from '../schemas/feedback.ts'
import type { Axis, PreferenceRow, PromptRow } from '../schemas/feedback.ts'
import { RlaifOptions } from '../schemas/rlaif.ts'
import { Architecture, PretrainOptions, SftOptions } from '../schemas/training.ts'
import type { TrainSpec } from '../schemas/training.ts'
import { trainByteLevelBpe, writeTokenizer } from '../text/bpe-trainer.ts'
import type { HumanData } from '../text/data-folder.ts'
import { encodeChat } from '../text/template.ts'
import { loadTokenizer } from '../text/tokenizer.ts'
import { readConfig } from '../weights/folder.ts'
import { crossValidate } from './cross-validation.ts'
import type { CrossFigure } from './cross-validation.ts'
import { comparePolicies, judgeFigures } from './evaluate.ts'
import type { Figure } from './evaluate.ts'
import type { LoopProgress } from './loop.ts'
import { recordRun } from './runs.ts'
import type { RunContext } from './runs.ts'
import type { Services } from './services.ts'
import { withTraining } from './services.ts'

/** Sizes of the loop on human data. They fit 90 minutes on two cores. */
export const HUMAN_LOOP = {
  vocabulary: 8192,
  tokenizerCharacters: 4e6,
  pretrainCharacters: 4e6,
  architecture: {
    ...{ hidden_size: 256, layers: 6, heads: 8, kv_heads: 4, intermediate_size: 768 },
    context: 256,
  },
  judgeClip: { prompt: 180, answer: 240 },
  loop: {
    dialogues: 3000,
    pairs: 300,
    evaluation_prompts: 120,
    sft: { epochs: 1, batch_size: 32 },
    reward_model: { epochs: 1, batch_size: 32, margin: 'none', max_length: 128 },
    ppo: {
      ...{ rounds: 12, prompts_per_round: 32, mini_batch_size: 32, max_new_tokens: 48 },
      optimizer: { learning_rate: 3e-4, schedule: 'linear', warmup_fraction: 0, weight_decay: 0 },
    },
  },
}
const size = z.int().min(1)
/** What `npm run rlaif -- --data … --sizes` takes: any of these in place of HUMAN_LOOP's. */
export const HumanLoopSizes = z.strictObject({
  vocabulary: size,
  tokenizerCharacters: size,
  pretrainCharacters: size,
  architecture: Architecture,
  judgeClip: z.strictObject({ prompt: size, answer: size }),
  loop: z.record(z.string(), z.unknown()).describe('options of the loop: schemas/rlaif.ts'),
})
export type HumanLoopSizes = z.input<typeof HumanLoopSizes>

export type HumanLoopResult = {
  judge: Figure[]
  crossValidation: CrossFigure[]
  policy: Figure[]
  rounds: Record<string, number>[]
  report: string
}

/**
 * The loop on human preference pairs: a base (pre-trained here when none is given), a judge that is an adapter
 * trained on the pairs and audited on dev, then SFT on chosen answers, two reward models on human and judge labels,
 * PPO, and the evaluation: policies compared, reward models cross-validated beside counting baselines.
 */
export async function runHumanLoop(
  services: Services,
  data: HumanData,
  input: { base: string | null; overrides: Record<string, unknown>; sizes?: HumanLoopSizes },
  context: RunContext,
  progress: LoopProgress,
): Promise<HumanLoopResult & Record<string, unknown>> {
  const { sizes = HUMAN_LOOP } = input
  const options = RlaifOptions.parse({ ...sizes.loop, ...input.overrides })
  const folder = join(services.dataDir, 'runs', context.id)
  await mkdir(folder, { recursive: true })
  return withTraining(services, async (training) => {
    const world = { services, training, folder, context, options, sizes, progress }
    // 1. a base that has read the text there, but no answer that is judged later
    const base = input.base ?? (await pretrainBase(world, data))
    // 2. a judge from human pairs, audited on pairs that it has not seen
    const judgeModel = await trainJudge(world, base, data.train)
    const judge = createLocalJudge(services.serving, judgeModel, 'judge on human pairs', {
      clip: sizes.judgeClip,
      absolute: false,
    })
    const audit: Figure[] = []
    for (const axis of AXES)
      for (const figure of await judgeFigures(judge, axis, pick(data.dev, axis), options.seed))
        audit.push({ ...figure, figure: `judge, ${axis}: ${figure.figure}` })
    // 3. the loop itself
    const prompts = await askable(base, data.train, options)
    const pairs = {
      helpfulness: pick(data.train, 'helpfulness'),
      safety: pick(data.train, 'safety'),
    }
    const dialogues = shuffled(data.train, options.seed)
      .slice(0, options.dialogues)
      .map(({ prompt, chosen }) => ({
        messages: [...prompt, { role: 'assistant' as const, content: chosen }],
        ended: true,
      }))
    const { serving } = services
    const aligned = await alignByAiFeedback(
      {
        ...{ serving, training, judge, folder, progress, signal: context.signal },
        run: (kind, config, details, work) =>
          record(world, kind, config, details, ({ emit }) => work(emit)),
      },
      { base, dialogues, prompts, pairs },
      options,
    )
    // 4. what came of it
    const compared = await comparePolicies(services, {
      ...{ ours: aligned.policy, theirs: aligned.sft, judge },
      rewards: {
        helpfulness: aligned.rewardModels.helpfulness.files,
        safety: aligned.rewardModels.safety.files,
      },
      prompts: (await askable(base, data.dev, options)).slice(0, options.evaluation_prompts),
      options: { seed: options.seed, max_new_tokens: options.ppo.max_new_tokens },
    })
    const crossValidation = await crossValidateRewards(world, base, data)
    const report = join(folder, 'report.html')
    const rows = [...audit, ...compared.figures, ...crossValidation.map(named)]
    await writeFile(
      report,
      renderReport({
        title: `RLAIF loop ${context.id}`,
        rounds: aligned.rounds,
        rows: [['figure', 'value', 'n'], ...rows.map((f) => [f.figure, show(f), String(f.n)])],
        samples: compared.samples,
        config: options,
      }),
    )
    return {
      ...{ judge: audit, crossValidation, policy: compared.figures, rounds: aligned.rounds },
      ...{ report, labels: aligned.judge },
    }
  })
}

type World = {
  services: Services
  training: Engine
  folder: string
  context: RunContext
  options: RlaifOptions
  sizes: HumanLoopSizes
  progress: LoopProgress
}

const pick = (pairs: readonly PreferenceRow[], axis: Axis): PreferenceRow[] =>
  pairs.filter((pair) => pair.axis === axis)
const shuffled = <T>(rows: readonly T[], seed: number): T[] =>
  Array.from(permutation(rows.length, seed, 51)).flatMap((i) => rows[i] ?? [])
export const show = ({ value, low, high }: Interval): string =>
  `${value.toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}]`
export const named = (f: CrossFigure): CrossFigure => ({
  ...f,
  figure: `${f.axis}, ${f.tranche}: ${f.figure}`,
})

function record<T extends Record<string, unknown>>(
  { services, context, options }: World,
  kind: Parameters<typeof recordRun>[1]['kind'],
  config: Record<string, unknown>,
  details: { dataHash?: string; output?: string; parentCheckpoint?: string },
  work: (context: RunContext) => Promise<T>,
): Promise<T & { runId: string }> {
  const start = { kind, config, seed: options.seed, parent: context.id, ...details }
  return recordRun(services.store, start, work, context.signal)
}

async function train(world: World, stage: string, spec: TrainSpec): Promise<void> {
  await record(
    world,
    spec.kind,
    spec.options,
    { output: spec.output },
    async ({ emit, signal }) => ({
      ...(
        await follow(world.training.train(spec, signal), emit, {
          onStep: (done, steps, { loss }) =>
            world.progress(stage, done, steps, loss === undefined ? '' : `loss ${loss.toFixed(3)}`),
        })
      ).at(-1),
    }),
  )
}

async function writeRows(path: string, rows: readonly unknown[]): Promise<string> {
  await writeFile(path, rows.map((row) => JSON.stringify(row)).join('\n'))
  return path
}

/** Pieces of the texts in keyed order, up to a number of characters. */
function sampleText(texts: readonly string[], characters: number, seed: number): string[] {
  const PIECE = 20_000
  const pieces = texts.flatMap((text) =>
    Array.from({ length: Math.ceil(text.length / PIECE) }, (_, i) =>
      text.slice(i * PIECE, (i + 1) * PIECE),
    ),
  )
  const chosen: string[] = []
  let total = 0
  for (const piece of shuffled(pieces, seed)) {
    if (total >= characters) break
    chosen.push(piece)
    total += piece.length
  }
  return chosen
}

async function pretrainBase(world: World, data: HumanData): Promise<string> {
  const { folder, options, sizes, progress } = world
  const dialogues = data.train.map(({ prompt }) => ({ messages: prompt, ended: true }))
  const spoken = dialogues.flatMap(({ messages }) => messages.map(({ content }) => content))
  const tokenizer = join(folder, 'tokenizer')
  await mkdir(tokenizer, { recursive: true })
  progress('tokenizer', 0, 1)
  const sample = sampleText(data.texts, sizes.tokenizerCharacters / 2, options.seed)
  const words = [...sample, ...spoken.slice(0, 8000)]
  await writeTokenizer(tokenizer, trainByteLevelBpe(words, sizes.vocabulary))
  progress('tokenizer', 1, 1)
  const texts = sampleText(data.texts, sizes.pretrainCharacters, options.seed + 1)
  const rows = shuffled([...texts.map((text) => ({ text })), ...dialogues], options.seed)
  const output = join(folder, 'base')
  await train(world, 'base', {
    ...{ kind: 'pretrain', output, tokenizer },
    data: await writeRows(join(folder, 'pretrain.jsonl'), rows),
    options: PretrainOptions.parse({
      ...{ seed: options.seed, architecture: sizes.architecture, batch_size: 32 },
      ...{ sequence_length: sizes.architecture.context, micro_batch_tokens: 4096 },
      optimizer: { learning_rate: 2e-3 },
    }),
  })
  return output
}

async function trainJudge(
  world: World,
  base: string,
  pairs: readonly PreferenceRow[],
): Promise<ModelFiles> {
  const output = join(world.folder, 'judge')
  const rows = pairs.map((pair, i) => {
    const chosenFirst = i % 2 === 0 // half of the time: the position says nothing
    const [a, b] = chosenFirst ? [pair.chosen, pair.rejected] : [pair.rejected, pair.chosen]
    const question = localJudgePrompt(pair.axis, pair.prompt, a, b, world.sizes.judgeClip)
    const content = chosenFirst ? 'A' : 'B'
    return { messages: [...question, { role: 'assistant' as const, content }], ended: true }
  })
  await train(world, 'judge', {
    ...{ kind: 'sft', role: 'judge', output, model: { base, adapters: [] } },
    data: await writeRows(join(world.folder, 'judge.jsonl'), rows),
    options: SftOptions.parse({
      ...{ seed: world.options.seed, epochs: 1, batch_size: 32 },
    }),
  })
  return { base, adapters: [output] }
}

/** Prompts, each once, that leave room for an answer. */
async function askable(
  base: string,
  pairs: readonly PreferenceRow[],
  { seed, ppo }: RlaifOptions,
): Promise<PromptRow[]> {
  const tokenizer = await loadTokenizer(base)
  const { context } = await readConfig(base)
  const room = context - ppo.max_new_tokens - 1
  const seen = new Set<string>()
  return shuffled(pairs, seed).flatMap(({ prompt }) => {
    const key = JSON.stringify(prompt)
    if (seen.has(key) || encodeChat(tokenizer, prompt, true).ids.length > room) return []
    seen.add(key)
    return [{ messages: prompt }]
  })
}

async function crossValidateRewards(
  world: World,
  base: string,
  data: HumanData,
): Promise<CrossFigure[]> {
  const all = [...data.train, ...data.dev]
  const { seed, reward_model: reward } = world.options
  const pairs = { helpfulness: pick(all, 'helpfulness'), safety: pick(all, 'safety') }
  return crossValidate(
    pairs,
    async (axis, fold, training, held) => {
      const output = join(world.folder, 'folds', `${axis}-${fold}`)
      const start = { base, adapters: [] }
      await mkdir(join(world.folder, 'folds'), { recursive: true })
      await train(world, `fold ${fold + 1} ${axis}`, {
        ...{ kind: 'reward_model', output, model: start },
        data: await writeRows(`${output}.jsonl`, training),
        options: { ...reward, axis, seed },
      })
      const model = { base, adapters: [output] }
      const score = async (answer: 'chosen' | 'rejected'): Promise<number[]> => {
        const conversations = held.map((pair) => [
          ...pair.prompt,
          { role: 'assistant' as const, content: pair[answer] },
        ])
        const { serving } = world.services
        const scores = await serving.score({ model, conversations, onTooLong: 'truncate' })
        return scores.map(({ logit }) => logit)
      }
      return { chosen: await score('chosen'), rejected: await score('rejected') }
    },
    seed,
    (done, total) => world.progress('cross-validation', done, total),
  )
}
