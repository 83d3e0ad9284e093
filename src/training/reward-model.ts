import { dispose } from '../tensor/backend.ts'
import { read } from '../tensor/ops.ts'
import { packRows } from '../model/batch.ts'
import { accumulate, scalarHead, scalarHeadBackward, SCORE_HEAD } from '../model/heads.ts'
import { backward, disposeTape, forward, hiddenStates } from '../model/llama.ts'
import type { Gradients, Llama, Trainable } from '../model/llama.ts'
import { LibraError } from '../errors.ts'
import { PreferenceRow } from '../schemas/feedback.ts'
import { checkRewardOptions } from '../schemas/training-options.ts'
import type { RewardModelOptions } from '../schemas/training-options.ts'
import type { TrainEvent, TrainSpec } from '../schemas/training.ts'
import { scoredSequence } from './data.ts'
import { readRows } from '../text/rows.ts'
import { absoluteSafety, bradleyTerry, centering, MARGINS } from './losses.ts'
import { openTrainee, trainSteps } from './steps.ts'
import type { Learned } from './steps.ts'

type Spec = Extract<TrainSpec, { kind: 'reward_model' }>

type PairLoss = {
  loss: number
  accuracy: number
  margin: number
  mean: number
  gradients: Gradients
}

/**
 * One step's loss over pairs: Bradley–Terry with the margin of the strength (Llama 2, eq. 2), plus, on rows that
 * carry absolute labels, binary cross-entropy per answer. sequences: chosen at 2i, rejected at 2i + 1.
 */
export function pairLoss(
  model: Llama,
  sequences: readonly number[][],
  pairs: readonly PreferenceRow[],
  rows: readonly number[],
  options: RewardModelOptions,
  trainable: Trainable,
): PairLoss {
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
  const d = new Map<number, number>()
  const result = { loss: 0, accuracy: 0, margin: 0, mean: 0 }
  for (const row of rows) {
    const pair = pairs[row]
    if (pair === undefined) continue
    const chosen = scores.get(2 * row) ?? NaN
    const rejected = scores.get(2 * row + 1) ?? NaN
    const p = pair.probability ?? 1
    const level = MARGINS[options.margin][pair.strength ?? 'negligibly_better']
    const m = pair.probability == null || options.margin_on_soft_labels ? level : 0
    let { loss, dChosen, dRejected } = bradleyTerry(chosen, rejected, m, p)
    const centre = centering(chosen, rejected)
    loss += options.centering * centre.loss
    dChosen += options.centering * centre.dChosen
    dRejected += options.centering * centre.dRejected
    // of a safety model alone: what is safe says nothing of what helps
    const weight = options.axis === 'safety' ? options.auxiliary_weight : 0
    const absolute = (logit: number, safe: boolean | null | undefined): number => {
      if (safe == null) return 0
      const { loss: own, d } = absoluteSafety(logit, safe)
      loss += weight * own
      return weight * d
    }
    dChosen += absolute(chosen, pair.chosen_safe)
    dRejected += absolute(rejected, pair.rejected_safe)
    const n = rows.length
    result.loss += loss / n
    const undecided = chosen === rejected || p === 0.5
    result.accuracy += (undecided ? 0.5 : chosen > rejected === p > 0.5 ? 1 : 0) / n
    result.margin += (chosen - rejected) / n
    result.mean += (chosen + rejected) / 2 / n
    d.set(2 * row, dChosen / n)
    d.set(2 * row + 1, dRejected / n)
  }
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

/** Raw scores of sequences, in order. */
export function scoreSequences(
  model: Llama,
  sequences: readonly number[][],
  microTokens: number,
): Float64Array {
  const scores = new Float64Array(sequences.length)
  for (const pass of packRows(sequences, microTokens, { shared: true })) {
    const hidden = hiddenStates(model, pass, { last: true })
    const head = scalarHead(model, SCORE_HEAD, hidden, pass.ends)
    read(head).forEach((r, i) => (scores[pass.rows[i] ?? 0] = r))
    dispose([hidden, head])
  }
  return scores
}

/** Trains a reward model of one axis: a score head on a new adapter over a frozen trunk, or on all weights. */
export async function* rewardModel(spec: Spec, signal?: AbortSignal): AsyncGenerator<TrainEvent> {
  const { options } = spec
  checkRewardOptions(options)
  const { tokenizer, resume, trainee } = await openTrainee(spec, [SCORE_HEAD])
  try {
    const pairs = (await readRows(spec.data, PreferenceRow)).filter(
      (row) => row.axis === options.axis,
    )
    if (pairs.length === 0)
      throw new LibraError('empty_data', `${spec.data}: no pair of axis ${options.axis}`)
    const context = Math.min(options.max_length ?? Infinity, trainee.model.config.context)
    const sequences = pairs.flatMap((row) =>
      [row.chosen, row.rejected].map((answer) =>
        scoredSequence(tokenizer, row.prompt, answer, context),
      ),
    )
    const learn = (rows: number[]): Learned => {
      const { gradients, loss, accuracy, margin, mean } = pairLoss(
        ...([trainee.model, sequences, pairs, rows, options, trainee.trainable] as const),
      )
      return { gradients, metrics: { loss, accuracy, margin, mean_reward: mean } }
    }
    yield* trainSteps(trainee, pairs.length, options, learn, resume, signal)
    const window = options.max_length == null ? {} : { max_length: options.max_length }
    await trainee.save(spec.output, { role: 'reward_model', axis: options.axis, ...window })
    yield { type: 'done', output: spec.output, summary: {} }
  } finally {
    trainee.dispose()
  }
}
