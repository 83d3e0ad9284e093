import { read } from '../tensor/ops.ts'
import { packRows } from '../model/batch.ts'
import { accumulate, scalarHead, scalarHeadBackward, SCORE_HEAD } from '../model/heads.ts'
import { backward, disposeTape, forward, hiddenStates } from '../model/llama.ts'
import type { Gradients, Llama, Trainable } from '../model/llama.ts'
import { isReadout, readoutScores } from '../model/readout.ts'
import type { Scored } from '../model/readout.ts'
import { LibraError } from '../errors.ts'
import { PreferenceRow } from '../schemas/feedback.ts'
import { checkRewardOptions } from '../schemas/training-options.ts'
import type { RewardModelOptions } from '../schemas/training-options.ts'
import type { TrainEvent, TrainSpec } from '../schemas/training.ts'
import { scoredSequence } from './data.ts'
import { readRows } from '../text/rows.ts'
import { lossOfScores } from './pair-loss.ts'
import type { PairLoss } from './pair-loss.ts'
import { layersOf, NO_LORA, READOUT_HEADS, readoutStep, trunkHash } from './readout.ts'
import type { Features } from './readout.ts'
import { openTrainee, trainSteps } from './steps.ts'
import type { Learned } from './steps.ts'
import type { Trainee } from './trainee.ts'

type Spec = Extract<TrainSpec, { kind: 'reward_model' }>

/** The loss of one step's pairs by a trunk that learns, and its gradients. sequences: chosen at 2i, rejected at 2i + 1. */
export function pairLoss(
  model: Llama,
  sequences: readonly (readonly number[])[],
  pairs: readonly PreferenceRow[],
  rows: readonly number[],
  options: RewardModelOptions,
  trainable: Trainable,
): PairLoss & { gradients: Gradients } {
  // 1. scores of all answers of the step, pass by pass, kept with what their gradients need
  const answers = rows.flatMap((row) => [2 * row, 2 * row + 1])
  const scores = new Map<number, number>()
  const passes = packRows(sequences, options.micro_batch_tokens, { order: answers, shared: true })
  const keepsTapes = passes.length === 1
  const score = (pass: (typeof passes)[number]) => {
    const tape = forward(model, pass, { last: true, checkpoint: options.gradient_checkpointing })
    const head = scalarHead(model, SCORE_HEAD, tape.hidden, pass.ends)
    read(head).forEach((r, i) => scores.set(pass.rows[i] ?? -1, r))
    head.dispose()
    return tape
  }
  const tapes = passes.map((pass) => {
    if (keepsTapes) return score(pass)
    disposeTape(score(pass)) // several passes: the forward is computed again, so memory holds one at a time
    return null
  })
  // 2. losses on the scores
  const { d, ...result } = lossOfScores(scores, pairs, rows, options)
  // 3. gradients
  const gradients: Gradients = new Map()
  passes.forEach((pass, i) => {
    const tape =
      tapes[i] ?? forward(model, pass, { last: true, checkpoint: options.gradient_checkpointing })
    const part: Gradients = new Map()
    const weights = Float32Array.from(pass.rows, (row) => d.get(row) ?? 0)
    const dHidden = scalarHeadBackward(model, SCORE_HEAD, tape.hidden, pass.ends, weights, part)
    accumulate(gradients, part)
    accumulate(gradients, backward(model, tape, dHidden, trainable))
    disposeTape(tape)
    dHidden.dispose()
  })
  return { ...result, gradients }
}

/** Raw scores of what is read, in order. */
export function scoreSequences(
  model: Llama,
  rows: readonly Scored[],
  microTokens: number,
): Float64Array {
  const scores = new Float64Array(rows.length)
  const readout = isReadout(model)
  const sequences = rows.map(({ ids }) => ids)
  for (const pass of packRows(sequences, microTokens, { shared: true })) {
    const hidden = hiddenStates(model, pass, { last: !readout })
    if (readout)
      readoutScores(model, hidden, pass, rows).forEach((r, i) => (scores[pass.rows[i] ?? 0] = r))
    else {
      const head = scalarHead(model, SCORE_HEAD, hidden, pass.ends)
      read(head).forEach((r, i) => (scores[pass.rows[i] ?? 0] = r))
      head.dispose()
    }
    hidden.dispose()
  }
  return scores
}

/** Trains a reward model of one axis: a score head on a new adapter over a frozen trunk, on all weights, or alone. */
export async function* rewardModel(
  spec: Spec,
  features: Features,
  signal?: AbortSignal,
): AsyncGenerator<TrainEvent> {
  const { options } = spec
  checkRewardOptions(options)
  const reads = options.readout !== null
  const { tokenizer, resume, trainee } = reads
    ? await openTrainee({ ...spec, options: { ...options, lora: NO_LORA } }, READOUT_HEADS)
    : await openTrainee(spec, [SCORE_HEAD])
  try {
    const pairs = (await readRows(spec.data, PreferenceRow)).filter(
      (row) => row.axis === options.axis,
    )
    if (pairs.length === 0)
      throw new LibraError('empty_data', `${spec.data}: no pair of axis ${options.axis}`)
    const context = Math.min(options.max_length ?? Infinity, trainee.model.config.context)
    const scored = pairs.flatMap((row) =>
      [row.chosen, row.rejected].map((answer) =>
        scoredSequence(tokenizer, row.prompt, answer, context),
      ),
    )
    const layers = reads ? { layers: layersOf(options, trainee.model) } : {}
    const learn =
      layers.layers === undefined
        ? trunkStep(trainee, scored, pairs, options)
        : readoutStep(
            trainee,
            { layers: layers.layers, trunk: await trunkHash(spec.model), features },
            ...([scored, pairs, options] as const),
          )
    yield* trainSteps(trainee, pairs.length, options, learn, resume, signal)
    const window = options.max_length == null ? {} : { max_length: options.max_length }
    const card = { role: 'reward_model', axis: options.axis, ...window, ...layers }
    await trainee.save(spec.output, card)
    yield { type: 'done', output: spec.output, summary: {} }
  } finally {
    trainee.dispose()
  }
}

/** One step of an adapter or of all weights. */
function trunkStep(
  { model, trainable }: Pick<Trainee, 'model' | 'trainable'>,
  scored: readonly Scored[],
  pairs: readonly PreferenceRow[],
  options: RewardModelOptions,
): (rows: number[]) => Learned {
  const sequences = scored.map(({ ids }) => ids)
  return (rows) => {
    const { gradients, loss, accuracy, margin, mean } = pairLoss(
      ...([model, sequences, pairs, rows, options, trainable] as const),
    )
    return { gradients, metrics: { loss, accuracy, margin, mean_reward: mean } }
  }
}
