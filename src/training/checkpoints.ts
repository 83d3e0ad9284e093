import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { z } from 'zod'
import { LibraError } from '../errors.ts'
import type { CheckpointPlan } from '../schemas/training.ts'
import { verifyFolder } from '../weights/atomic.ts'
import { readJson, writeJson } from '../weights/json.ts'
import { openSafetensors, writeSafetensors } from '../weights/safetensors.ts'
import type { OptimizerState } from './optimizer.ts'

/** A step of a run and the folder that holds all that the steps after it need. */
export type Checkpoint = { step: number; folder: string }

/** The one before the newest is there as well: a run's log may be a step behind the files. */
const KEPT = 2
const NAME = /^step-(\d+)$/
const nameOf = (step: number): string => `step-${String(step).padStart(8, '0')}`

async function checkpointsIn(folder: string): Promise<Checkpoint[]> {
  const names = await readdir(folder).catch(() => [])
  return names
    .flatMap((name) => {
      const step = NAME.exec(name)?.[1]
      return step === undefined ? [] : [{ step: Number(step), folder: join(folder, name) }]
    })
    .sort((a, b) => b.step - a.step)
}

/**
 * The newest sound checkpoint of an interrupted run that its log knows the steps of. Those that the log does not know
 * and those that are damaged are removed, each damaged one with a warning.
 */
export async function lastCheckpoint(
  plan: CheckpointPlan | null | undefined,
): Promise<{ last: Checkpoint | null; warnings: string[] }> {
  const warnings: string[] = []
  if (plan == null) return { last: null, warnings }
  for (const checkpoint of await checkpointsIn(plan.folder)) {
    if (checkpoint.step <= plan.recorded) {
      try {
        await verifyFolder(checkpoint.folder)
        return { last: checkpoint, warnings }
      } catch (error) {
        const reason = error instanceof LibraError ? error.message : String(error)
        warnings.push(`the checkpoint of step ${checkpoint.step} is left out: ${reason}`)
      }
    }
    await rm(checkpoint.folder, { recursive: true, force: true })
  }
  return { last: null, warnings }
}

/** Has `save` write a checkpoint of a step, all or nothing; then the oldest go. */
export async function keepCheckpoint(
  plan: CheckpointPlan,
  step: number,
  save: (folder: string) => Promise<void>,
): Promise<void> {
  const folder = join(plan.folder, nameOf(step))
  await rm(folder, { recursive: true, force: true })
  await save(folder)
  for (const old of (await checkpointsIn(plan.folder)).slice(KEPT))
    await rm(old.folder, { recursive: true, force: true })
}

const OPTIMIZER = 'optimizer.safetensors'
export const STATE = 'trainer_state.json'

/** Writes an optimiser's moments beside the weights. */
export const writeOptimizer = (folder: string, { tensors }: OptimizerState): Promise<void> =>
  writeSafetensors(join(folder, OPTIMIZER), tensors)

/** Reads moments back; `step` is the optimiser's own count. */
export function readOptimizer(folder: string, step: number): OptimizerState {
  const file = openSafetensors(join(folder, OPTIMIZER))
  try {
    return { step, tensors: Object.fromEntries(file.names.map((name) => [name, file.read(name)])) }
  } finally {
    file.close()
  }
}

/** Reads trainer_state.json. Throws `damaged_checkpoint` naming the file and the field. */
export async function readState<T extends z.ZodType>(
  folder: string,
  schema: T,
): Promise<z.output<T>> {
  const file = join(folder, STATE)
  const state = schema.safeParse(await readJson(file))
  if (state.success) return state.data
  const { path, message } = state.error.issues[0] ?? { path: [], message: 'invalid' }
  throw new LibraError('damaged_checkpoint', `${file}: ${path.join('.')}: ${message}`)
}

export const writeState = (folder: string, state: Record<string, unknown>): Promise<void> =>
  writeJson(join(folder, STATE), state)
