import { mkdir, rm, writeFile } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { spawnEngine } from '../engine/process/spawn.ts'
import { PretrainOptions, SftOptions } from '../schemas/training.ts'
import type { TrainSpec } from '../schemas/training.ts'
import { pretrainDialogues } from '../starter/corpus.ts'
import { judgeDialogues } from '../starter/judge-data.ts'
import { trainByteLevelBpe, writeTokenizer } from '../text/bpe-trainer.ts'
import { createProgress } from './progress.ts'

const SEED = 1
const VOCABULARY = 1536
const lines = (rows: readonly unknown[]): string =>
  rows.map((row) => JSON.stringify(row)).join('\n')

/** Base and judge of the starter world, from nothing but a seed. A part that is there already is kept. */
export async function buildStarter(folder: string): Promise<void> {
  const work = join(folder, '.work')
  await mkdir(work, { recursive: true })
  const engine = await spawnEngine()
  const progress = createProgress()
  const build = async (name: string, spec: TrainSpec): Promise<void> => {
    if (existsSync(spec.output)) return
    let [steps, done] = [1, 0]
    for await (const event of engine.train(spec)) {
      if (event.type === 'started') steps = event.steps
      if (event.type === 'metrics')
        progress.update(name, ++done, steps, `loss ${(event.metrics['loss'] ?? NaN).toFixed(3)}`)
    }
  }
  try {
    const dialogues = pretrainDialogues(SEED, 60_000)
    await writeTokenizer(
      work,
      trainByteLevelBpe(
        dialogues
          .slice(0, 20_000)
          .flatMap(({ messages }) => messages.map(({ content }) => content)),
        VOCABULARY,
      ),
    )
    await writeFile(join(work, 'base.jsonl'), lines(dialogues))
    const base = join(folder, 'base')
    await build('base', {
      kind: 'pretrain',
      output: base,
      tokenizer: work,
      data: join(work, 'base.jsonl'),
      options: PretrainOptions.parse({
        seed: SEED,
        epochs: 2.5,
        batch_size: 96,
        micro_batch_tokens: 4096,
        architecture: {
          hidden_size: 160,
          layers: 4,
          heads: 5,
          kv_heads: 1,
          intermediate_size: 432,
          context: 256,
        },
        optimizer: { learning_rate: 3e-3 },
      }),
    })
    await writeFile(
      join(work, 'judge.jsonl'),
      lines(judgeDialogues(SEED, 16_000, { courtesy: 0.35, length: 0 })),
    )
    await build('judge', {
      kind: 'sft',
      role: 'judge',
      output: join(folder, 'judge'),
      model: { base, adapters: [] },
      data: join(work, 'judge.jsonl'),
      options: SftOptions.parse({
        seed: 3,
        epochs: 1,
        batch_size: 64,
        lora: { rank: 32, alpha: 64 },
        optimizer: { learning_rate: 3e-3 },
      }),
    })
    await rm(work, { recursive: true })
  } finally {
    progress.stop()
    await engine.close()
  }
}
