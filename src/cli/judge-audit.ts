import { writeFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { LibraError } from '../errors.ts'
import { LabelledRow } from '../schemas/audit.ts'
import type { LabelledPair } from '../schemas/audit.ts'
import { AXES, Axis } from '../schemas/feedback.ts'
import { auditJudge } from '../services/audit.ts'
import { openJudge } from '../services/judges.ts'
import { recordRun } from '../services/runs.ts'
import { auditPairs } from '../starter/judge-data.ts'
import type { AuditRow } from '../store/store.ts'
import { readAll } from '../text/data-folder.ts'
import { job, printAudit } from './rlaif.ts'

type Flags = {
  judge: string
  axis?: string
  limit?: number
  clip?: string
  self?: string
  write?: string
}
type DataSet = { name: string; axis: Axis; pairs: LabelledPair[]; limit?: number | undefined }

const SEED = 1
/** Drawn on the starter world for each axis. */
const STARTER_PAIRS = 600

/** Audits a judge on files that people labelled, else on the starter world's test prompts, whose truth is known. */
export async function judgeAudit(files: readonly string[], flags: Flags): Promise<void> {
  const sets = files.length === 0 ? starterSets(flags) : await readSets(files, flags)
  const audits: Awaited<ReturnType<typeof auditJudge>>[] = []
  await job(async (services, progress) => {
    const clip = readClip(flags.clip)
    const judge = await openJudge(services, flags.judge, { fresh: true, ...(clip ? { clip } : {}) })
    const config = { target: 'judge', ...flags, data: sets.map(({ name }) => name) }
    const result = await recordRun(
      services.store,
      { kind: 'evaluation', config, seed: SEED },
      async ({ id: run, signal }) => {
        for (const { name, axis, pairs, limit } of sets) {
          const onProgress = (done: number, total: number): void =>
            progress(`audit ${name}`, done, total)
          const self = flags.self ?? null
          const input = { axis, pairs, limit, seed: SEED, run, self, onProgress, signal }
          audits.push(await auditJudge(services, judge, input))
        }
        return {
          audits: audits.map(({ audit: { id, axis, figures, objections } }) => ({
            id,
            axis,
            figures,
            objections,
          })),
        }
      },
    )
    audits.forEach(({ audit, warnings }, i) => {
      console.log(sets[i]?.name)
      printAudit(audit)
      for (const warning of warnings) console.error(`warning: ${warning}`)
    })
    return result
  })
  if (flags.write !== undefined)
    await writeFile(flags.write, committed(audits.map(({ audit }) => audit)))
}

/** As rows of the store that know nothing of this machine's runs. */
function committed(audits: readonly AuditRow[]): string {
  const round = (x: number): number => Math.round(x * 1e5) / 1e5
  const rows = audits.map((audit) => ({
    ...audit,
    id: `audit_starter_${audit.axis}_${audit.version.slice(0, 8)}`,
    judge: 'default', // the profile that it answers for out of the box
    run: null,
    // what has changed since an audit of this machine's says nothing elsewhere
    figures: audit.figures
      .filter(({ figure }) => !figure.startsWith('drift'))
      .map(({ figure, value, low, high, n }) => ({
        ...{ figure, value: round(value), low: round(low), high: round(high), n },
      })),
    probabilities: audit.probabilities.map((p) => (p === null ? null : round(p))),
  }))
  return `[\n${rows.map((row) => JSON.stringify(row)).join(',\n')}\n]\n`
}

const starterSets = ({ axis }: Flags): DataSet[] =>
  (axis === undefined ? AXES : [readAxis(axis)]).map((each) => ({
    ...{ name: `starter world, ${each}`, axis: each, pairs: auditPairs(SEED, STARTER_PAIRS, each) },
  }))

const readSets = (
  files: readonly string[],
  { axis = 'helpfulness', limit }: Flags,
): Promise<DataSet[]> =>
  Promise.all(
    files.map(async (file) => {
      const rows: LabelledPair[] = await readAll(file, LabelledRow)
      const mine = rows.filter((pair) => pair.axis === null || pair.axis === axis)
      return { name: basename(file), axis: readAxis(axis), pairs: mine, limit }
    }),
  )

function readAxis(text: string): Axis {
  const axis = Axis.safeParse(text)
  if (axis.success) return axis.data
  throw new LibraError('invalid_request', `--axis: ${text} is none of ${AXES.join(', ')}`)
}

function readClip(text: string | undefined): { prompt: number; answer: number } | null {
  if (text === undefined) return null
  const [prompt = NaN, answer = NaN] = text.split(',').map(Number)
  if (prompt > 0 && answer > 0) return { prompt, answer }
  throw new LibraError('invalid_request', `--clip: ${text} is not like 180,240`)
}
