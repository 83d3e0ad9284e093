import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { appendFile, mkdir, readFile, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { withCheckpoint } from '../engine/engine.ts'
import type { Engine, ModelFiles } from '../engine/engine.ts'
import type { HeldOutPair } from '../evaluation/pair-reliability.ts'
import { follow } from '../rlaif/follow.ts'
import { writeRows } from '../rlaif/rows.ts'
import { AXES, Axis } from '../schemas/feedback.ts'
import { RewardModelOptions, SftOptions } from '../schemas/training-options.ts'
import type { TrainSpec } from '../schemas/training.ts'
import type { HumanData } from '../text/data-folder.ts'
import { parseRows, wholeLines } from '../text/rows.ts'
import { FOLDS, foldOf, scoreBoth, scoreHeldOut, splitOf } from './cross-validation.ts'
import type { HeldOut } from './cross-validation.ts'
import { pairsOf } from './human-models.ts'

/**
 * Reward models of human pairs under five-fold cross-validation, over several seeds, on one base that a run of the loop
 * has left: what each seed reaches, and what they reach together.
 */
export type HumanStudyRequest = {
  base: string
  seeds: number
  /** options of the reward models, over the schema's defaults */
  reward: Record<string, unknown>
  /** options of an SFT on the chosen answers of the training folds, from which both reward models start; null: the base */
  sft: Record<string, unknown> | null
  /** JSON Lines of what is held out; a study goes on from what is there */
  file: string
  /** one of several processes takes every `parts`-th fold */
  part: number
  parts: number
}

const Row = z.object({
  settings: z.string().describe('what they were trained with and on, as JSON'),
  seed: z.int(),
  axis: Axis,
  fold: z.int(),
  chosen: z.array(z.number()),
  rejected: z.array(z.number()),
})
type Row = z.infer<typeof Row>

/** Trains and scores what the file does not hold yet. `told`: after each training. */
export async function studyHumanPairs(
  engine: Engine,
  data: HumanData,
  request: HumanStudyRequest,
  told: (text: string) => void,
): Promise<void> {
  const { seeds, file, part, parts } = request
  const pairs = pairsOf(data)
  const settings = await settingsOf(engine, data, request)
  await mkdir(dirname(file), { recursive: true })
  const work = join(dirname(file), `study-human-${part}`)
  await mkdir(work, { recursive: true })
  const train = async (stage: string, spec: TrainSpec): Promise<void> => {
    await rm(spec.output, { recursive: true, force: true }) // of a study that was killed before its row
    const metrics = await follow(engine.train(spec), async () => {})
    told(`${stage}: ${metrics.length} steps, loss ${metrics.at(-1)?.['loss']?.toFixed(3) ?? ''}`)
  }
  const before = await rowsIn(file)
  for (const fold of FOLDS.filter((each) => each % parts === part - 1)) {
    const { held, training } = splitOf(pairs, fold)
    const missing = Array.from({ length: seeds }, (_, i) => i + 1)
      .flatMap((seed) => AXES.map((axis) => ({ settings, seed, axis, fold })))
      .filter((key) => !before.some((row) => isOf(row, key)))
    if (missing.length === 0) continue
    const start = await startOf(fold)
    // models on one base score together; those of all weights share nothing, and are large
    const alone = request.reward['lora'] === null
    for (const keys of alone ? missing.map((key) => [key]) : [missing]) {
      const models: ModelFiles[] = []
      const outputs: string[] = []
      for (const { seed, axis } of keys) {
        const options = RewardModelOptions.parse({ ...request.reward, axis, seed })
        const output = join(work, `${axis}-${fold}-${seed}`)
        await train(`fold ${fold + 1}, seed ${seed}, ${axis}`, {
          ...{ kind: 'reward_model', output, model: start, options },
          data: (await writeRows(join(work, 'pairs.jsonl'), training[axis])).path,
        })
        models.push(withCheckpoint(start, output, options.lora))
        outputs.push(output)
      }
      const scores = await scoreBoth(engine, models, held)
      const rows = keys.map((key, i) => JSON.stringify({ ...key, ...scores[i] }))
      // the newline in front ends a line that was cut off
      await appendFile(file, `\n${rows.join('\n')}`)
      for (const output of outputs) await rm(output, { recursive: true })
    }
  }
  await rm(work, { recursive: true })

  /** What the reward models of a fold start from. */
  async function startOf(fold: number): Promise<Start> {
    const base = { base: request.base, adapters: [] }
    if (request.sft === null) return base
    const options = SftOptions.parse({ seed: 1, ...request.sft })
    const output = join(work, `sft-${fold}`)
    const dialogues = AXES.flatMap((axis) => pairs[axis])
      .filter((pair) => foldOf(pair) !== fold)
      .map(({ prompt, chosen }) => ({
        messages: [...prompt, { role: 'assistant' as const, content: chosen }],
        ended: true,
      }))
    await train(`fold ${fold + 1}, SFT`, {
      ...{ kind: 'sft', role: 'policy', output, model: base, options },
      data: (await writeRows(join(work, 'dialogues.jsonl'), dialogues)).path,
    })
    return withCheckpoint(base, output, options.lora)
  }
}

type Start = { base: string; adapters: string[] }
type Key = Pick<Row, 'settings' | 'seed' | 'axis' | 'fold'>
const isOf = (row: Row, key: Key): boolean =>
  row.settings === key.settings &&
  row.seed === key.seed &&
  row.axis === key.axis &&
  row.fold === key.fold

async function settingsOf(
  engine: Engine,
  data: HumanData,
  { base, reward, sft }: HumanStudyRequest,
): Promise<string> {
  const { version } = await engine.describe({ base, adapters: [] })
  const pairs = createHash('sha256')
    .update(JSON.stringify(pairsOf(data)))
    .digest('hex')
  return JSON.stringify({ base: version, pairs, reward, sft })
}

/** What a study has written. Throws `invalid_data` naming a line that is whole but no such row. */
async function rowsIn(file: string): Promise<Row[]> {
  const text = existsSync(file) ? await readFile(file, 'utf8') : ''
  return parseRows(wholeLines(text).join('\n'), file, Row)
}

/** What the file holds of these settings, by seed; only seeds of which all folds are there. */
export async function heldOutOf(
  engine: Engine,
  data: HumanData,
  request: HumanStudyRequest,
): Promise<{ seed: number; heldOut: HeldOut }[]> {
  const settings = await settingsOf(engine, data, request)
  const rows = (await rowsIn(request.file)).filter((row) => row.settings === settings)
  const pairs = pairsOf(data)
  const found = []
  for (const seed of [...new Set(rows.map((row) => row.seed))].sort((a, b) => a - b)) {
    const rowOf = (axis: Axis, fold: number): Row | undefined =>
      rows.find((row) => isOf(row, { settings, seed, axis, fold }))
    if (FOLDS.some((fold) => AXES.some((axis) => rowOf(axis, fold) === undefined))) continue
    const heldOut = await scoreHeldOut(pairs, FOLDS, (axis, fold) =>
      Promise.resolve(rowOf(axis, fold) ?? { chosen: [], rejected: [] }),
    )
    found.push({ seed, heldOut })
  }
  return found
}

/** Several seeds' models as one: the mean of their logits, each in standard deviations of its own differences. */
export function ensembleOf(all: readonly HeldOut[]): HeldOut {
  const of = (axis: Axis): HeldOutPair[] => {
    const scales = all.map((one) => {
      const squares = one[axis].map(({ chosen, rejected }) => (chosen - rejected) ** 2)
      return Math.sqrt(squares.reduce((a, b) => a + b, 0) / squares.length)
    })
    return (all[0]?.[axis] ?? []).map((row, i) => {
      const mean = (answer: 'chosen' | 'rejected'): number =>
        all.reduce((sum, one, k) => sum + (one[axis][i]?.[answer] ?? NaN) / (scales[k] ?? 1), 0) /
        all.length
      return { ...row, chosen: mean('chosen'), rejected: mean('rejected') }
    })
  }
  return { helpfulness: of('helpfulness'), safety: of('safety') }
}
