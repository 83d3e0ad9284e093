import Table from 'cli-table3'
import { spawnEngine } from '../engine/process/spawn.ts'
import { AXES } from '../schemas/feedback.ts'
import { heldOutFigures } from '../services/cross-validation.ts'
import { TOGETHER } from '../services/human-loop.ts'
import { ensembleOf, heldOutOf, studyHumanPairs } from '../services/human-study.ts'
import type { HumanStudyRequest } from '../services/human-study.ts'
import { showInterval } from '../services/loop-report.ts'
import { readHumanData } from '../text/data-folder.ts'

type Figures = Awaited<ReturnType<typeof heldOutFigures>>

/** Reward models on human pairs by five folds and several seeds, beside counting; prints what all parts have found. */
export async function studyHuman(
  folder: string,
  request: HumanStudyRequest,
  figures: boolean,
): Promise<void> {
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
    for (const axis of AXES) {
      const all: Figures[] = []
      for (const { heldOut } of columns)
        all.push(await heldOutFigures(axis, heldOut[axis], 1, TOGETHER))
      const table = new Table({ head: [axis, 'n', ...columns.map(({ name }) => name)] })
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
function shown(figure: Figures[number] | undefined): string {
  if (figure === undefined) return ''
  const { before, p_holm } = figure
  const rival = before === undefined ? '' : `${before.value.toFixed(3)}; +`
  return `${rival}${showInterval(figure)}${p_holm === undefined ? '' : ` p ${p_holm.toFixed(3)}`}`
}
