import Table from 'cli-table3'
import { readConfig } from '../config.ts'
import { spawnEngine } from '../engine/process/spawn.ts'
import { RunRequest } from '../schemas/run.ts'
import { planLoop, showInterval } from '../services/loop.ts'
import type { LoopFigure } from '../services/loop.ts'
import { recordRun } from '../services/runs.ts'
import { createServices } from '../services/services.ts'
import { openStore } from '../store/store.ts'
import { createProgress } from './progress.ts'

type LoopSummary = {
  figures: LoopFigure[]
  report: string
  judge: { labelled: number; consistent: number; failed: number }
  accuracy: { helpfulness: number; safety: number }
}

/** The main job on the starter world: align its policy by AI feedback and say what came of it. */
export async function rlaif(options: Record<string, unknown> = {}): Promise<void> {
  const started = Date.now()
  const request = RunRequest.parse({ kind: 'rlaif', options })
  if (request.kind !== 'rlaif') return
  const { dataDir } = readConfig()
  const store = await openStore(dataDir)
  const serving = await spawnEngine()
  const progress = createProgress()
  try {
    const startTraining = () => spawnEngine({ training: true })
    const services = await createServices({ store, serving, startTraining, dataDir })
    const plan = await planLoop(services, request, progress.update)
    const { device } = await serving.status()
    const start = { kind: 'rlaif' as const, config: request.options, seed: plan.seed, device }
    const result = await recordRun(store, start, plan.work)
    progress.stop()
    print(result as unknown as LoopSummary)
    console.log(`run: ${result.runId}\ntime: ${Math.round((Date.now() - started) / 1000)} s`)
  } finally {
    progress.stop()
    await serving.close()
    await store.close()
  }
}

function print({ figures, report, judge, accuracy }: LoopSummary): void {
  const head = ['held-out prompts', 'before (SFT)', 'after (PPO)', 'difference']
  const table = new Table({ head })
  for (const { figure, before, after, difference } of figures)
    table.push([figure, showInterval(before), showInterval(after), showInterval(difference)])
  console.log(table.toString())
  const { labelled, consistent, failed } = judge
  console.log(
    `judge: ${labelled} pairs labelled, ${consistent} alike in both orders, ${failed} failed`,
  )
  const { helpfulness, safety } = accuracy
  const shown = `helpfulness ${helpfulness.toFixed(3)}, safety ${safety.toFixed(3)}`
  console.log(`reward models on held-out judge labels: ${shown}\nreport: ${report}`)
}
