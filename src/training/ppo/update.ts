import { dispose } from '../../tensor/backend.ts'
import { add, read } from '../../tensor/ops.ts'
import { permutation } from '../../random.ts'
import { packRows } from '../../model/batch.ts'
import {
  accumulate,
  scalarHead,
  scalarHeadBackward,
  tokenLogprobs,
  tokenLogprobsBackward,
} from '../../model/heads.ts'
import { backward, disposeTape, forward } from '../../model/llama.ts'
import type { Gradients, Llama, Trainable } from '../../model/llama.ts'
import type { PpoOptions } from '../../schemas/training.ts'
import type { AdamW } from '../optimizer.ts'
import { guardedStep } from '../tokens.ts'
import type { Row } from './advantages.ts'
import { policyLoss, valueLoss } from './loss.ts'
import { responseIndex, VALUE_HEAD } from './rollout.ts'

/** What a PPO update learns from: one sampled response with its old numbers, each [R]. */
export type PpoRow = {
  promptIds: readonly number[]
  responseIds: readonly number[]
  oldLogprobs: Row
  oldValues: Row
  advantages: Row
  returns: Row
}

export type UpdateMetrics = Record<
  | 'policy/approxkl_avg'
  | 'policy/clipfrac_avg'
  | 'loss/policy_avg'
  | 'loss/value_avg'
  | 'val/clipfrac_avg'
  | 'val/ratio'
  | 'val/ratio_var'
  | 'grad_norm',
  number
>

/**
 * Several epochs of mini-batches over one round's rows: clipped policy loss + vf_coef · clipped value loss, one
 * optimiser step per mini-batch. With `warmup` the policy's part is left out: only the critic learns.
 */
export function ppoUpdate(
  model: Llama,
  trainable: Trainable,
  optimizer: AdamW,
  rows: readonly PpoRow[],
  options: PpoOptions,
  learningRate: number,
  state: { key: readonly number[]; warmup: boolean; bad: { count: number } },
): UpdateMetrics {
  const totals = { kl: 0, policyClip: 0, policy: 0, value: 0, valueClip: 0, norm: 0 }
  const ratios: number[] = []
  let steps = 0
  for (let epoch = 0; epoch < options.epochs; epoch++) {
    const order = Array.from(permutation(rows.length, ...state.key, 41, epoch))
    for (let start = 0; start < order.length; start += options.mini_batch_size) {
      const chosen = order.slice(start, start + options.mini_batch_size)
      const { gradients, metrics } = miniBatch(
        ...([model, trainable, rows, chosen, options, state.warmup] as const),
      )
      totals.norm += guardedStep(optimizer, gradients, learningRate, state.bad)
      totals.kl += metrics.kl
      totals.policyClip += metrics.policyClip
      totals.policy += metrics.policy
      totals.value += metrics.value
      totals.valueClip += metrics.valueClip
      ratios.push(metrics.ratio)
      steps++
    }
  }
  const mean = ratios.reduce((a, b) => a + b, 0) / Math.max(1, steps)
  const variance = ratios.reduce((a, b) => a + (b - mean) ** 2, 0) / Math.max(1, steps - 1)
  return {
    'policy/approxkl_avg': totals.kl / steps,
    'policy/clipfrac_avg': totals.policyClip / steps,
    'loss/policy_avg': totals.policy / steps,
    'loss/value_avg': totals.value / steps,
    'val/clipfrac_avg': totals.valueClip / steps,
    'val/ratio': mean,
    'val/ratio_var': variance,
    grad_norm: totals.norm / steps,
  }
}

function miniBatch(
  model: Llama,
  trainable: Trainable,
  rows: readonly PpoRow[],
  chosen: readonly number[],
  options: PpoOptions,
  warmup: boolean,
): {
  gradients: Gradients
  metrics: {
    kl: number
    policyClip: number
    policy: number
    value: number
    valueClip: number
    ratio: number
  }
} {
  const gradients: Gradients = new Map()
  const metrics = { kl: 0, policyClip: 0, policy: 0, value: 0, valueClip: 0, ratio: 0 }
  const tokens = Math.max(
    1,
    chosen.reduce((n, row) => n + (rows[row]?.responseIds.length ?? 0), 0),
  )
  const sequences = rows.map(({ promptIds, responseIds }) => [...promptIds, ...responseIds])
  const order = chosen
  for (const pass of packRows(sequences, options.micro_batch_tokens, { order, shared: true })) {
    const batch = pass.rows.flatMap((row) => rows[row] ?? [])
    const index = responseIndex(rows, pass)
    if (index.positions.length === 0) continue
    const tape = forward(model, pass)
    const head = tokenLogprobs(model, tape.hidden, index.positions, index.targets, {
      temperature: options.temperature,
    })
    const values = scalarHead(model, VALUE_HEAD, tape.hidden, index.positions)
    const cut = (flat: Float32Array): Float32Array[] => {
      let at = 0
      return batch.map(({ responseIds }) => flat.subarray(at, (at += responseIds.length)))
    }
    const masks = batch.map(({ responseIds }) => new Uint8Array(responseIds.length).fill(1))
    const column = (key: 'oldLogprobs' | 'oldValues' | 'advantages' | 'returns'): Row[] =>
      batch.map((row) => row[key])
    const policy = policyLoss(
      cut(read(head.logprobs)),
      column('oldLogprobs'),
      column('advantages'),
      masks,
      options.clip_range,
      tokens,
    )
    const value = valueLoss(
      cut(read(values)),
      column('oldValues'),
      column('returns'),
      masks,
      options.value_clip_range,
      tokens,
    )
    const dLogprobs = flatten(policy.grad, warmup ? 0 : 1)
    const dValues = flatten(value.grad, options.vf_coef)
    const part: Gradients = new Map()
    const dHidden = tokenLogprobsBackward(
      model,
      head,
      dLogprobs,
      pass.count,
      trainable,
      part,
      options.temperature,
    )
    const dValueHidden = scalarHeadBackward(
      model,
      VALUE_HEAD,
      tape.hidden,
      index.positions,
      dValues,
      part,
    )
    accumulate(gradients, part)
    if (!warmup) {
      // during warm-up only the value head learns: its trunk is the policy
      const d = add(dHidden, dValueHidden)
      accumulate(gradients, backward(model, tape, d, trainable))
      d.dispose()
    }
    disposeTape(tape)
    dispose([head, values, dHidden, dValueHidden])
    metrics.kl += policy.approxKl
    metrics.policyClip += policy.clipFraction
    metrics.policy += policy.loss
    metrics.ratio += policy.ratio
    metrics.value += value.loss
    metrics.valueClip += value.clipFraction
  }
  return { gradients, metrics }
}

function flatten(rows: readonly Row[], factor: number): Float32Array {
  const flat = new Float32Array(rows.reduce((n, row) => n + row.length, 0))
  let at = 0
  for (const row of rows) for (const x of row) flat[at++] = factor * x
  return flat
}
