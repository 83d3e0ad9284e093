import { AXES } from '../schemas/feedback.ts'
import { studyContrasts } from '../services/contrast-study.ts'
import { filesOf, findModel } from '../services/catalog.ts'
import { openJudge } from '../services/judges.ts'
import { recordRun } from '../services/runs.ts'
import { job } from './rlaif.ts'
import { tableOf } from './table.ts'

const SEED = 1
type Flags = { judge: string; helpfulness: string; safety: string; pairs: number }

/** Prints what a judge and two reward models tell apart on the starter world, by the thing in which answers differ. */
export async function contrastStudy({ judge: name, pairs, ...named }: Flags): Promise<void> {
  await job(async (services) => {
    const { store, serving } = services
    const judge = await openJudge(services, name)
    const [helpfulness, safety] = await Promise.all(
      AXES.map(async (axis) => filesOf(await findModel(store, named[axis]))),
    )
    if (helpfulness === undefined || safety === undefined) throw new Error('two axes, two models')
    const config = { target: 'contrasts', judge: name, ...named, pairs }
    return recordRun(store, { kind: 'evaluation', config, seed: SEED }, async ({ signal }) => {
      const options = { seed: SEED, n: pairs, signal }
      const study = await studyContrasts(serving, judge, { helpfulness, safety }, options)
      const table = tableOf([
        ...['the better answer is or has', 'axis', 'judge', 'reward model', 'difference', 'n'],
      ])
      for (const { type, axis, judge: judged, model, difference } of study.rows) {
        const { value, low, high } = difference
        const by = [value, low, high].map((x) => (x >= 0 ? '+' : '') + x.toFixed(3))
        table.push([
          ...[type, axis, judged.value.toFixed(3), model.value.toFixed(3)],
          ...[`${by[0]} [${by[1]}, ${by[2]}]`, judged.n],
        ])
      }
      const { value, low, high, n } = study.auroc
      console.log(table.toString())
      console.log(
        `AUROC of the safety model, recipes against answers to look-alikes: ${value.toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}], n = ${n}`,
      )
      return study
    })
  })
}
