import { z } from 'zod'
import { LibraError } from '../errors.ts'
import type { Gradients } from '../model/llama.ts'
import type { CheckpointPlan, TrainEvent } from '../schemas/training.ts'
import type { LoraOptions, OptimizerOptions } from '../schemas/training-options.ts'
import { loadTokenizer } from '../text/tokenizer.ts'
import type { Tokenizer } from '../text/tokenizer.ts'
import {
  keepCheckpoint,
  lastCheckpoint,
  readOptimizer,
  readState,
  writeOptimizer,
  writeState,
} from './checkpoints.ts'
import type { Checkpoint } from './checkpoints.ts'
import { createAdamW, learningRateAt } from './optimizer.ts'
import { guardedStep, rowsOfStep, tokenLoss } from './tokens.ts'
import type { Sequence } from './tokens.ts'
import { loadTrainee } from './trainee.ts'
import type { Trainee } from './trainee.ts'

export type StepOptions = {
  seed: number
  epochs: number
  batch_size: number
  optimizer: OptimizerOptions
}

/** What one step's rows teach. The gradients become the optimiser's. */
export type Learned = { gradients: Gradients; metrics: Record<string, number> }

/** Where an interrupted run goes on, and how it writes what the next one would need. */
export type Resumable = {
  plan: CheckpointPlan | null
  last: Checkpoint | null
  warnings: string[]
}

export async function resumable(plan: CheckpointPlan | null | undefined): Promise<Resumable> {
  return { plan: plan ?? null, ...(await lastCheckpoint(plan)) }
}

/** A model that trains, or goes on from the last checkpoint of its run, with its tokenizer. */
export async function openTrainee(
  spec: {
    model: Parameters<typeof loadTrainee>[0]
    options: { lora: LoraOptions | null; seed: number }
    checkpoints?: CheckpointPlan | null | undefined
  },
  heads: readonly string[],
): Promise<{ tokenizer: Tokenizer; resume: Resumable; trainee: Trainee }> {
  const tokenizer = await loadTokenizer(spec.model.base)
  const resume = await resumable(spec.checkpoints)
  const { lora, seed } = spec.options
  const trainee = await loadTrainee(spec.model, lora, heads, seed, resume.last?.folder)
  return { tokenizer, resume, trainee }
}

const StepState = z.object({
  optimizer_step: z.int().min(0),
  /** steps in a row whose gradients were not finite */
  bad_steps: z.int().min(0),
})

/**
 * Steps of an optimiser over rows of a data set, an event of metrics for each. With a plan of checkpoints an interrupted
 * run goes on from its last one: its weights must be in `trainee` already; optimiser, position in the data and schedule
 * are taken up here, so that what follows is to the bit what an uninterrupted run does.
 */
export async function* trainSteps(
  trainee: Pick<Trainee, 'parameters' | 'save'>,
  n: number,
  options: StepOptions,
  learn: (rows: number[]) => Learned,
  { plan, last, warnings }: Resumable,
  signal?: AbortSignal,
): AsyncGenerator<TrainEvent> {
  const size = Math.min(options.batch_size, n)
  const steps = Math.max(1, Math.ceil((options.epochs * n) / size))
  const optimizer = createAdamW(trainee.parameters, options.optimizer)
  const bad = { count: 0 }
  try {
    if (last !== null) {
      const state = await readState(last.folder, StepState)
      optimizer.load(readOptimizer(last.folder, state.optimizer_step))
      bad.count = state.bad_steps
      yield { type: 'resumed', step: last.step, done: last.step, steps }
    } else yield { type: 'started', steps, tokens: null }
    for (const message of warnings) yield { type: 'warning', message }
    for (let step = last?.step ?? 0; step < steps; step++) {
      signal?.throwIfAborted()
      const { gradients, metrics } = learn(rowsOfStep(n, options.batch_size, step, options.seed))
      const lr = learningRateAt(step, steps, options.optimizer)
      const grad_norm = guardedStep(optimizer, gradients, lr, bad)
      const done = step + 1
      yield { type: 'metrics', step: done, metrics: { ...metrics, grad_norm, lr } }
      if (plan !== null && done % plan.every === 0 && done < steps)
        await keepCheckpoint(plan, done, async (folder) => {
          const state = optimizer.state()
          const extra = async (inside: string): Promise<void> => {
            await writeOptimizer(inside, state)
            await writeState(inside, { optimizer_step: state.step, bad_steps: bad.count })
          }
          await trainee.save(folder, { role: 'checkpoint' }, { extra })
        })
      await new Promise(setImmediate)
    }
  } finally {
    optimizer.dispose()
  }
}

type TokenOptions = StepOptions & { micro_batch_tokens: number; gradient_checkpointing: boolean }

/** Trains on the counted tokens of sequences. Throws `empty_data`. */
export function trainTokens(
  trainee: Pick<Trainee, 'model' | 'trainable' | 'parameters' | 'save'>,
  sequences: readonly Sequence[],
  options: TokenOptions,
  resume: Resumable,
  signal?: AbortSignal,
): AsyncGenerator<TrainEvent> {
  if (sequences.length === 0) throw new LibraError('empty_data', 'the data set holds no example')
  const { micro_batch_tokens: micro, gradient_checkpointing: checkpoint } = options
  const { model, trainable } = trainee
  const learn = (rows: number[]): Learned => {
    const { loss, tokens, gradients } = tokenLoss(
      ...([model, sequences, rows, trainable, micro, checkpoint] as const),
    )
    return { gradients, metrics: { loss, num_tokens: tokens } }
  }
  return trainSteps(trainee, sequences.length, options, learn, resume, signal)
}
