import type { Engine } from '../engine/engine.ts'
import type { TrainSpec } from '../schemas/training.ts'
import { follow } from './follow.ts'
import type { Emit, Grade } from './follow.ts'

/** What is written down of a part of a loop when it begins. */
export type About = {
  kind: TrainSpec['kind'] | 'label'
  config: Record<string, unknown>
  dataHash?: string
  output?: string
  parentCheckpoint?: string
}

/** What a part's work may use. */
export type Part = {
  emit: Emit
  /** trains to the end of `spec`; gives the metrics of every step, also of those done before an interruption */
  train(spec: TrainSpec, onStep: OnStep): Promise<Record<string, number>[]>
}
export type OnStep = (done: number, steps: number, metrics: Record<string, number>) => void

type Progress = (stage: string, done: number, total: number, note?: string) => void
type Json = Record<string, unknown>
/**
 * A loop is a row of parts with names. A part is done once: where a loop goes on after an interruption, or begins as a
 * branch of another, the result of a part that was done before comes from the record. So results are plain JSON, name
 * the files that were made, which for a branch lie elsewhere, and a part depends on nothing but the parts before it.
 */
export type Parts = {
  /** a part that is a run of its own */
  run<T extends Json>(name: string, about: About, work: (part: Part) => Promise<T>): Promise<T>
  /** a short part: only its result is kept, in the loop's log */
  note<T extends Json>(name: string, work: () => Promise<T>): Promise<T>
}

/** The iteration that a part belongs to: `2/label` → 2; parts before the first iteration are of 0. */
export const iterationOf = (name: string): number =>
  name.includes('/') ? Number(name.slice(0, name.indexOf('/'))) : 0

/** Parts of a loop that nobody records: each is done, and no more. */
export const unrecorded = (
  engine: Engine,
  { signal, grade }: { signal?: AbortSignal; grade?: Grade } = {},
): Parts => ({
  run: (_name, _about, work) => {
    const emit: Emit = () => Promise.resolve()
    return work({
      emit,
      train: (spec, onStep) => follow(engine.train(spec, signal), emit, { onStep, grade }),
    })
  },
  note: (_name, work) => work(),
})

/** Trains in a part of a loop and shows how far it is: steps `before` it and `all` of them are counted in. */
export function trainPart(
  world: { progress: Progress },
  part: Part,
  stage: string,
  spec: TrainSpec,
  before = 0,
  all?: number,
): Promise<Record<string, number>[]> {
  return part.train(spec, (done, steps, metrics) =>
    world.progress(stage, before + done, all ?? steps, describe(metrics)),
  )
}

const SHOWN = [
  'loss',
  'accuracy',
  'objective/scores',
  'objective/kl',
  'objective/helpfulness',
  'objective/safety',
  'gate/safety_share',
  'response/length',
  'gold/safe_and_helpful',
]
const describe = (metrics: Record<string, number>): string =>
  SHOWN.flatMap((name) => {
    const value = metrics[name]
    return value === undefined ? [] : [`${name.replace('objective/', '')} ${value.toFixed(2)}`]
  }).join(' · ')
