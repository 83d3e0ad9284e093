import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import type { ModelFiles } from '../engine/engine.ts'
import { localJudgePrompt } from '../judging/prompts.ts'
import { permutation } from '../random.ts'
import { trainPart } from '../rlaif/parts.ts'
import type { Parts } from '../rlaif/parts.ts'
import { writeRows } from '../rlaif/rows.ts'
import type { Axis, PreferenceRow } from '../schemas/feedback.ts'
import type { RlaifOptions } from '../schemas/rlaif.ts'
import { Architecture, PretrainOptions, SftOptions } from '../schemas/training-options.ts'
import type { TrainSpec } from '../schemas/training.ts'
import { trainByteLevelBpe, writeTokenizer } from '../text/bpe-trainer.ts'
import type { HumanData } from '../text/data-folder.ts'
import type { LoopProgress } from './loop-evaluation.ts'
import type { RunContext } from './runs.ts'
import type { Services } from './services.ts'

/** Sizes of the loop on human data. They fit 90 minutes on two cores. */
export const HUMAN_LOOP = {
  vocabulary: 8192,
  tokenizerCharacters: 4e6,
  pretrainCharacters: 4e6,
  architecture: {
    ...{ hidden_size: 256, layers: 6, heads: 8, kv_heads: 4, intermediate_size: 768 },
    context: 256,
  },
  pretrain: { batch_size: 32, micro_batch_tokens: 4096, optimizer: { learning_rate: 2e-3 } },
  judgeClip: { prompt: 180, answer: 240 },
  crossValidation: true,
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
/**
 * What goes on unless other names are given: probes that reward models of some thousand human pairs are known to fail,
 * and what a judge that fails its own audit says of them (docs/results.md).
 */
export const HUMAN_OVERRIDE = ['doubled', 'filler', 'language', 'cut_off', 'staleness']
const size = z.int().min(1)
/** What `npm run rlaif -- --data … --sizes` takes: each in place of HUMAN_LOOP's. */
export const HumanLoopSizes = z.strictObject({
  vocabulary: size,
  tokenizerCharacters: size,
  pretrainCharacters: size,
  architecture: Architecture,
  pretrain: z.record(z.string(), z.unknown()).describe('options: schemas/training-options.ts'),
  judgeClip: z.strictObject({ prompt: size, answer: size }),
  crossValidation: z.boolean().describe('of the reward models, in five folds: the longest part'),
  loop: z.record(z.string(), z.unknown()).describe('options of the loop: schemas/rlaif.ts'),
})
export type HumanLoopSizes = z.input<typeof HumanLoopSizes>

/** What the parts of the loop on human data share. */
export type HumanWorld = {
  services: Services
  parts: Parts
  folder: string
  context: RunContext
  options: RlaifOptions
  sizes: HumanLoopSizes
  progress: LoopProgress
}

export const pick = (pairs: readonly PreferenceRow[], axis: Axis): PreferenceRow[] =>
  pairs.filter((pair) => pair.axis === axis)
/** All pairs, by axis. */
export const pairsOf = ({ train, dev }: HumanData): Record<Axis, PreferenceRow[]> => ({
  helpfulness: pick([...train, ...dev], 'helpfulness'),
  safety: pick([...train, ...dev], 'safety'),
})
export const shuffled = <T>(rows: readonly T[], seed: number): T[] =>
  Array.from(permutation(rows.length, seed, 51)).flatMap((i) => rows[i] ?? [])
/** A training as a part of the loop, which is done once, however often the loop goes on. `prepare`: writes its data. */
export async function train(
  world: HumanWorld,
  name: string,
  spec: TrainSpec,
  prepare: () => Promise<unknown>,
): Promise<void> {
  const { kind, output } = spec
  await world.parts.run(name, { kind, config: spec.options, output }, async (part) => {
    await prepare()
    return { ...(await trainPart(world, part, name, spec)).at(-1) }
  })
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

export async function pretrainBase(world: HumanWorld, data: HumanData): Promise<string> {
  const { folder, options, sizes, progress } = world
  const [tokenizer, output] = [join(folder, 'tokenizer'), join(folder, 'base')]
  const path = join(folder, 'pretrain.jsonl')
  const spec: TrainSpec = {
    ...{ kind: 'pretrain', output, tokenizer, data: path },
    options: PretrainOptions.parse({
      ...{ seed: options.seed, architecture: sizes.architecture },
      ...{ sequence_length: sizes.architecture.context, ...sizes.pretrain },
    }),
  }
  await train(world, 'base', spec, async () => {
    const dialogues = data.train.map(({ prompt }) => ({ messages: prompt, ended: true }))
    const spoken = dialogues.flatMap(({ messages }) => messages.map(({ content }) => content))
    await mkdir(tokenizer, { recursive: true })
    progress('tokenizer', 0, 1)
    const sample = sampleText(data.texts, sizes.tokenizerCharacters / 2, options.seed)
    const words = [...sample, ...spoken.slice(0, 8000)]
    await writeTokenizer(tokenizer, trainByteLevelBpe(words, sizes.vocabulary))
    progress('tokenizer', 1, 1)
    const texts = sampleText(data.texts, sizes.pretrainCharacters, options.seed + 1)
    const rows = shuffled([...texts.map((text) => ({ text })), ...dialogues], options.seed)
    await writeRows(path, rows)
  })
  return output
}

export async function trainJudge(
  world: HumanWorld,
  base: string,
  pairs: readonly PreferenceRow[],
): Promise<ModelFiles> {
  const output = join(world.folder, 'judge')
  const path = join(world.folder, 'judge.jsonl')
  const spec: TrainSpec = {
    ...{ kind: 'sft', role: 'judge', output, model: { base, adapters: [] }, data: path },
    options: SftOptions.parse({ seed: world.options.seed, epochs: 1, batch_size: 32 }),
  }
  await train(world, 'judge', spec, () => {
    const rows = pairs.map((pair, i) => {
      const chosenFirst = i % 2 === 0 // half of the time: the position says nothing
      const [a, b] = chosenFirst ? [pair.chosen, pair.rejected] : [pair.rejected, pair.chosen]
      const question = localJudgePrompt(pair.axis, pair.prompt, a, b, world.sizes.judgeClip)
      const content = chosenFirst ? 'A' : 'B'
      return { messages: [...question, { role: 'assistant' as const, content }], ended: true }
    })
    return writeRows(path, rows)
  })
  return { base, adapters: [output] }
}
