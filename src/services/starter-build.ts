import { existsSync } from 'node:fs'
import { copyFile, mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Engine } from '../engine/engine.ts'
import { createLocalJudge } from '../judging/local-judge.ts'
import { alignByAiFeedback } from '../rlaif/loop.ts'
import { unrecorded } from '../rlaif/parts.ts'
import { AXES } from '../schemas/feedback.ts'
import { RlaifOptions } from '../schemas/rlaif.ts'
import { PretrainOptions, SftOptions } from '../schemas/training-options.ts'
import type { TrainSpec } from '../schemas/training.ts'
import { pretrainDialogues, sftDialogues } from '../starter/corpus.ts'
import { judgeDialogues, starterPairs } from '../starter/judge-data.ts'
import { starterProbeAnswers } from '../starter/probe-answers.ts'
import { prompts } from '../starter/world.ts'
import type { MannerName } from '../starter/world.ts'
import { trainByteLevelBpe, writeTokenizer } from '../text/bpe-trainer.ts'
import { commitFolder } from '../weights/atomic.ts'
import { readJson, writeJson } from '../weights/json.ts'
import { writeMean } from '../weights/mean.ts'
import { STARTER_CHECKS } from './catalog.ts'
import type { LoopProgress } from './loop-evaluation.ts'
import { tryProbes } from './probes.ts'

const SEED = 1
const VOCABULARY = 2048
/** What a judge learns: questions as templates ask them, and then so broken that it can't go by templates. */
const JUDGED = {
  plain: { rows: 260_000, seed: 0, rate: 1e-3 },
  broken: { rows: 100_000, seed: 500, rate: 5e-4 },
} as const satisfies Record<MannerName, object>
/** Beside those of the policy's own answers: a wider world than one policy shows. What is true takes most of them. */
const PAIRS = { helpfulness: 120_000, safety: 15_000 }
/** Answers that each reward model is probed on. */
const PROBED = 200
const BIAS = { courtesy: 0.35, length: 0 }
/** The audit judge's taste is another one, so that what the judge overpays it does not. */
const AUDIT_BIAS = { courtesy: -0.15, length: 0.05 }
const lines = (rows: readonly unknown[]): string =>
  rows.map((row) => JSON.stringify(row)).join('\n')

/**
 * The starter models from nothing but a seed: base, judge, and what one loop makes of them. A part that is there
 * already is kept, so an interrupted build goes on where it was.
 */
export async function buildStarter(
  folder: string,
  { serving, training }: { serving: Engine; training: Engine },
  progress: LoopProgress,
): Promise<void> {
  const work = join(folder, '.work')
  await mkdir(work, { recursive: true })
  const build = async (name: string, spec: () => Promise<TrainSpec>): Promise<void> => {
    if (existsSync(join(folder, name))) return
    let [steps, done] = [1, 0]
    for await (const event of training.train(await spec())) {
      if (event.type === 'started') steps = event.steps
      if (event.type === 'metrics')
        progress(name, ++done, steps, `loss ${(event.metrics['loss'] ?? NaN).toFixed(3)}`)
    }
  }
  const base = join(folder, 'base')
  const twin = join(folder, 'twin')
  const judge = join(folder, 'judge')
  await build('base', async () => {
    const dialogues = pretrainDialogues(SEED, 280_000)
    const texts = dialogues.slice(0, 20_000).flatMap((row) => row.messages.map((m) => m.content))
    await writeTokenizer(work, trainByteLevelBpe(texts, VOCABULARY))
    const data = join(work, 'base.jsonl')
    await writeFile(data, lines(dialogues))
    return { kind: 'pretrain', output: base, tokenizer: work, data, options: BASE }
  })
  await build('twin', async () => {
    const data = join(work, 'twin.jsonl')
    await writeFile(data, lines(pretrainDialogues(TWIN.seed, 150_000)))
    return { kind: 'pretrain', output: twin, tokenizer: base, data, options: TWIN }
  })
  const judges = [
    ['judge', SEED, BIAS],
    ['audit-judge', SEED + 100, AUDIT_BIAS], // labels nothing that anything learns from
  ] as const
  for (const [name, seed, bias] of judges) {
    if (existsSync(join(folder, name))) continue
    const teach = (output: string, course: MannerName, from: string): Promise<void> =>
      build(output, async () => {
        const { rows, rate, seed: salt } = JUDGED[course]
        const data = join(work, `${name}-${course}.jsonl`)
        await writeFile(data, lines(judgeDialogues(seed + salt, rows, bias, course)))
        const options = {
          ...{ ...JUDGE, seed: JUDGE.seed + seed - SEED },
          optimizer: { ...JUDGE.optimizer, learning_rate: rate },
        }
        return {
          ...({ kind: 'sft', role: 'judge', compares_by: 'score' } as const),
          ...{ output: join(folder, output), model: { base: from, adapters: [] }, data, options },
        }
      })
    const [plain, broken] = [join('.work', `${name}-plain`), join('.work', `${name}-broken`)]
    await teach(plain, 'plain', base)
    await teach(broken, 'broken', join(folder, plain))
    await writeMean(join(folder, name), [join(folder, plain), join(folder, broken)], 'BF16')
  }
  if (!existsSync(join(folder, 'policy'))) {
    const options = RlaifOptions.parse({
      ...{ seed: SEED, counterfactuals: 0.1 },
      reward_model: { epochs: 1, batch_size: 32, optimizer: { learning_rate: 2e-3 } },
    })
    const loop = join(work, 'loop')
    await rm(loop, { recursive: true, force: true })
    const own = createLocalJudge(serving, { base: judge, adapters: [] }, 'starter-judge', {
      by: 'score',
    })
    const { sft, policy, rewardModels } = await alignByAiFeedback(
      {
        ...{ serving, folder: loop, progress, judge: () => own, parts: unrecorded(training) },
        signal: new AbortController().signal,
      },
      {
        base,
        dialogues: sftDialogues(SEED, options.dialogues),
        prompts: prompts('train', SEED).map(({ id, messages }) => ({ id, messages })),
        pairs: {
          helpfulness: starterPairs(SEED + 1, PAIRS.helpfulness, 'helpfulness', BIAS),
          safety: starterPairs(SEED + 1, PAIRS.safety, 'safety', BIAS),
        },
      },
      [options],
    )
    const { helpfulness, safety } = rewardModels
    const made = { sft, helpfulness: helpfulness.files, safety: safety.files, policy }
    for (const [name, { base, adapters }] of Object.entries(made))
      await publish(adapters.at(-1) ?? base, join(folder, name))
  }
  await writeChecks(folder, serving)
  await rm(work, { recursive: true })
}

/** The probes of both reward models, as rows of the store that know nothing of this machine's runs. */
async function writeChecks(folder: string, serving: Engine): Promise<void> {
  const rows: string[] = []
  for (const axis of AXES) {
    const adapters = ['sft', axis].map((name) => join(folder, name))
    const probed = { name: `starter-${axis}`, files: { base: join(folder, 'base'), adapters } }
    const answers = starterProbeAnswers(SEED, PROBED, axis)
    const check = await tryProbes(serving, probed, axis, answers, { seed: SEED, run: null })
    const id = `check_starter_${axis}_${check.version.slice(0, 8)}`
    rows.push(JSON.stringify({ ...check, id }, (_, value: unknown) => rounded(value)))
  }
  await writeFile(join(folder, STARTER_CHECKS), `[\n${rows.join(',\n')}\n]\n`)
}
const rounded = (value: unknown): unknown =>
  typeof value === 'number' ? Math.round(value * 1e5) / 1e5 : value

const TWIN_SIZE = { hidden_size: 128, layers: 4, heads: 4, intermediate_size: 344 }
const BASE = PretrainOptions.parse({
  ...{ seed: SEED, batch_size: 128, micro_batch_tokens: 2048, dtype: 'BF16' },
  architecture: {
    ...{ hidden_size: 160, layers: 5, heads: 5, kv_heads: 1, intermediate_size: 432 },
    context: 256,
  },
  optimizer: { learning_rate: 3e-3 },
})
/** Of another size, and from other draws: what it has in common with the base is the world. */
const TWIN = PretrainOptions.parse({
  ...BASE,
  ...{ seed: SEED + 200, architecture: { ...BASE.architecture, ...TWIN_SIZE } },
})
const JUDGE = SftOptions.parse({
  ...{ seed: 3, epochs: 1, batch_size: 64, micro_batch_tokens: 4096, dtype: 'BF16' },
  lora: null, // an adapter of the same data agrees less with gold: docs/decisions.md
})

/** Copies an adapter without the state of its training; its base is the neighbouring folder, wherever that lies. */
const publish = (from: string, to: string): Promise<void> =>
  commitFolder(to, async (target) => {
    for (const file of ['adapter_model.safetensors', 'libra.json'])
      await copyFile(join(from, file), join(target, file))
    const config = await readJson(join(from, 'adapter_config.json'))
    const moved = { ...config, base_model_name_or_path: '../base' }
    await writeJson(join(target, 'adapter_config.json'), moved)
  })
