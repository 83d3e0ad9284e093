import { describe, expect, test } from 'vitest'
import { absoluteSafety, bradleyTerry, dpo, MARGINS } from '../../src/training/losses.ts'
import { gae, whiten } from '../../src/training/ppo/advantages.ts'
import { policyLoss, valueLoss } from '../../src/training/ppo/loss.ts'
import { klEstimate, tokenRewards } from '../../src/training/ppo/rewards.ts'
import { uniform } from '../../src/random.ts'

/** d f / dx by central differences. */
const slope = (f: (x: number) => number, x: number): number => (f(x + 1e-5) - f(x - 1e-5)) / 2e-5

describe('pair losses', () => {
  test('margins of the four levels (Llama 2, table 27)', () => {
    const of = (size: keyof typeof MARGINS): number[] => [
      ...[MARGINS[size].significantly_better, MARGINS[size].better],
      ...[MARGINS[size].slightly_better, MARGINS[size].negligibly_better],
    ]
    expect(of('small')).toEqual([1, 2 / 3, 1 / 3, 0])
    expect(of('large')).toEqual([3, 2, 1, 0])
    expect(of('none')).toEqual([0, 0, 0, 0])
  })
  test('known values', () => {
    expect(bradleyTerry(0, 0).loss).toBeCloseTo(Math.LN2, 12)
    expect(bradleyTerry(2, 1, 1).loss).toBeCloseTo(Math.LN2, 12) // Δ equals the margin
    expect(bradleyTerry(0, 0, 0, 0.5).loss).toBeCloseTo(Math.LN2, 12)
    expect(bradleyTerry(1000, -1000).loss).toBe(0)
    expect(bradleyTerry(-1000, 1000).loss).toBeCloseTo(2000, 9)
    expect(absoluteSafety(0, true).loss).toBeCloseTo(Math.LN2, 12)
    expect(dpo(0, 0, 0.1).loss).toBeCloseTo(Math.LN2, 12)
  })
  test.each([
    [0.3, -0.7, 0, 1],
    [1.5, 2, 1 / 3, 1],
    [-2, 0.5, 1, 0.8],
    [0.1, 0.2, 0, 0.3],
  ])('gradients at %s %s m %s p %s', (c, r, m, p) => {
    const { dChosen, dRejected } = bradleyTerry(c, r, m, p)
    expect(dChosen).toBeCloseTo(
      slope((x) => bradleyTerry(x, r, m, p).loss, c),
      7,
    )
    expect(dRejected).toBeCloseTo(
      slope((x) => bradleyTerry(c, x, m, p).loss, r),
      7,
    )
    expect(absoluteSafety(c, false).d).toBeCloseTo(
      slope((x) => absoluteSafety(x, false).loss, c),
      7,
    )
    const soft = dpo(c, r, 0.5, p, 0.1)
    expect(soft.dChosen).toBeCloseTo(
      slope((x) => dpo(x, r, 0.5, p, 0.1).loss, c),
      7,
    )
    expect(soft.dRejected).toBeCloseTo(
      slope((x) => dpo(c, x, 0.5, p, 0.1).loss, r),
      7,
    )
  })
})

/** A_t as the explicit sum Σ (γλ)^l δ_{t+l}. */
function naiveAdvantages(
  rewards: number[],
  values: number[],
  gamma: number,
  lambda: number,
): number[] {
  const delta = rewards.map((r, t) => r + gamma * (values[t + 1] ?? 0) - (values[t] ?? 0))
  return delta.map((_, t) =>
    delta.slice(t).reduce((sum, d, l) => sum + (gamma * lambda) ** l * d, 0),
  )
}

describe('advantages', () => {
  test.each([
    [1, 0.95],
    [0.9, 0.5],
    [1, 1],
    [0.99, 0],
  ])('against the explicit sum, γ %s λ %s', (gamma, lambda) => {
    for (const R of [1, 2, 7]) {
      const rewards = Array.from({ length: R }, (_, t) => uniform(1, R, t) - 0.5)
      const values = Array.from({ length: R }, (_, t) => uniform(2, R, t))
      const { advantages, returns } = gae(rewards, values, new Array(R).fill(1), { gamma, lambda })
      naiveAdvantages(rewards, values, gamma, lambda).forEach((a, t) => {
        expect(advantages[t]).toBeCloseTo(a, 12)
        expect(returns[t]).toBeCloseTo(a + (values[t] ?? 0), 12)
      })
    }
  })
  test('padding does not count, all-masked rows are zero', () => {
    const full = gae([1, 2], [0.5, 0.25], [1, 1], { gamma: 0.9, lambda: 0.8 })
    const padded = gae([1, 2, 9, 9], [0.5, 0.25, 7, 7], [1, 1, 0, 0], { gamma: 0.9, lambda: 0.8 })
    expect([...padded.advantages]).toEqual([...full.advantages, 0, 0])
    expect([...gae([3], [3], [0], { gamma: 1, lambda: 1 }).advantages]).toEqual([0])
  })
  test('whitening: mean 0 and deviation 1 over counted tokens', () => {
    const [a, b] = whiten(
      [
        [1, 2, 3],
        [10, 99, 99],
      ],
      [
        [1, 1, 1],
        [1, 0, 0],
      ],
    )
    const counted = [...(a ?? []), b?.[0] ?? NaN]
    expect(counted.reduce((x, y) => x + y, 0)).toBeCloseTo(0, 10)
    expect(counted.reduce((x, y) => x + y * y, 0) / 3).toBeCloseTo(1, 7)
    expect(b?.[1]).toBe(0)
  })
})

describe('PPO', () => {
  test('gradients of both losses by differences, on and off the clip', () => {
    const old = [[-1, -2, -0.5, -1.2]]
    const mask = [[1, 1, 1, 0]]
    const advantage = [[1, -2, 0.7, 5]]
    for (const shift of [
      [0.01, -0.02, 0.03, 0],
      [0.5, -0.6, 0.4, 1],
      [-0.5, 0.6, -0.4, 1],
    ]) {
      const fresh = [old[0]?.map((x, t) => x + (shift[t] ?? 0)) ?? []]
      const { grad } = policyLoss(fresh, old, advantage, mask, 0.2)
      const { grad: valueGrad } = valueLoss(fresh, old, advantage, mask, 0.2)
      fresh[0]?.forEach((x, t) => {
        const moved = (y: number): number[][] => [fresh[0]?.map((z, k) => (k === t ? y : z)) ?? []]
        expect(grad[0]?.[t]).toBeCloseTo(
          slope((y) => policyLoss(moved(y), old, advantage, mask, 0.2).loss, x),
          6,
        )
        expect(valueGrad[0]?.[t]).toBeCloseTo(
          slope((y) => valueLoss(moved(y), old, advantage, mask, 0.2).loss, x),
          6,
        )
      })
    }
  })
  test('the score lands on the last counted token, the KL penalty on all of them', () => {
    expect([...tokenRewards([-1, -2, 0], [-1.5, -1, 0], [1, 1, 0], 3, 0.1, 'k1')]).toEqual([
      -0.05, 3.1, 0,
    ])
  })
  test('k1 and k3 agree in expectation, k3 is never negative', () => {
    const pi = [0.7, 0.2, 0.1]
    const ref = [0.2, 0.3, 0.5]
    const mean = (e: 'k1' | 'k3'): number =>
      pi.reduce((sum, p, i) => sum + p * klEstimate(Math.log(p), Math.log(ref[i] ?? 1), e), 0)
    expect(mean('k1')).toBeCloseTo(mean('k3'), 12)
    expect(klEstimate(-1, -3, 'k3')).toBeGreaterThan(0)
  })
})

/** One-token problem: tabular softmax policy trained by these functions must reach π* ∝ π_ref·exp(r/β). */
function trainTabular(options: { rewardIndexShift?: number; sign?: number } = {}): {
  distance: number
  start: number
} {
  const reference = [0.3, 0.25, 0.2, 0.15, 0.07, 0.03]
  const reward = [0, 0.2, 0.1, 0.6, 0.95, 0.8]
  const beta = 0.33
  const unnormalised = reference.map((p, i) => p * Math.exp((reward[i] ?? 0) / beta))
  const z = unnormalised.reduce((a, b) => a + b, 0)
  const best = unnormalised.map((x) => x / z)
  const logits = reference.map(Math.log)
  const softmax = (): number[] => {
    const e = logits.map((x) => Math.exp(x - Math.max(...logits)))
    const total = e.reduce((a, b) => a + b, 0)
    return e.map((x) => x / total)
  }
  const distanceTo = (p: number[]): number =>
    0.5 * p.reduce((sum, x, i) => sum + Math.abs(x - (best[i] ?? 0)), 0)
  const start = distanceTo(reference)
  const rounds = 400
  const N = 512
  for (let round = 0; round < rounds; round++) {
    const p = softmax()
    const actions = Array.from({ length: N }, (_, i) => {
      let u = uniform(5, round, i)
      const at = p.findIndex((x) => (u -= x) < 0)
      return at < 0 ? p.length - 1 : at
    })
    const logp = actions.map((a) => [Math.log(p[a] ?? 1)])
    const masks = actions.map(() => [1])
    const rewards = actions.map((a, i) => {
      const r =
        (options.sign ?? 1) * (reward[(a + (options.rewardIndexShift ?? 0)) % reward.length] ?? 0)
      return tokenRewards(logp[i] ?? [], [Math.log(reference[a] ?? 1)], [1], r, beta, 'k1')
    })
    const value = rewards.reduce((sum, r) => sum + (r[0] ?? 0), 0) / N
    const advantages = rewards.map(
      (r) => gae(r, [value], [1], { gamma: 1, lambda: 0.95 }).advantages,
    )
    const { grad } = policyLoss(logp, logp, advantages, masks, 0.2)
    const lr = 8 * (1 - round / rounds)
    actions.forEach((a, i) => {
      const g = grad[i]?.[0] ?? 0
      p.forEach((x, k) => (logits[k] = (logits[k] ?? 0) - lr * g * ((k === a ? 1 : 0) - x)))
    })
  }
  return { distance: distanceTo(softmax()), start }
}

test('PPO finds the known optimum, and a broken sign or index does not', () => {
  const { distance, start } = trainTabular()
  expect(start).toBeGreaterThan(0.4)
  expect(distance).toBeLessThan(0.02)
  expect(trainTabular({ sign: -1 }).distance).toBeGreaterThan(0.1)
  expect(trainTabular({ rewardIndexShift: 1 }).distance).toBeGreaterThan(0.1)
})
