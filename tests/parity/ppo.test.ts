import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { PpoOptions } from '../../src/schemas/policy-options.ts'
import { tf } from '../../src/tensor/backend.ts'
import { entropyGrad } from '../../src/tensor/fused.ts'
import { floats, read } from '../../src/tensor/ops.ts'
import { createAdamW } from '../../src/training/optimizer.ts'
import { leaveOneOut } from '../../src/training/ppo/advantages.ts'
import { learningRows } from '../../src/training/ppo/learning-rows.ts'
import { klLoss, sequenceLoss } from '../../src/training/ppo/loss.ts'
import { measure, VALUE_HEAD } from '../../src/training/ppo/rollout.ts'
import type { Rollout } from '../../src/training/ppo/rollout.ts'
import { ppoUpdate } from '../../src/training/ppo/update.ts'
import { loadTrainee } from '../../src/training/trainee.ts'

// Expected numbers are PyTorch's: fixtures/parity/ppo/make.py
type Brief = { norm: number; at: number[]; values: number[] }
type Matrix = number[][]
const fixture = (path: string): string =>
  fileURLToPath(new URL(`../../fixtures/parity/${path}`, import.meta.url))
const expected = JSON.parse(readFileSync(fixture('ppo/expected.json'), 'utf8')) as {
  leaveOneOut: Record<'rewards' | 'two' | 'three', number[]>
  sequence: (Record<'old' | 'new' | 'mask' | 'gradient', Matrix> & {
    advantages: number[]
  } & Record<'loss' | 'clipped' | 'ratio' | 'kl', number>)[]
  klLoss: (Record<'new' | 'reference' | 'mask' | 'gradient', Matrix> & {
    estimator: 'k1' | 'k2' | 'k3'
    loss: number
  })[]
  entropy: Record<'z' | 'gradient', Matrix>
  shift: Matrix
  rollouts: { promptIds: number[]; responseIds: number[]; reward: number }[]
  rounds: {
    options: Record<string, unknown> & { learning_rate: number }
    losses: number[]
    weights: Record<string, Brief>
  }[]
}

const close = (actual: readonly ArrayLike<number>[], wanted: Matrix, digits = 10): void =>
  wanted.forEach((row, i) =>
    row.forEach((x, t) => expect(actual[i]?.[t], `[${i}][${t}]`).toBeCloseTo(x, digits)),
  )

test('leave-one-out advantages', () => {
  const { rewards, two, three } = expected.leaveOneOut
  close([leaveOneOut(rewards, 2), leaveOneOut(rewards, 3)], [two, three])
})

test.each(expected.sequence)('the clipped loss of whole answers, clipped $clipped', (wanted) => {
  const result = sequenceLoss(wanted.new, wanted.old, wanted.advantages, wanted.mask, 0.2)
  expect(result.loss).toBeCloseTo(wanted.loss, 10)
  expect(result.clipFraction).toBeCloseTo(wanted.clipped, 10)
  expect(result.ratio).toBeCloseTo(wanted.ratio, 10)
  expect(result.approxKl).toBeCloseTo(wanted.kl, 10)
  close(result.grad, wanted.gradient)
})

test.each(expected.klLoss)('KL in the loss, $estimator', (wanted) => {
  const { loss, grad } = klLoss(wanted.new, wanted.reference, wanted.mask, 0.3, wanted.estimator)
  expect(loss).toBeCloseTo(wanted.loss, 10)
  close(grad, wanted.gradient)
})

test('the gradient of the entropy', () => {
  const { z, gradient } = expected.entropy
  const shape = [z.length, z[0]?.length ?? 0]
  const actual = tf.tidy(() => read(entropyGrad(floats(z.flat(), shape))).slice())
  close([actual], [gradient.flat()], 5)
})

describe('a whole round: sampled tokens and scores in, weights out', () => {
  test.each(expected.rounds)('$options', async ({ options: given, losses, weights }) => {
    const { learning_rate, ...rest } = given
    const options = PpoOptions.parse({
      ...rest,
      ...{ samples_per_prompt: 2, epochs: losses.length, lora: null },
      optimizer: { learning_rate, schedule: 'constant', warmup_fraction: 0, weight_decay: 0.1 },
    })
    const heads = options.method === 'ppo' ? [VALUE_HEAD] : []
    const files = { base: fixture('llama/lm_tied'), adapters: [] }
    const trainee = await loadTrainee(files, null, heads, 1)
    const name = 'model.layers.0.mlp.down_proj.weight'
    const shift = floats(expected.shift.flat(), trainee.parameters.get(name).shape)
    trainee.parameters.set(name, tf.add(trainee.parameters.get(name), shift))
    shift.dispose()
    const rollouts = expected.rollouts.map(({ promptIds, responseIds }, prompt): Rollout => ({
      ...{ prompt, promptIds, promptClass: null, responseIds, ended: true, text: '', entropy: 0 },
      logprobs: new Float64Array(responseIds.length),
      referenceLogprobs: new Float64Array(responseIds.length),
      values: new Float64Array(responseIds.length),
    }))
    measure(rollouts, trainee.model, trainee.reference, {
      temperature: options.temperature,
      microTokens: options.micro_batch_tokens,
    })
    const rewards = expected.rollouts.map(({ reward }) => reward)
    const { rows, unit } = learningRows(rollouts, rewards, options, options.kl_coef)
    const optimizer = createAdamW(trainee.parameters, options.optimizer)
    const told = ppoUpdate(
      ...([trainee.model, trainee.trainable, optimizer, rows, options, learning_rate] as const),
      { key: [1], warmup: false, klCoef: options.kl_coef / unit, bad: { count: 0 } },
    )
    expect(told['policy/updates']).toBe(losses.length)
    expect([...trainee.parameters.names].sort()).toEqual(Object.keys(weights).sort())
    for (const [parameter, brief] of Object.entries(weights)) {
      const values = read(trainee.parameters.get(parameter))
      const norm = Math.sqrt(values.reduce((sum, x) => sum + x * x, 0))
      const within = 1e-4 * brief.norm
      expect(Math.abs(norm - brief.norm), parameter).toBeLessThan(within)
      brief.at.forEach((at, i) =>
        expect(
          Math.abs((values[at] ?? NaN) - (brief.values[i] ?? 0)),
          `${parameter}[${at}]`,
        ).toBeLessThan(within),
      )
    }
    optimizer.dispose()
    trainee.dispose()
  })
})
