import { describe, expect, test } from 'vitest'
import { combine } from '../../src/evaluation/combine.ts'
import { uniform } from '../../src/random.ts'
import type { Combiner } from '../../src/schemas/model.ts'
import { PpoOptions } from '../../src/schemas/policy-options.ts'
import { joined, deviationOf, nextKlCoef, nextMultiplier } from '../../src/training/ppo/control.ts'
import { learningRows } from '../../src/training/ppo/learning-rows.ts'
import { klLoss, policyLoss, sequenceLoss } from '../../src/training/ppo/loss.ts'
import type { Rollout } from '../../src/training/ppo/rollout.ts'

// Five answers of one token each, with a helpfulness and a safety that pull apart. The optimum of E[r] − β·KL is known,
// π* ∝ π_ref·exp(r/β); the estimators that don't lead there lead to points of their own, found here by exact expectation.
const HELPFULNESS = [0.9, 0.4, -0.2, 0.1, -0.6]
const SAFETY = [-1.1, 0.2, 0.8, 0.3, 0.5]
const REFERENCE_LOGITS = [1.1, 0.2, 0.4, -0.3, 0.6]
const BETA = 0.5

const softmax = (logits: readonly number[]): number[] => {
  const e = logits.map((x) => Math.exp(x - Math.max(...logits)))
  const total = e.reduce((a, b) => a + b, 0)
  return e.map((x) => x / total)
}
const reference = softmax(REFERENCE_LOGITS)
const apart = (p: readonly number[], q: readonly number[]): number =>
  p.reduce((sum, x, i) => sum + Math.abs(x - (q[i] ?? 0)), 0) / 2

const rewardsBy = (combiner: Combiner): number[] =>
  HELPFULNESS.map((h, i) => {
    const s = SAFETY[i] ?? 0
    const options = { combiner, threshold: 0.4, promptClass: null, multiplier: 2, weight: 0.3 }
    return combine({ logit: h }, { logit: s, probability: null }, options).reward
  })
const optimum = (r: readonly number[]): number[] =>
  softmax(REFERENCE_LOGITS.map((z, i) => z + (r[i] ?? 0) / BETA))

type Place = Pick<PpoOptions, 'kl_estimator' | 'kl_in' | 'method'>

/** Where exact policy gradients of an estimator end: every answer is weighed by its probability, none is sampled. */
function ownPoint(
  r: readonly number[],
  { kl_estimator: estimator, kl_in: place }: Place,
): number[] {
  let logits = [...REFERENCE_LOGITS]
  for (let step = 0; step < 4_000; step++) {
    const p = softmax(logits)
    const worth = p.map((x, i) => {
      const l = Math.max(-20, Math.log(x / (reference[i] ?? 1))) // an answer may die out
      const estimate = { k1: l, k2: l ** 2 / 2, k3: Math.exp(-l) - 1 + l }
      const slope = { k1: 1, k2: l, k3: 1 - Math.exp(-l) }
      return (r[i] ?? 0) - BETA * (place === 'reward' ? estimate : slope)[estimator]
    })
    const mean = p.reduce((sum, x, i) => sum + x * (worth[i] ?? 0), 0)
    logits = logits.map((z, i) => z + 0.5 * (p[i] ?? 0) * ((worth[i] ?? 0) - mean))
  }
  return softmax(logits)
}

const ROUNDS = 300
const ANSWERS = 256

/** What the project's rows and losses make of sampled answers. */
function train(
  r: readonly number[],
  place: Place,
  fault: 'sign' | 'reference' | null = null,
  whiten_advantages = false,
): number[] {
  const options = PpoOptions.parse({
    ...{ ...place, whiten_advantages, samples_per_prompt: ANSWERS, lambda: 1 },
  })
  const logits = [...REFERENCE_LOGITS]
  for (let round = 0; round < ROUNDS; round++) {
    const p = softmax(logits)
    const rollouts = Array.from({ length: ANSWERS }, (_, i): Rollout => {
      let u = uniform(5, round, i)
      const id = Math.max(
        0,
        p.findIndex((x) => (u -= x) < 0),
      )
      const baseline = r.reduce((sum, x, k) => sum + x * (p[k] ?? 0), 0)
      return {
        ...{ prompt: 0, promptIds: [], promptClass: null, responseIds: [id], ended: true },
        ...{ text: '', entropy: 0, logprobs: Float64Array.of(Math.log(p[id] ?? 1)) },
        referenceLogprobs: Float64Array.of(
          fault === 'reference' ? 0 : Math.log(reference[id] ?? 1),
        ),
        values: Float64Array.of(baseline),
      }
    })
    const scores = rollouts.map(({ responseIds: [id = 0] }) => r[id] ?? 0)
    const { rows, unit } = learningRows(rollouts, scores, options, BETA)
    const logprobs = rows.map((row) => row.oldLogprobs)
    const masks = rows.map(() => [1])
    const { grad } =
      place.method === 'rloo'
        ? sequenceLoss(
            logprobs,
            logprobs,
            rows.map(({ advantages: [a = 0] }) => a),
            masks,
            0.2,
          )
        : policyLoss(
            logprobs,
            logprobs,
            rows.map(({ advantages }) => advantages),
            masks,
            0.2,
          )
    const penalty = klLoss(
      ...([logprobs, rows.map((row) => row.referenceLogprobs), masks] as const),
      ...([place.kl_in === 'loss' ? BETA / unit : 0, place.kl_estimator] as const),
    )
    const rate = 5 * (1 - round / ROUNDS)
    rows.forEach(({ responseIds: [id] }, i) => {
      const g = (fault === 'sign' ? -1 : 1) * (grad[i]?.[0] ?? 0) + (penalty.grad[i]?.[0] ?? 0)
      p.forEach((x, k) => (logits[k] = (logits[k] ?? 0) - rate * g * ((k === id ? 1 : 0) - x)))
    })
  }
  return softmax(logits)
}

describe.each(['gate', 'weighted'] as const)('two aims by %s', (combiner) => {
  const r = rewardsBy(combiner)
  const best = optimum(r)
  test('an untrained policy is far from the optimum, which is no point', () => {
    expect(Math.max(...best)).toBeLessThanOrEqual(0.7)
    expect(apart(reference, best)).toBeGreaterThan(0.2)
  })
  test.each([
    { method: 'ppo', kl_in: 'reward', kl_estimator: 'k1' },
    { method: 'ppo', kl_in: 'loss', kl_estimator: 'k2' },
    { method: 'rloo', kl_in: 'reward', kl_estimator: 'k1' },
    { method: 'rloo', kl_in: 'loss', kl_estimator: 'k2' },
  ] as const)('$method with $kl_estimator in the $kl_in meets it', (place) => {
    expect(apart(ownPoint(r, place), best)).toBeLessThan(0.001) // the twin agrees
    expect(apart(train(r, place), best)).toBeLessThan(0.02)
  })
  test.each(['ppo', 'rloo'] as const)(
    '%s with whitened advantages and k2 in the loss, too',
    (method) => {
      const place = { method, kl_in: 'loss', kl_estimator: 'k2' } as const
      expect(apart(train(r, place, null, true), best)).toBeLessThan(0.02)
    },
  )
  test.each([
    { method: 'ppo', kl_in: 'reward', kl_estimator: 'k2' },
    { method: 'ppo', kl_in: 'reward', kl_estimator: 'k3' },
    { method: 'ppo', kl_in: 'loss', kl_estimator: 'k3' },
  ] as const)('$method with $kl_estimator in the $kl_in meets a point of its own', (place) => {
    const own = ownPoint(r, place)
    expect(apart(own, best)).toBeGreaterThan(0.04)
    expect(apart(train(r, place), own)).toBeLessThan(0.03)
  })
  test.each(['sign', 'reference'] as const)('a broken %s is noticed', (fault) => {
    const place = { method: 'ppo', kl_in: 'reward', kl_estimator: 'k1' } as const
    expect(apart(train(r, place, fault), best)).toBeGreaterThan(0.05)
  })
})

describe('what steers the rounds', () => {
  const options = PpoOptions.parse({
    ...{ kl_target: 6, kl_horizon: 1000, combiner: 'lagrangian', safety_limit: 0.5 },
  })
  test('β follows the KL, a fifth of the error at most', () => {
    expect(nextKlCoef(0.1, 6, 100, options)).toBe(0.1)
    expect(nextKlCoef(0.1, 6.6, 100, options)).toBeCloseTo(0.1 * (1 + 0.1 * 0.1), 12)
    expect(nextKlCoef(0.1, 60, 100, options)).toBeCloseTo(0.1 * (1 + 0.2 * 0.1), 12)
    expect(nextKlCoef(0.1, 0, 100, options)).toBeCloseTo(0.1 * (1 - 0.2 * 0.1), 12)
    expect(nextKlCoef(0.1, 60, 100, { ...options, kl_target: null })).toBe(0.1)
    // a round that is longer than the horizon moves it no further, and never below zero
    expect(nextKlCoef(0.1, 0, 100_000, options)).toBeCloseTo(0.08, 12)
  })
  test('λ rises while safety is under its limit and falls above it', () => {
    expect(nextMultiplier(2, 0.5, options)).toBe(2)
    expect(nextMultiplier(2, 0, options)).toBeCloseTo(2 * Math.exp(0.1 * 2 * 0.5), 12)
    expect(nextMultiplier(2, 1, options)).toBeCloseTo(2 * Math.exp(-0.1 * 2 * 0.5), 12)
    expect(nextMultiplier(4.9, -9, options)).toBe(5)
    expect(nextMultiplier(2, 0, { ...options, combiner: 'gate' })).toBe(2)
  })
  test('moments joined in parts are those of the whole', () => {
    const values = Array.from({ length: 30 }, (_, i) => 5 + uniform(9, i))
    const parts = [values.slice(0, 1), values.slice(1, 12), [], values.slice(12)]
    const { n, mean, m2 } = parts.reduce(joined, { n: 0, mean: 0, m2: 0 })
    const whole = values.reduce((a, b) => a + b, 0) / 30
    const squares = values.reduce((a, b) => a + (b - whole) ** 2, 0)
    expect([n, mean]).toEqual([30, expect.closeTo(whole, 10)])
    expect(deviationOf({ n, mean, m2 })).toBeCloseTo(Math.sqrt(squares / 29), 10)
  })
})
