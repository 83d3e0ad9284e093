import { join, resolve } from 'node:path'
import { readConfig } from '../config.ts'
import { spawnEngine } from '../engine/process/spawn.ts'
import { AXES } from '../schemas/feedback.ts'
import { heldOutFigures, heldOutRivals } from '../services/cross-validation.ts'
import { TOGETHER } from '../services/human-loop.ts'
import { pairsOf } from '../services/human-models.ts'
import { ensembleOf, heldOutOf, studyHumanPairs } from '../services/human-study.ts'
import type { HumanStudyRequest } from '../services/human-study.ts'
import { showInterval } from '../services/loop-report.ts'
import { readHumanData } from '../text/data-folder.ts'
import { tableOf } from './table.ts'

type Figure = ReturnType<typeof heldOutFigures>[number]

/** Reward models on human pairs by five folds and several seeds, beside counting; prints what all parts have found. */
export async function studyHuman(
  folder: string,
  asked: Omit<HumanStudyRequest, 'file'>,
  figures: boolean,
  output?: string,
): Promise<void> {
  const file = resolve(output ?? join(readConfig().dataDir, 'study-human.jsonl'))
  const request = { ...asked, file }
  const data = await readHumanData(folder)
  const engine = await spawnEngine({ training: true })
  try {
    await studyHumanPairs(engine, data, request, (text) => console.error(text))
    if (!figures) return
    const seeds = await heldOutOf(engine, data, request)
    const columns = seeds.map(({ seed, heldOut }) => ({ name: `seed ${seed}`, heldOut }))
    if (seeds.length > 1)
      columns.push({
        name: `all ${seeds.length} together`,
        heldOut: ensembleOf(seeds.map(({ heldOut }) => heldOut)),
      })
    const pairs = pairsOf(data)
    for (const axis of AXES) {
      const rivals = await heldOutRivals(axis, pairs)
      const all = columns.map(({ heldOut }) =>
        heldOutFigures(axis, heldOut[axis], rivals, 1, TOGETHER),
      )
      const table = tableOf([axis, 'n', ...columns.map(({ name }) => name)])
      for (const { figure, n } of all[0] ?? [])
        table.push([
          ...[figure, n],
          ...all.map((list) => shown(list.find((each) => each.figure === figure))),
        ])
      console.log(table.toString())
    }
  } finally {
    await engine.close()
  }
}

/** Beside a rival: its own accuracy, and the difference with what Holm's correction leaves of its significance. */
function shown(figure: Figure | undefined): string {
  if (figure === undefined) return ''
  const { before, p_holm } = figure
  const rival = before === undefined ? '' : `${before.value.toFixed(3)}; +`
  return `${rival}${showInterval(figure)}${p_holm === undefined ? '' : ` p ${p_holm.toFixed(3)}`}`
}
