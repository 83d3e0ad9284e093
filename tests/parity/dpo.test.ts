import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import type { Gradients } from '../../src/model/llama.ts'
import { disposeBase, loadBase } from '../../src/model/resident.ts'
import { tf } from '../../src/tensor/backend.ts'
import type { Tensor } from '../../src/tensor/backend.ts'
import { read } from '../../src/tensor/ops.ts'
import { dpoLoss } from '../../src/training/dpo.ts'
import { sequenceLogprobs } from '../../src/training/sequence-logprobs.ts'
import type { Sequence } from '../../src/training/tokens.ts'

// Expected numbers are TRL's and PyTorch's: fixtures/parity/dpo/make.py
type Brief = { sum: number; norm: number; at: number[]; values: number[] }
type Expected = { loss: number; gradients: Record<string, Brief> }
const fixture = (path: string): string =>
  fileURLToPath(new URL(`../../fixtures/parity/${path}`, import.meta.url))
const expected = JSON.parse(readFileSync(fixture('dpo/expected.json'), 'utf8')) as {
  beta: number
  pairs: (Record<'prompt_ids' | 'chosen_ids' | 'rejected_ids', number[]> &
    Record<'ref_chosen_logps' | 'ref_rejected_logps', number>)[]
  trl: Expected & { metrics: Record<string, number> }
  variants: (Expected & { soft: number[]; smoothing: number; per_token: boolean })[]
}
const { pairs, beta, trl, variants } = expected
const sequences = pairs.flatMap(({ prompt_ids: prompt, chosen_ids, rejected_ids }) =>
  [chosen_ids, rejected_ids].map((answer): Sequence => ({
    ids: [...prompt, ...answer],
    counts: [...prompt.map(() => 0), ...answer.map(() => 1)],
  })),
)
const reference = {
  sums: Float64Array.from(pairs.flatMap((p) => [p.ref_chosen_logps, p.ref_rejected_logps])),
  counts: Int32Array.from(pairs.flatMap((p) => [p.chosen_ids.length, p.rejected_ids.length])),
}
const options = { beta, label_smoothing: 0, length_normalization: false }
const rows = [0, 1, 2]

/** Both in float32, in another order of sums: 1e-5 of the tensor's norm is what that allows. */
function sameGradients(actual: Gradients, wanted: Record<string, Brief>): void {
  expect([...actual.keys()].sort()).toEqual(Object.keys(wanted).sort())
  for (const [name, brief] of Object.entries(wanted)) {
    const values = read(actual.get(name) as Tensor)
    const within = 1e-5 * Math.max(brief.norm, 1e-3)
    brief.at.forEach((at, i) =>
      expect(Math.abs((values[at] ?? NaN) - (brief.values[i] ?? 0)), `${name}[${at}]`).toBeLessThan(
        within,
      ),
    )
  }
}

test.each([
  ['one pass', 1024, false],
  ['several passes, blocks computed again', 12, true],
])("loss, metrics and gradients are TRL's: %s", async (_, micro_batch_tokens, checkpoint) => {
  const model = await loadBase(fixture('llama/lm_tied'))
  const { gradients, metrics } = dpoLoss(
    ...([model, sequences, reference, [], rows] as const),
    { ...options, micro_batch_tokens, gradient_checkpointing: checkpoint },
    'all',
  )
  expect(metrics['loss']).toBeCloseTo(trl.loss, 5)
  for (const [name, value] of Object.entries(trl.metrics))
    expect(metrics[name], name).toBeCloseTo(value, 4)
  sameGradients(gradients, trl.gradients)
  tf.dispose([...gradients.values()])
  disposeBase(model)
})

test.each(
  variants.map((v) => [`soft ${v.soft.join()} ε ${v.smoothing} ${v.per_token}`, v] as const),
)(
  'soft and smoothed labels, log-probabilities per token: %s',
  async (_, { soft, smoothing, per_token, loss, gradients: wanted }) => {
    const model = await loadBase(fixture('llama/lm_tied'))
    const given = { ...options, label_smoothing: smoothing, length_normalization: per_token }
    const { gradients, metrics } = dpoLoss(
      ...([model, sequences, reference, soft, rows] as const),
      { ...given, micro_batch_tokens: 1024 },
      'all',
    )
    expect(metrics['loss']).toBeCloseTo(loss, 5)
    sameGradients(gradients, wanted)
    tf.dispose([...gradients.values()])
    disposeBase(model)
  },
)

test('a policy that is its reference: loss ln 2, no implicit reward', async () => {
  const model = await loadBase(fixture('llama/lm_tied'))
  const own = sequenceLogprobs(model, sequences, 16)
  expect([...own.counts]).toEqual([...reference.counts])
  const { gradients, metrics } = dpoLoss(
    ...([model, sequences, own, [], rows] as const),
    { ...options, micro_batch_tokens: 1024 },
    'all',
  )
  expect(metrics['loss']).toBeCloseTo(Math.LN2, 6)
  expect(metrics['rewards/margins']).toBeCloseTo(0, 5)
  tf.dispose([...gradients.values()])
  disposeBase(model)
})
