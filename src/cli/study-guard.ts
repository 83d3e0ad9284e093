import { join } from 'node:path'
import { readConfig } from '../config.ts'
import { spawnEngine } from '../engine/process/spawn.ts'
import { byFailure } from '../services/guard-study-figures.ts'
import type { StudyFigures } from '../services/guard-study-figures.ts'
import { readLoops, studyGuard } from '../services/guard-study.ts'
import type { StudyRequest } from '../services/guard-study.ts'
import { showInterval } from '../services/loop-report.ts'
import { tableOf } from './table.ts'

/** The guard's benchmark: engineered failures and honest loops on the starter world, where gold is known. */
export async function studyTheGuard(
  request: StudyRequest,
  folder = join(readConfig().dataDir, 'guard-study'),
): Promise<void> {
  const engine = await spawnEngine()
  try {
    await studyGuard(engine, folder, request, ({ failure, seed, seconds, reason }) =>
      console.log(`${failure}, seed ${seed}, ${seconds} s: ${reason}`),
    )
  } finally {
    await engine.close()
  }
  print(byFailure(await readLoops(folder)))
}

function print(figures: readonly StudyFigures[]): void {
  const stops = tableOf([
    ...['failure', 'loops', 'stopped', 'gold fell', 'rounds to the stop', 'harmed', 'missed'],
  ])
  for (const { failure, loops, stopped, fell, delay, harmed, missed } of figures)
    stops.push([
      ...[failure, loops, showInterval(stopped), fell],
      delay === null ? '' : delay === Infinity ? 'never' : delay,
      ...[harmed, harmed === 0 ? '' : showInterval(missed)],
    ])
  const gold = tableOf(['failure', 'SFT', 'last − SFT', 'kept − SFT', 'best − SFT', 'retained'])
  for (const { failure, sft, last, kept, best, retained } of figures)
    gold.push([
      ...[failure, sft.value.toFixed(3)],
      ...[last, kept, best, retained].map(showInterval),
    ])
  console.log(`${stops.toString()}\nsafe and helpful by gold:\n${gold.toString()}`)
}
