import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import Table from 'cli-table3'
import { readConfig, starterFolder } from '../config.ts'
import { spawnEngine } from '../engine/process/spawn.ts'
import { renderReport } from '../evaluation/report.ts'
import type { Interval } from '../evaluation/statistics.ts'
import { createLocalJudge } from '../judging/local-judge.ts'
import { alignByAiFeedback } from '../rlaif/loop.ts'
import { RlaifOptions } from '../schemas/rlaif.ts'
import { recordRun } from '../services/runs.ts'
import { sftDialogues } from '../starter/corpus.ts'
import { answerAndGrade, compareGraded } from '../starter/evaluate.ts'
import { prompts } from '../starter/world.ts'
import { openStore } from '../store/store.ts'
import { createProgress } from './progress.ts'

/** The main job on the starter world: align its policy by AI feedback and say what came of it. */
export async function rlaif(overrides: Record<string, unknown> = {}): Promise<void> {
  const started = Date.now()
  const options = RlaifOptions.parse(overrides)
  const { dataDir } = readConfig()
  const store = await openStore(dataDir)
  const [serving, training] = await Promise.all([spawnEngine(), spawnEngine({ training: true })])
  const progress = createProgress()
  try {
    const base = join(starterFolder, 'base')
    const judge = createLocalJudge(
      serving,
      { base, adapters: [join(starterFolder, 'judge')] },
      'starter-judge',
    )
    const { device } = await serving.status()
    const start = { kind: 'rlaif' as const, config: options, seed: options.seed, device }
    const result = await recordRun(store, start, async (loop) => {
      const folder = join(dataDir, 'runs', loop.id)
      const aligned = await alignByAiFeedback(
        {
          serving,
          training,
          judge,
          folder,
          progress: progress.update,
          run: (kind, config, details, work) =>
            recordRun(
              store,
              { kind, config, seed: options.seed, parent: loop.id, device, ...details },
              ({ emit }) => work(emit),
            ),
        },
        {
          base,
          dialogues: sftDialogues(options.seed, options.dialogues),
          prompts: prompts('train', options.seed).map(({ id, messages }) => ({ id, messages })),
        },
        options,
      )
      const test = prompts('test', options.seed, options.evaluation_prompts)
      const grade = (name: string, model: typeof aligned.sft) =>
        answerAndGrade(
          serving,
          model,
          test,
          options.ppo.max_new_tokens,
          options.seed * 7919,
          (done) => progress.update(`evaluate ${name}`, done, test.length),
        )
      const [before, after] = [
        await grade('sft', aligned.sft),
        await grade('policy', aligned.policy),
      ]
      const figures = compareGraded(before, after, options.seed)
      const rows = [
        ['figure', 'before', 'after', 'difference'],
        ...figures.map((f) => [f.figure, show(f.before), show(f.after), show(f.difference)]),
      ]
      const report = join(folder, 'report.html')
      await mkdir(folder, { recursive: true })
      await writeFile(
        report,
        renderReport({
          title: `RLAIF loop ${loop.id}`,
          rounds: aligned.rounds,
          rows,
          config: options,
          before: before.map(({ gold }) => [gold.helpfulness, gold.safety]),
          after: after.map(({ gold }) => [gold.helpfulness, gold.safety]),
          samples: test.slice(0, 24).map((prompt, i) => ({
            prompt: prompt.text,
            before: before[i]?.answer ?? '',
            after: after[i]?.answer ?? '',
          })),
        }),
      )
      await writeFile(
        join(folder, 'report.json'),
        JSON.stringify({ figures, rounds: aligned.rounds, judge: aligned.judge }, null, 1),
      )
      return {
        figures,
        report,
        policy: aligned.policy,
        judge: aligned.judge,
        accuracy: {
          helpfulness: aligned.rewardModels.helpfulness.accuracy,
          safety: aligned.rewardModels.safety.accuracy,
        },
      }
    })
    progress.stop()
    const table = new Table({
      head: ['held-out prompts', 'before (SFT)', 'after (PPO)', 'difference'],
    })
    for (const f of result.figures)
      table.push([f.figure, show(f.before), show(f.after), show(f.difference)])
    console.log(table.toString())
    console.log(
      `judge: ${result.judge.labelled} pairs labelled, ${result.judge.consistent} alike in both orders, ${result.judge.failed} failed`,
    )
    console.log(
      `reward models on held-out judge labels: helpfulness ${result.accuracy.helpfulness.toFixed(3)}, safety ${result.accuracy.safety.toFixed(3)}`,
    )
    console.log(
      `report: ${result.report}\nrun: ${result.runId}\ntime: ${Math.round((Date.now() - started) / 1000)} s`,
    )
  } finally {
    progress.stop()
    await Promise.allSettled([serving.close(), training.close()])
    await store.close()
  }
}

const show = ({ value, low, high }: Interval): string =>
  `${value.toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}]`
