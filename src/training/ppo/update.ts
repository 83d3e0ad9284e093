import { dispose } from '../../tensor/backend.ts'
import type { Tensor } from '../../tensor/backend.ts'
import { add, read } from '../../tensor/ops.ts'
import { permutation } from '../../random.ts'
import { packRows } from '../../model/batch.ts'
import {
  accumulate,
  disposeGradients,
  scalarHead,
  scalarHeadBackward,
  tokenLogprobs,
  tokenLogprobsBackward,
} from '../../model/heads.ts'
import { backward, disposeTape, forward } from '../../model/llama.ts'
import type { Gradients, Llama, Trainable } from '../../model/llama.ts'
import type { PpoOptions } from '../../schemas/policy-options.ts'
import type { AdamW } from '../optimizer.ts'
import { guardedStep } from '../tokens.ts'
import type { Row } from './advantages.ts'
import { klLoss, policyLoss, sequenceLoss, valueLoss } from './loss.ts'
import { responseIndex, VALUE_HEAD } from './rollout.ts'

/** What a PPO update learns from: one sampled response with its old numbers, each [R]. */
export type PpoRow = {
  promptIds: readonly number[]
  responseIds: readonly number[]
  oldLogprobs: Row
  referenceLogprobs: Row
  oldValues: Row
  advantages: Row
  returns: Row
}

export type UpdateMetrics = Record<
  | 'policy/approxkl_avg'
  | 'policy/clipfrac_avg'
  | 'policy/updates'
  | 'loss/policy_avg'
  | 'val/ratio'
  | 'val/ratio_var'
  | 'grad_norm',
  number
> &
  Partial<Record<'loss/value_avg' | 'val/clipfrac_avg' | 'loss/kl_avg', number>>

/** What a mini-batch tells, as means over its tokens or answers. */
type Told = Record<
  'kl' | 'policyClip' | 'policy' | 'value' | 'valueClip' | 'ratio' | 'penalty',
  number
>
const nothing = (): Told => ({
  ...{ kl: 0, policyClip: 0, policy: 0, value: 0, valueClip: 0, ratio: 0, penalty: 0 },
})

/** Of a round: the key of its order, whether the critic alone learns, β in the unit of the advantages, and the bad steps so far. */
export type UpdateState = {
  key: readonly number[]
  warmup: boolean
  klCoef: number
  bad: { count: number }
}

/**
 * Several epochs of mini-batches over one round's rows, one optimiser step per mini-batch: PPO's clipped policy loss
 * + vf_coef · clipped value loss, or RLOO's clipped loss of whole answers; with kl_in `loss` + β · KL; less
 * entropy_coef · entropy. With `warmup` the policy's part is left out: only the critic learns. A mini-batch whose
 * approximate KL to the round's policy is over target_kl ends the update before its step.
 */
export function ppoUpdate(
  model: Llama,
  trainable: Trainable,
  optimizer: AdamW,
  rows: readonly PpoRow[],
  options: PpoOptions,
  learningRate: number,
  state: UpdateState,
): UpdateMetrics {
  const totals = { ...nothing(), norm: 0 }
  const ratios: number[] = []
  let steps = 0
  update: for (let epoch = 0; epoch < options.epochs; epoch++) {
    const order = Array.from(permutation(rows.length, ...state.key, 41, epoch))
    for (let start = 0; start < order.length; start += options.mini_batch_size) {
      const chosen = order.slice(start, start + options.mini_batch_size)
      const { gradients, told } = miniBatch(model, trainable, rows, chosen, options, state)
      if (steps > 0 && told.kl > (options.target_kl ?? Infinity)) {
        disposeGradients(gradients)
        break update
      }
      totals.norm += guardedStep(optimizer, gradients, learningRate, state.bad, !state.warmup)
      for (const key of Object.keys(told) as (keyof Told)[]) totals[key] += told[key]
      ratios.push(told.ratio)
      steps++
    }
  }
  const mean = ratios.reduce((a, b) => a + b, 0) / Math.max(1, steps)
  const variance = ratios.reduce((a, b) => a + (b - mean) ** 2, 0) / Math.max(1, steps - 1)
  return {
    'policy/approxkl_avg': totals.kl / steps,
    'policy/clipfrac_avg': totals.policyClip / steps,
    'policy/updates': steps,
    'loss/policy_avg': totals.policy / steps,
    'val/ratio': mean,
    'val/ratio_var': variance,
    grad_norm: totals.norm / steps,
    ...(options.method === 'ppo' && {
      'loss/value_avg': totals.value / steps,
      'val/clipfrac_avg': totals.valueClip / steps,
    }),
    ...(options.kl_in === 'loss' && { 'loss/kl_avg': totals.penalty / steps }),
  }
}

function miniBatch(
  model: Llama,
  trainable: Trainable,
  rows: readonly PpoRow[],
  chosen: readonly number[],
  options: PpoOptions,
  { warmup, klCoef }: UpdateState,
): { gradients: Gradients; told: Told } {
  const gradients: Gradients = new Map()
  const told = nothing()
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
    const masks = batch.map(({ responseIds }) => new Uint8Array(responseIds.length).fill(1))
    const logprobs = cutRows(read(head.logprobs), batch)
    const policy = policyPart(batch, logprobs, masks, options, klCoef, tokens, chosen.length)
    const part: Gradients = new Map()
    const dPolicy = tokenLogprobsBackward(
      ...([model, head, flatten(policy.grad, warmup ? 0 : 1), pass.count] as const),
      ...([trainable, part, options.temperature] as const),
      warmup ? 0 : -options.entropy_coef / tokens,
    )
    const critic =
      options.method === 'ppo'
        ? criticPart(model, tape.hidden, index.positions, batch, masks, options, tokens, part)
        : null
    accumulate(gradients, part)
    if (!warmup) {
      // during warm-up only the value head learns: its trunk is the policy
      const d = critic === null ? dPolicy : add(dPolicy, critic.dHidden)
      accumulate(gradients, backward(model, tape, d, trainable))
      if (d !== dPolicy) d.dispose()
    }
    disposeTape(tape)
    dispose([head, dPolicy, critic?.dHidden ?? null])
    const parts = { ...nothing(), ...policy.told, ...critic?.told }
    for (const key of Object.keys(told) as (keyof Told)[]) told[key] += parts[key]
  }
  return { gradients, told }
}

/** The policy's loss of some rows, its gradient by token, and what it tells. */
function policyPart(
  batch: readonly PpoRow[],
  logprobs: readonly Row[],
  masks: readonly Uint8Array[],
  options: PpoOptions,
  klCoef: number,
  tokens: number,
  answers: number,
): { grad: Row[]; told: Partial<Told> } {
  const old = batch.map(({ oldLogprobs }) => oldLogprobs)
  const advantages = batch.map((row) => row.advantages)
  const whole = options.method === 'rloo'
  const { loss, grad, approxKl, clipFraction, ratio } = whole
    ? sequenceLoss(
        ...([logprobs, old, advantages.map(([a = 0]) => a), masks] as const),
        ...([options.clip_range, answers, tokens] as const),
      )
    : policyLoss(logprobs, old, advantages, masks, options.clip_range, tokens)
  const told = { kl: approxKl, policyClip: clipFraction, policy: loss, ratio }
  if (options.kl_in === 'reward') return { grad, told }
  const reference = batch.map(({ referenceLogprobs }) => referenceLogprobs)
  const penalty = klLoss(
    ...([logprobs, reference, masks, klCoef, options.kl_estimator] as const),
    whole ? answers : tokens,
  )
  grad.forEach((row, i) => penalty.grad[i]?.forEach((x, t) => (row[t] = (row[t] ?? 0) + x)))
  return { grad, told: { ...told, penalty: penalty.loss } }
}

/** The critic's loss of some rows: the head's gradient goes into `gradients`, that of the hidden states comes back. */
function criticPart(
  model: Llama,
  hidden: Tensor,
  positions: Int32Array,
  batch: readonly PpoRow[],
  masks: readonly Uint8Array[],
  options: PpoOptions,
  tokens: number,
  gradients: Gradients,
): { dHidden: Tensor; told: Partial<Told> } {
  const values = scalarHead(model, VALUE_HEAD, hidden, positions)
  const { loss, grad, clipFraction } = valueLoss(
    cutRows(read(values), batch),
    batch.map(({ oldValues }) => oldValues),
    batch.map(({ returns }) => returns),
    masks,
    options.value_clip_range,
    tokens,
  )
  values.dispose()
  const d = flatten(grad, options.vf_coef)
  return {
    dHidden: scalarHeadBackward(model, VALUE_HEAD, hidden, positions, d, gradients),
    told: { value: loss, valueClip: clipFraction },
  }
}

/** One number per response token of all rows, cut into rows. */
function cutRows(flat: Float32Array, rows: readonly PpoRow[]): Row[] {
  let at = 0
  return rows.map(({ responseIds }) =>
    Float64Array.from(flat.subarray(at, (at += responseIds.length))),
  )
}

function flatten(rows: readonly Row[], factor: number): Float32Array {
  const flat = new Float32Array(rows.reduce((n, row) => n + row.length, 0))
  let at = 0
  for (const row of rows) for (const x of row) flat[at++] = factor * x
  return flat
}
