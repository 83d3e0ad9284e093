import { DialogueRow } from '../schemas/feedback.ts'
import type { TrainEvent, TrainSpec } from '../schemas/training.ts'
import { dialogueSequence } from './data.ts'
import { readRows } from '../text/rows.ts'
import { openTrainee, trainTokens } from './steps.ts'

type Spec = Extract<TrainSpec, { kind: 'sft' }>

/** Supervised fine-tuning on the assistant's tokens: a new adapter over a frozen trunk, or all weights. */
export async function* sft(spec: Spec, signal?: AbortSignal): AsyncGenerator<TrainEvent> {
  const { options } = spec
  const { tokenizer, resume, trainee } = await openTrainee(spec, [])
  try {
    const rows = await readRows(spec.data, DialogueRow)
    const sequences = rows.map((row) =>
      dialogueSequence(tokenizer, row, false, trainee.model.config.context),
    )
    yield* trainTokens(trainee, sequences, options, resume, signal)
    const { role = 'sft', compares_by } = spec
    const card = { role, ...(compares_by === undefined ? {} : { compares_by }) }
    await trainee.save(spec.output, card, { dtype: options.dtype })
    yield { type: 'done', output: spec.output, summary: {} }
  } finally {
    trainee.dispose()
  }
}
