import type { SerializedError } from '../../errors.ts'
import type { TrainEvent, TrainSpec } from '../../schemas/training.ts'
import type { Engine } from '../engine.ts'

/** Methods that take one value and give one back. */
export const CALLS = [
  'describe',
  'score',
  'scoreAll',
  'generate',
  'optionLogprobs',
  'likelihoods',
  'merge',
  'status',
  'peak',
  'close',
] as const
export type Call = (typeof CALLS)[number]

export type Request =
  | { id: number; call: Call; argument: unknown }
  | { id: number; call: 'train'; argument: TrainSpec }
  | { id: number; call: 'abort' }

export type Reply =
  | { ready: true }
  | { id: number; result: unknown }
  | { id: number; event: TrainEvent }
  | { id: number; end: true }
  | { id: number; error: SerializedError }

export type Calls = Pick<Engine, Call>
