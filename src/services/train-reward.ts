import { createHash } from 'node:crypto'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { withCheckpoint } from '../engine/engine.ts'
import { LibraError } from '../errors.ts'
import { dataFigures, mixable, mixPairs, ownPairs } from '../rlaif/mix.ts'
import { awayFrom, calibrateReward, splitForCalibration } from '../rlaif/reward.ts'
import { checkRewardOptions } from '../schemas/training-options.ts'
import { filesOf, findModel, frozenReferences } from './catalog.ts'
import { calibrationReport } from './calibration-report.ts'
import { openPairsByAxis } from './data.ts'
import { trainExactly } from './exact.ts'
import { otherStarts } from './initialisation.ts'
import { writeReport } from './report.ts'
import type { Services } from './services.ts'
import type { Plan } from './start.ts'
import { register, runFolder, spread } from './trained.ts'
import type { Of } from './trained.ts'

/**
 * The model whose reference answers a helpfulness model is held against, by its id from here on (the role may be given to
 * another before the run goes on), and these. Throws `conflicting_options` for safety, `model_not_found`.
 */
async function referencesOf({ store }: Services, request: Of<'reward_model'>) {
  const { references: named, options } = request
  if (options.axis === 'safety') {
    if (named === undefined) return { references: null }
    throw new LibraError(
      'conflicting_options',
      'references: helpfulness alone is held against reference answers',
      { details: { field: 'references' } },
    )
  }
  const yardstick =
    named === undefined
      ? (await store.roles()).helpfulness
      : (await findModel(store, named, 'references')).id
  return { yardstick, references: await frozenReferences(store, yardstick) }
}

export async function planRewardModel(
  services: Services,
  request: Of<'reward_model'>,
): Promise<Plan> {
  const model = await findModel(services.store, request.model)
  const start = spread(filesOf(model))
  const { options } = request
  const { axis, seed } = options
  checkRewardOptions(options)
  const { yardstick, references } = await referencesOf(services, request)
  const all = await openPairsByAxis(services, request.training_file, axis)
  const pairs = ownPairs(all[axis], axis, request.mix)
  if (pairs.length < 5)
    throw new LibraError(
      'too_little_data',
      `${pairs.length} pairs are too few: one in five calibrates the model, so give at least five`,
    )
  // what calibrates it is of its own axis, whatever else is mixed in for it to learn from
  const { training: own, held, shared } = splitForCalibration(pairs, seed)
  const cut = new Set(pairs)
  const others =
    request.mix === undefined
      ? []
      : mixable(Object.values(all).flat(), axis).filter((row) => !cut.has(row))
  const apart = awayFrom(others, shared ? [] : held.map(({ prompt }) => prompt))
  // where conversations are too few to be cut nothing can be kept apart
  const known = shared ? [...own, ...apart] : awayFrom([...own, ...apart], references ?? [])
  if (!known.some((row) => row.axis === axis))
    throw new LibraError(
      'too_little_data',
      'every pair is of a conversation that the reference answers are of: give pairs of others',
    )
  const { rows: training, left_out } = mixPairs(known, axis, request.mix, seed)
  const sft = filesOf(await findModel(services.store, 'reference'))
  const warnings = otherStarts({ [axis]: start }, sft)
  if (shared)
    warnings.push(
      'the pairs are of fewer than five conversations, so the pairs that calibrate the model share theirs with those that it learned from: its accuracy and calibration flatter it',
    )
  const text = training.map((row) => JSON.stringify(row)).join('\n')
  const dataHash = createHash('sha256').update(text).digest('hex')
  const unused = own.length + apart.length - known.length
  if (unused > 0)
    warnings.push(
      `${unused} pairs train nothing: they are of conversations of the reference answers that helpfulness is held against`,
    )
  return {
    request: {
      ...{ ...request, model: model.id },
      ...(yardstick === undefined ? {} : { references: yardstick }),
    },
    seed,
    dataHash,
    parentCheckpoint: start.adapters.at(-1) ?? start.base,
    async work(context) {
      const folder = await runFolder(services, context)
      const data = join(folder, 'pairs.jsonl')
      await writeFile(data, text)
      const [raw, output] = [join(folder, 'raw'), join(folder, 'model')]
      const spec = { kind: 'reward_model', output: raw, model: start, data, options } as const
      const metrics = await trainExactly(services, context, spec, options.checkpoint_every)
      await rm(output, { recursive: true, force: true }) // of a run that ended while it calibrated
      const { serving } = services
      const trained = withCheckpoint(start, raw, options.lora)
      const fitted = await calibrateReward(serving, trained, output, {
        ...{ axis, held, dataHash, seed, references },
      })
      const told = [...warnings, ...fitted.warnings]
      const report = await calibrationReport(services, context.id, fitted)
      await writeReport(services, context.id, {
        ...{ ...report, warnings: [...told, ...(report.warnings ?? [])] },
      })
      const files = withCheckpoint(start, output, options.lora)
      return {
        model: await register(services, context, request.suffix ?? axis, {
          kind: 'reward_model',
          axis,
          ...files,
        }),
        ...metrics,
        data: dataFigures(training, left_out),
        held_out_accuracy: fitted.accuracy,
        held_out_pairs: fitted.compared,
        held_out_ties: held.length - fitted.compared,
        calibration: fitted.calibration,
        warnings: told,
      }
    },
  }
}
