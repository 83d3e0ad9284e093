import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { tokenLogprobs, tokenLogprobsBackward } from '../../src/model/heads.ts'
import { onePack } from '../helpers/one-pack.ts'
import { backward, disposeTape, forward } from '../../src/model/llama.ts'
import type { Gradients } from '../../src/model/llama.ts'
import { accumulate } from '../../src/model/heads.ts'
import { disposeBase, disposePairs, loadAdapter, loadBase } from '../../src/model/resident.ts'
import { OptimizerOptions, RewardModelOptions } from '../../src/schemas/training-options.ts'
import type { PreferenceRow } from '../../src/schemas/feedback.ts'
import { cachedConstants, dispose, tf } from '../../src/tensor/backend.ts'
import type { Tensor } from '../../src/tensor/backend.ts'
import { cachedMasks } from '../../src/model/masks.ts'
import { floats, read } from '../../src/tensor/ops.ts'
import { absoluteSafety, bradleyTerry } from '../../src/training/losses.ts'
import { createAdamW, learningRateAt } from '../../src/training/optimizer.ts'
import { gae, whiten } from '../../src/training/ppo/advantages.ts'
import { policyLoss, valueLoss } from '../../src/training/ppo/loss.ts'
import { klEstimate } from '../../src/training/ppo/rewards.ts'
import { pairLoss } from '../../src/training/reward-model.ts'
import { tokenLoss } from '../../src/training/tokens.ts'

// Expected numbers are PyTorch's: fixtures/parity/training/make.py
type Brief = { sum: number; norm: number; at: number[]; values: number[] }
type Briefs = Record<string, Brief>
type Pair = {
  chosen: number[]
  rejected: number[]
  strength: PreferenceRow['strength']
  chosen_safe: boolean | null
  rejected_safe: boolean | null
}
const fixture = (path: string): string =>
  fileURLToPath(new URL(`../../fixtures/parity/${path}`, import.meta.url))
const expected = JSON.parse(readFileSync(fixture('training/expected.json'), 'utf8')) as {
  rows: { ids: number[]; counts: number[] }[]
  sft: Record<string, { loss: number; tokens: number; gradients: Briefs }>
  pairTable: Record<
    'chosen' | 'rejected' | 'margin' | 'p' | 'loss' | 'dChosen' | 'dRejected',
    number
  >[]
  absoluteTable: { logit: number; safe: boolean; loss: number; d: number }[]
  pairs: Pair[]
  reward: Record<'all' | 'adapter', { loss: number; gradients: Briefs }>
  regularised: { soft: number[]; weight: number; loss: number; gradients: Briefs }
  gae: (Record<'gamma' | 'lambda', number> &
    Record<'rewards' | 'values' | 'advantages' | 'returns', number[]>)[]
  ppo: (Record<'policy' | 'value' | 'approxKl', number> &
    Record<'old' | 'new' | 'oldValues' | 'values' | 'advantages' | 'returns' | 'mask', number[][]> &
    Record<'dNew' | 'dValues' | 'whitened' | 'whitenedKeepMean', number[][]> & {
      kl: Record<'k1' | 'k2' | 'k3', number[][]>
    })[]
  tokens: Record<'ids' | 'weights' | 'logprobs' | 'entropy', number[]> & {
    temperature: number
    gradients: Briefs
  }
  adamw: {
    start: { w: number[][]; b: number[] }
    steps: { gw: number[][]; gb: number[]; norm: number }[]
    end: { w: number[][]; b: number[] }
  }
  schedules: { linear: number[]; cosine: number[] }
}
const live = (): number => tf.memory().numTensors - cachedConstants() - cachedMasks()
const LORA_PREFIX = /^base_model\.model\.|\.default|\.modules_to_save/g

/** Both in float32, in another order of sums: 1e-5 of the tensor's norm is what that allows. */
function sameGradients(actual: Gradients, wanted: Briefs, tolerance = 1e-5): void {
  const names = Object.keys(wanted).map((name) => name.replaceAll(LORA_PREFIX, ''))
  expect([...actual.keys()].sort()).toEqual(names.sort())
  for (const [name, brief] of Object.entries(wanted)) {
    const values = read(actual.get(name.replaceAll(LORA_PREFIX, '')) as Tensor)
    const within = tolerance * Math.max(brief.norm, 1e-3)
    const norm = Math.sqrt(values.reduce((sum, x) => sum + x * x, 0))
    expect(Math.abs(norm - brief.norm), `${name}, norm`).toBeLessThan(within)
    brief.at.forEach((at, i) =>
      expect(Math.abs((values[at] ?? NaN) - (brief.values[i] ?? 0)), `${name}[${at}]`).toBeLessThan(
        within,
      ),
    )
  }
}

test.each(['lm_tied', 'lm_sharded'])(
  'fine-tuning loss and the gradients of all weights, %s, in one pass and in several',
  async (name) => {
    const before = live()
    const model = await loadBase(fixture(`llama/${name}`))
    const wanted = expected.sft[name] as (typeof expected.sft)[string]
    for (const micro of [1024, 16]) {
      const rows = [0, 1, 2, 3]
      const { loss, tokens, gradients } = tokenLoss(model, expected.rows, rows, 'all', micro)
      expect(tokens).toBe(wanted.tokens)
      expect(loss).toBeCloseTo(wanted.loss, 5)
      sameGradients(gradients, wanted.gradients)
      tf.dispose([...gradients.values()])
    }
    disposeBase(model)
    expect(live()).toBe(before)
  },
)

test('a batch without a counted token has no loss and no gradient', async () => {
  const model = await loadBase(fixture('llama/lm_tied'))
  const { loss, tokens, gradients } = tokenLoss(model, expected.rows, [2, 3], 'all', 1024)
  expect({ loss, tokens, gradients: gradients.size }).toEqual({ loss: 0, tokens: 0, gradients: 0 })
  disposeBase(model)
})

test('pair losses and absolute labels, extremes included', () => {
  for (const { chosen, rejected, margin, p, ...wanted } of expected.pairTable) {
    const result = bradleyTerry(chosen, rejected, margin, p)
    for (const key of ['loss', 'dChosen', 'dRejected'] as const)
      expect(result[key], `${key} at ${chosen} ${margin} ${p}`).toBeCloseTo(wanted[key], 10)
  }
  for (const { logit, safe, loss, d } of expected.absoluteTable) {
    const result = absoluteSafety(logit, safe)
    expect(result.loss).toBeCloseTo(loss, 10)
    expect(result.d).toBeCloseTo(d, 10)
  }
})

test('soft labels with margins, and centring, through the model', async () => {
  const base = await loadBase(fixture('llama/rm'))
  const { soft, weight, loss, gradients } = expected.regularised
  const pairs = expected.pairs.map(({ strength }, i): PreferenceRow => ({
    ...{ axis: 'helpfulness', prompt: [{ role: 'user', content: '' }], strength },
    ...{ chosen: '', rejected: '', probability: soft[i] },
  }))
  const sequences = expected.pairs.flatMap(({ chosen, rejected }) => [chosen, rejected])
  const options = RewardModelOptions.parse({
    ...{ axis: 'helpfulness', margin: 'large', margin_on_soft_labels: true },
    centering: weight,
  })
  const result = pairLoss(base, sequences, pairs, [0, 1, 2], options, 'all')
  expect(result.loss).toBeCloseTo(loss, 5)
  sameGradients(result.gradients, gradients)
  // the same pairs the other way round, labels too: what was right stays right, and a tie is half right
  const turned = pairs.map((row) => ({ ...row, probability: 1 - (row.probability ?? 1) }))
  const back = sequences.map((_, i) => sequences[i ^ 1] ?? [])
  const again = pairLoss(base, back, turned, [0, 1, 2], options, 'all')
  expect(again.accuracy).toBeCloseTo(result.accuracy, 12)
  const tie = pairLoss(base, sequences, pairs, [2], options, 'all')
  expect(tie.accuracy).toBe(0.5)
  for (const { gradients: used } of [result, again, tie]) tf.dispose([...used.values()])
  disposeBase(base)
})

test.each(['all', 'adapter'] as const)(
  'reward-model loss and gradients through the model: %s',
  async (part) => {
    const before = live()
    const base = await loadBase(fixture('llama/rm'))
    const loaded = part === 'adapter' ? await loadAdapter(base, fixture('llama/mini')) : null
    const weights = new Map([...base.weights, ...(loaded?.heads ?? [])])
    const model = { ...base, weights, adapter: loaded?.pairs ?? null }
    const pairs = expected.pairs.map(({ chosen, rejected, ...rest }): PreferenceRow => ({
      ...rest,
      axis: 'safety',
      prompt: [{ role: 'user', content: '' }],
      chosen: String(chosen),
      rejected: String(rejected),
    }))
    const sequences = expected.pairs.flatMap(({ chosen, rejected }) => [chosen, rejected])
    const wanted = expected.reward[part]
    for (const micro_batch_tokens of [1024, 16]) {
      const options = RewardModelOptions.parse({
        ...{ axis: 'safety', margin: 'large', auxiliary_weight: 0.5, micro_batch_tokens },
      })
      const result = pairLoss(model, sequences, pairs, [0, 1, 2], options, part)
      expect(result.loss).toBeCloseTo(wanted.loss, 5)
      sameGradients(result.gradients, wanted.gradients)
      tf.dispose([...result.gradients.values()])
    }
    if (loaded !== null) {
      disposePairs(loaded.pairs)
      tf.dispose([...loaded.heads.values()])
    }
    disposeBase(base)
    expect(live()).toBe(before)
  },
)

test('log-probabilities and entropies at a temperature, and the gradient through them', async () => {
  const { ids, temperature, weights, logprobs, entropy, gradients: wanted } = expected.tokens
  const model = await loadBase(fixture('llama/lm_tied'))
  const pack = onePack([ids])
  const tape = forward(model, pack)
  const rows = Int32Array.from(weights, (_, t) => t)
  const targets = Int32Array.from(ids.slice(1))
  const head = tokenLogprobs(model, tape.hidden, rows, targets, { temperature, entropy: true })
  read(head.logprobs).forEach((x, t) => expect(x).toBeCloseTo(logprobs[t] ?? NaN, 5))
  read(head.entropy as Tensor).forEach((x, t) => expect(x).toBeCloseTo(entropy[t] ?? NaN, 5))
  const gradients: Gradients = new Map()
  const d = Float32Array.from(weights)
  const dHidden = tokenLogprobsBackward(
    ...([model, head, d, pack.count, 'all', gradients, temperature] as const),
  )
  accumulate(gradients, backward(model, tape, dHidden, 'all'))
  sameGradients(gradients, wanted)
  disposeTape(tape)
  dispose([head, dHidden, ...gradients.values()])
  disposeBase(model)
})

const near = (actual: ArrayLike<number>, wanted: readonly number[]): void =>
  wanted.forEach((value, t) => expect(actual[t] ?? NaN).toBeCloseTo(value, 10))

test('advantages and returns', () => {
  for (const { gamma, lambda, rewards, values, ...wanted } of expected.gae) {
    const mask = rewards.map(() => 1)
    const { advantages, returns } = gae(rewards, values, mask, { gamma, lambda })
    near(advantages, wanted.advantages)
    near(returns, wanted.returns)
  }
})

test('policy and value losses with their gradients, whitening, KL estimators', () => {
  for (const c of expected.ppo) {
    const policy = policyLoss(c.new, c.old, c.advantages, c.mask, 0.2)
    const value = valueLoss(c.values, c.oldValues, c.returns, c.mask, 0.2)
    expect(policy.loss).toBeCloseTo(c.policy, 10)
    expect(policy.approxKl).toBeCloseTo(c.approxKl, 10)
    expect(value.loss).toBeCloseTo(c.value, 10)
    const whitened = whiten(c.advantages, c.mask)
    const keepMean = whiten(c.advantages, c.mask, false)
    c.mask.forEach((_, row) => {
      near(policy.grad[row] ?? [], c.dNew[row] ?? [])
      near(value.grad[row] ?? [], c.dValues[row] ?? [])
      near(whitened[row] ?? [], c.whitened[row] ?? [])
      near(keepMean[row] ?? [], c.whitenedKeepMean[row] ?? [])
      for (const k of ['k1', 'k2', 'k3'] as const)
        c.kl[k][row]?.forEach((x, t) =>
          expect(klEstimate(c.new[row]?.[t] ?? 0, c.old[row]?.[t] ?? 0, k)).toBeCloseTo(x, 10),
        )
    })
  }
})

test('twenty steps of AdamW with clipping', () => {
  const { start, steps, end } = expected.adamw
  const flat = (x: number[][] | number[]): Tensor => {
    const shape = Array.isArray(x[0]) ? [x.length, (x[0] as number[]).length] : [x.length]
    return tf.keep(floats(Float32Array.from(x.flat()), shape))
  }
  const values = new Map([
    ['w', flat(start.w)],
    ['b', flat(start.b)],
  ])
  const optimizer = createAdamW(
    {
      names: ['w', 'b'],
      get: (name) => values.get(name) as Tensor,
      set(name, value) {
        values.get(name)?.dispose()
        values.set(name, value)
      },
    },
    OptimizerOptions.parse({ learning_rate: 1 }), // beta, epsilon, decay and clipping are the defaults
  )
  for (const { gw, gb, norm } of steps) {
    const gradients = new Map([
      ['w', flat(gw)],
      ['b', flat(gb)],
    ])
    expect(optimizer.step(gradients, 3e-2).gradNorm).toBeCloseTo(norm, 4)
    tf.dispose([...gradients.values()])
  }
  for (const [name, wanted] of Object.entries(end))
    read(values.get(name) as Tensor).forEach((x, i) =>
      expect(x, `${name}[${i}]`).toBeCloseTo(wanted.flat()[i] ?? NaN, 5),
    )
  optimizer.dispose()
  dispose([...values.values()])
})

test('schedules: linear as transformers; cosine the same curve, ending at a tenth', () => {
  const options = { learning_rate: 1, warmup_fraction: 0 }
  const linear = OptimizerOptions.parse({ ...options, schedule: 'linear' })
  const cosine = OptimizerOptions.parse({ ...options, schedule: 'cosine' })
  expected.schedules.linear.forEach((rate, t) =>
    expect(learningRateAt(t, 12, linear)).toBeCloseTo(rate, 10),
  )
  expected.schedules.cosine.forEach((rate, t) =>
    expect(learningRateAt(t, 12, cosine)).toBeCloseTo(0.1 + 0.9 * rate, 10),
  )
})
