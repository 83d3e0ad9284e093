import { LibraError } from '../errors.ts'
import { packRows } from '../model/batch.ts'
import type { Pack } from '../model/batch.ts'
import { accumulate, tokenLogprobs, tokenLogprobsBackward } from '../model/heads.ts'
import { backward, disposeTape, forward } from '../model/llama.ts'
import type { Gradients, Llama, Trainable } from '../model/llama.ts'
import { PreferenceRow } from '../schemas/feedback.ts'
import type { DpoOptions } from '../schemas/training-options.ts'
import type { TrainEvent, TrainSpec } from '../schemas/training.ts'
import { dispose } from '../tensor/backend.ts'
import { readRows } from '../text/rows.ts'
import { encodeChat } from '../text/template.ts'
import type { Tokenizer } from '../text/tokenizer.ts'
import { dpo } from './losses.ts'
import { openTrainee, trainSteps } from './steps.ts'
import { addUp, noLogprobs, sequenceLogprobs } from './sequence-logprobs.ts'
import type { SequenceLogprobs } from './sequence-logprobs.ts'
import { countedOf } from './tokens.ts'
import type { Sequence } from './tokens.ts'

type Spec = Extract<TrainSpec, { kind: 'dpo' }>

export type DpoLossOptions = Pick<
  DpoOptions,
  'beta' | 'label_smoothing' | 'length_normalization' | 'micro_batch_tokens'
> & { gradient_checkpointing?: boolean; temperature?: number }

export type DpoLoss = { gradients: Gradients; metrics: Record<string, number> }

/**
 * One step's DPO loss (losses.ts) over pairs, its gradients, and what it tells under TRL's names. sequences: chosen at
 * 2i, rejected at 2i + 1; reference: of every sequence; probabilities: P(chosen is better) of each pair.
 */
export function dpoLoss(
  model: Llama,
  sequences: readonly Sequence[],
  reference: SequenceLogprobs,
  probabilities: readonly number[],
  rows: readonly number[],
  options: DpoLossOptions,
  trainable: Trainable,
): DpoLoss {
  const { temperature = 1, gradient_checkpointing: checkpoint = false } = options
  // 1. log-probabilities of all answers of the step, pass by pass
  const answers = rows.flatMap((row) => [2 * row, 2 * row + 1])
  const passes = packRows(
    sequences.map(({ ids }) => ids),
    options.micro_batch_tokens,
    { order: answers, shared: true },
  )
  const through = (pass: Pack) => {
    const { positions, targets, owners } = countedOf(sequences, pass)
    const tape = forward(model, pass, { checkpoint })
    return {
      tape,
      owners,
      head: tokenLogprobs(model, tape.hidden, positions, targets, { temperature }),
    }
  }
  const own = noLogprobs(sequences.length)
  const kept = passes.map((pass) => {
    const made = through(pass)
    addUp(made.head, made.owners, own)
    if (passes.length === 1) return made
    disposeTape(made.tape) // several passes: the forward is computed again, so memory holds one at a time
    dispose([made.head])
    return null
  })
  // 2. the loss and its slope by each answer's log-probability
  const slopes = new Map<number, number>()
  const told = dpoMetrics()
  for (const row of rows) {
    const [chosen, rejected] = [2 * row, 2 * row + 1]
    const per = (answer: number): number =>
      options.length_normalization ? 1 / Math.max(1, own.counts[answer] ?? 1) : 1
    const ratio = (answer: number): number =>
      per(answer) * ((own.sums[answer] ?? NaN) - (reference.sums[answer] ?? NaN))
    const { loss, dChosen, dRejected } = dpo(
      ...([ratio(chosen), ratio(rejected), options.beta] as const),
      ...([probabilities[row] ?? 1, options.label_smoothing] as const),
    )
    slopes.set(chosen, (dChosen * per(chosen)) / rows.length)
    slopes.set(rejected, (dRejected * per(rejected)) / rows.length)
    told.add(loss, options.beta * ratio(chosen), options.beta * ratio(rejected), [
      own.sums[chosen] ?? NaN,
      own.sums[rejected] ?? NaN,
    ])
  }
  // 3. gradients
  const gradients: Gradients = new Map()
  passes.forEach((pass, i) => {
    const { tape, head, owners } = kept[i] ?? through(pass)
    const part: Gradients = new Map()
    const d = Float32Array.from(owners, (row) => slopes.get(row) ?? 0)
    const dHidden = tokenLogprobsBackward(
      ...([model, head, d, pass.count, trainable, part, temperature] as const),
    )
    accumulate(gradients, part)
    accumulate(gradients, backward(model, tape, dHidden, trainable))
    disposeTape(tape)
    dispose([head, dHidden])
  })
  return { gradients, metrics: told.metrics(rows.length) }
}

/** TRL's names: the implicit rewards β·(log π − log π_ref), and plain log-probabilities of whole answers. */
function dpoMetrics() {
  const totals = { loss: 0, chosen: 0, rejected: 0, right: 0, logpsChosen: 0, logpsRejected: 0 }
  return {
    add(loss: number, chosen: number, rejected: number, [first, second]: [number, number]): void {
      totals.loss += loss
      totals.chosen += chosen
      totals.rejected += rejected
      totals.right += chosen > rejected ? 1 : 0
      totals.logpsChosen += first
      totals.logpsRejected += second
    },
    metrics: (n: number): Record<string, number> => ({
      loss: totals.loss / n,
      'rewards/chosen': totals.chosen / n,
      'rewards/rejected': totals.rejected / n,
      'rewards/accuracies': totals.right / n,
      'rewards/margins': (totals.chosen - totals.rejected) / n,
      'logps/chosen': totals.logpsChosen / n,
      'logps/rejected': totals.logpsRejected / n,
    }),
  }
}

/** A prompt with an answer; the answer's tokens alone count, its end too. Null where the context does not hold it. */
function answerSequence(
  tokenizer: Tokenizer,
  prompt: PreferenceRow['prompt'],
  answer: string,
  context: number,
): Sequence | null {
  const { ids, assistant } = encodeChat(tokenizer, [
    ...prompt,
    { role: 'assistant', content: answer },
  ])
  if (ids.length > context) return null
  // assistants of earlier turns are the prompt's
  const end = assistant.lastIndexOf(1) + 1
  const start = assistant.lastIndexOf(0, end - 1) + 1
  return { ids, counts: ids.map((_, t) => (t >= start && t < end ? 1 : 0)) }
}

/** DPO on preference pairs: a new adapter over a frozen trunk, which is the reference, or all weights. */
export async function* dpoPairs(spec: Spec, signal?: AbortSignal): AsyncGenerator<TrainEvent> {
  const { options } = spec
  const { tokenizer, resume, trainee } = await openTrainee(spec, [])
  try {
    // 1. pairs as tokens
    const all = (await readRows(spec.data, PreferenceRow)).filter(
      ({ axis }) => options.axis == null || axis === options.axis,
    )
    const { context } = trainee.model.config
    const fitting = all.flatMap((pair) => {
      const both = [pair.chosen, pair.rejected].map((answer) =>
        answerSequence(tokenizer, pair.prompt, answer, context),
      )
      const sequences = both.filter((sequence) => sequence !== null)
      return sequences.length === 2 ? [{ pair, sequences }] : []
    })
    if (fitting.length === 0)
      throw new LibraError(
        'empty_data',
        `${spec.data}: no pair${options.axis == null ? '' : ` of axis ${options.axis}`} that the context of ${context} tokens holds`,
      )
    if (fitting.length < all.length)
      yield {
        type: 'warning',
        message: `${all.length - fitting.length} of ${all.length} pairs are longer than the context of ${context} tokens and are left out`,
      }
    const sequences = fitting.flatMap((each) => each.sequences)
    const probabilities = fitting.map(({ pair: { probability } }) =>
      options.soft_labels ? (probability ?? 1) : 1,
    )
    // 2. what the reference says of them, once
    const micro = options.micro_batch_tokens
    const reference = sequenceLogprobs(trainee.reference, sequences, micro)
    // 3. steps
    yield* trainSteps(
      trainee,
      fitting.length,
      options,
      (rows) =>
        dpoLoss(
          ...([trainee.model, sequences, reference, probabilities, rows] as const),
          ...([options, trainee.trainable] as const),
        ),
      resume,
      signal,
    )
    await trainee.save(spec.output, { role: 'policy' })
    yield { type: 'done', output: spec.output, summary: {} }
  } finally {
    trainee.dispose()
  }
}
