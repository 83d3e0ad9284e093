import { dispose } from '../tensor/backend.ts'
import { permutation } from '../random.ts'
import { read } from '../tensor/ops.ts'
import { packRows } from '../model/batch.ts'
import type { Pack } from '../model/batch.ts'
import {
  accumulate,
  disposeGradients,
  tokenLogprobs,
  tokenLogprobsBackward,
} from '../model/heads.ts'
import { backward, disposeTape, forward } from '../model/llama.ts'
import type { Gradients, Llama, Trainable } from '../model/llama.ts'
import { LibraError } from '../errors.ts'
import type { AdamW } from './optimizer.ts'

/** A tokenised example: ids [T], and 1 in `counts` where predicting that token is trained. */
export type Sequence = { ids: number[]; counts: number[] }

/** Where the counted tokens of a pass are predicted, which they are, and of which sequence. */
export function countedOf(sequences: readonly Sequence[], pass: Pack) {
  const [positions, targets, owners]: [number[], number[], number[]] = [[], [], []]
  pass.rows.forEach((row, i) => {
    const { ids, counts } = sequences[row] ?? { ids: [], counts: [] }
    for (let t = 1; t < ids.length; t++) {
      if (counts[t] !== 1) continue
      positions.push(pass.at(i, t - 1))
      targets.push(ids[t] ?? 0)
      owners.push(row)
    }
  })
  return { positions: Int32Array.from(positions), targets: Int32Array.from(targets), owners }
}

/**
 * Next-token cross-entropy over the counted tokens: L = −mean log π(x_t | x_<t). The mean is over all counted
 * tokens of the step's batch, however it is cut into passes. Returns loss and gradients.
 */
export function tokenLoss(
  model: Llama,
  sequences: readonly Sequence[],
  rows: readonly number[],
  trainable: Trainable,
  microTokens: number,
  checkpoint = false,
): { loss: number; tokens: number; gradients: Gradients } {
  const counted = rows.reduce((n, row) => n + countOf(sequences[row]), 0)
  const gradients: Gradients = new Map()
  let loss = 0
  for (const pack of packRows(
    sequences.map((s) => s.ids),
    microTokens,
    { order: rows },
  )) {
    const { positions, targets } = countedOf(sequences, pack)
    if (positions.length === 0) continue
    const tape = forward(model, pack, { checkpoint })
    const head = tokenLogprobs(model, tape.hidden, positions, targets)
    for (const logprob of read(head.logprobs)) loss -= logprob / counted
    const d = new Float32Array(positions.length).fill(-1 / counted)
    const part: Gradients = new Map()
    const dHidden = tokenLogprobsBackward(model, head, d, pack.count, trainable, part)
    accumulate(gradients, part)
    accumulate(gradients, backward(model, tape, dHidden, trainable))
    disposeTape(tape)
    dispose([head, dHidden])
  }
  return { loss, tokens: counted, gradients }
}

const countOf = (s: Sequence | undefined): number =>
  (s?.counts ?? []).slice(1).reduce((a, b) => a + b, 0)

/** A step's rows: a keyed permutation per epoch, so that position in the data is the step number alone. */
export function rowsOfStep(n: number, batchSize: number, step: number, seed: number): number[] {
  const size = Math.min(batchSize, n)
  return Array.from({ length: size }, (_, i) => {
    const at = step * size + i
    return permutationOf(n, seed, Math.floor(at / n))[at % n] ?? 0
  })
}
let lastPermutation: { key: string; order: Int32Array } | null = null
function permutationOf(n: number, seed: number, epoch: number): Int32Array {
  const key = `${n}/${seed}/${epoch}`
  if (lastPermutation?.key !== key)
    lastPermutation = { key, order: permutation(n, seed, 31, epoch) }
  return lastPermutation.order
}

/** Consecutive bad steps that end a run. */
const MAX_BAD_STEPS = 3

/** Applies one update, counting steps whose gradients were not finite; three in a row throw `non_finite`. */
export function guardedStep(
  optimizer: AdamW,
  gradients: Gradients,
  learningRate: number,
  bad: { count: number },
  decay = true,
): number {
  const { gradNorm, applied } = optimizer.step(gradients, learningRate, decay)
  disposeGradients(gradients)
  bad.count = applied ? 0 : bad.count + 1
  if (bad.count >= MAX_BAD_STEPS)
    throw new LibraError(
      'non_finite',
      `${MAX_BAD_STEPS} steps in a row gave gradients that are not finite: lower the learning rate`,
      { fault: 'engine' },
    )
  return gradNorm
}
