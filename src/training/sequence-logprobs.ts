import { packRows } from '../model/batch.ts'
import { tokenLogprobs } from '../model/heads.ts'
import type { LogprobTape } from '../model/heads.ts'
import { hiddenStates } from '../model/llama.ts'
import type { Llama } from '../model/llama.ts'
import { dispose } from '../tensor/backend.ts'
import { read } from '../tensor/ops.ts'
import { countedOf } from './tokens.ts'
import type { Sequence } from './tokens.ts'

/** log π of each sequence's counted tokens, summed, [n], and how many they are. */
export type SequenceLogprobs = { sums: Float64Array; counts: Int32Array }

/** Adds a pass's log-probabilities to the sums of the sequences that own them. */
export function addUp(
  head: LogprobTape,
  owners: readonly number[],
  { sums, counts }: SequenceLogprobs,
): void {
  read(head.logprobs).forEach((logprob, i) => {
    const row = owners[i] ?? 0
    sums[row] = (sums[row] ?? 0) + logprob
    counts[row] = (counts[row] ?? 0) + 1
  })
}

/** Of n sequences, none read yet. */
export const noLogprobs = (n: number): SequenceLogprobs => ({
  sums: new Float64Array(n),
  counts: new Int32Array(n),
})

/** Reads sequences pass by pass with a model that does not learn; yields after each pass, at last the sums of all. */
export function* passesOfLogprobs(
  model: Llama,
  sequences: readonly Sequence[],
  microTokens: number,
): Generator<void, SequenceLogprobs> {
  const result = noLogprobs(sequences.length)
  const ids = sequences.map((sequence) => sequence.ids)
  for (const pass of packRows(ids, microTokens, { shared: true })) {
    const { positions, targets, owners } = countedOf(sequences, pass)
    if (owners.length === 0) continue
    const hidden = hiddenStates(model, pass)
    const head = tokenLogprobs(model, hidden, positions, targets)
    addUp(head, owners, result)
    dispose([hidden, head])
    yield
  }
  return result
}

/** The counted tokens' log-probabilities of every sequence, by a model that does not learn. */
export function sequenceLogprobs(
  model: Llama,
  sequences: readonly Sequence[],
  microTokens: number,
): SequenceLogprobs {
  const passes = passesOfLogprobs(model, sequences, microTokens)
  for (;;) {
    const { done, value } = passes.next()
    if (done === true) return value
  }
}
