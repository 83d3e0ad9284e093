import { describe, expect, test } from 'vitest'
import { uniform } from '../../src/random.ts'
import { checkPolicyOptions } from '../../src/schemas/policy-options.ts'
import { PpoOptions } from '../../src/schemas/policy-options.ts'
import { dpo } from '../../src/training/losses.ts'
import { keepBest } from '../../src/training/ppo/best.ts'
import type { Kept } from '../../src/training/ppo/best.ts'
import { bestAndWorst } from '../../src/training/ppo/pairs.ts'
import type { Rollout } from '../../src/training/ppo/rollout.ts'

const softmax = (logits: readonly number[]): number[] => {
  const e = logits.map((x) => Math.exp(x - Math.max(...logits)))
  const total = e.reduce((a, b) => a + b, 0)
  return e.map((x) => x / total)
}

describe('DPO in closed form', () => {
  // five answers; every pair labelled with its true chance of winning: the optimum is π_ref·exp(r/β)
  const worth = [0.8, 0.1, -0.9, 0.9, -1.5]
  const reference = softmax([0.1, -0.2, 1.4, -0.3, 0.9])
  const beta = 0.6
  const wanted = softmax(worth.map((r, i) => Math.log(reference[i] ?? 1) + r / beta))
  function distance(fault: 'sign' | 'reference' | 'beta' | null, smoothing = 0): number {
    const logits = reference.map((p) => Math.log(p))
    for (let step = 0; step < (fault === 'sign' ? 20 : 4000); step++) {
      const policy = softmax(logits)
      const slope = logits.map(() => 0)
      for (const i of worth.keys())
        for (const j of worth.keys()) {
          if (i === j) continue
          const ratio = (k: number): number =>
            Math.log(policy[k] ?? 1) - (fault === 'reference' ? 0 : Math.log(reference[k] ?? 1))
          const p = 1 / (1 + Math.exp((worth[j] ?? 0) - (worth[i] ?? 0)))
          const own = fault === 'beta' ? 2 * beta : beta
          const { dChosen, dRejected } = dpo(ratio(i), ratio(j), own, p, smoothing)
          const sign = fault === 'sign' ? -1 : 1
          slope[i] = (slope[i] ?? 0) + sign * dChosen
          slope[j] = (slope[j] ?? 0) + sign * dRejected
        }
      // ∂ log π_k/∂ logit_m = [k = m] − π_m; what the pairs give sums to zero, so the second part falls away
      logits.forEach((x, k) => (logits[k] = x - 0.5 * (slope[k] ?? 0)))
    }
    return softmax(logits).reduce((sum, p, k) => sum + Math.abs(p - (wanted[k] ?? 0)), 0) / 2
  }
  test('meets it, from far away', () => {
    const far = reference.reduce((sum, p, k) => sum + Math.abs(p - (wanted[k] ?? 0)), 0) / 2
    expect(far).toBeGreaterThan(0.4)
    expect(Math.max(...wanted)).toBeLessThan(0.6)
    expect(distance(null)).toBeLessThan(1e-6)
  })
  test.each(['sign', 'reference', 'beta'] as const)('a broken %s does not', (fault) =>
    expect(distance(fault)).toBeGreaterThan(0.05),
  )
  test('smoothing draws the labels to one half, and stops short of it', () =>
    expect(distance(null, 0.2)).toBeGreaterThan(0.05))
})

test('the best and the worst of each prompt, against sorting', () => {
  for (const k of [2, 3, 5]) {
    const rewards = Array.from({ length: 12 * k }, (_, i) => Math.round(4 * uniform(5, k, i)))
    const wanted = Array.from({ length: 12 }, (_, g) => rewards.slice(g * k, (g + 1) * k)).flatMap(
      (group, g) => {
        const [low, high] = [Math.min(...group), Math.max(...group)]
        return low === high
          ? []
          : [{ best: g * k + group.indexOf(high), worst: g * k + group.indexOf(low) }]
      },
    )
    expect(wanted.length).toBeLessThan(13)
    expect(bestAndWorst(rewards, k)).toEqual(wanted)
  }
})

const rollout = (prompt: number, text: string): Rollout => {
  const nothing = new Float64Array(0)
  return {
    ...{ prompt, promptIds: [prompt], promptClass: null, responseIds: [text.length], ended: true },
    ...{ text, logprobs: nothing, referenceLogprobs: nothing, values: nothing, entropy: 0 },
  }
}

test('rejection sampling keeps the best of all rounds, against a list of everything', () => {
  const row = (i: number) => ({ messages: [{ role: 'user' as const, content: `question ${i}` }] })
  const prompts = Array.from({ length: 6 }, (_, i) => ({ row: row(i), ids: [i] }))
  const kept: Kept = new Map()
  const everything: { prompt: number; text: string; reward: number; round: number }[] = []
  for (let round = 0; round < 5; round++) {
    const asked = [round % 6, (round + 1) % 6, (2 * round + 3) % 6].flatMap((p) => [p, p, p])
    const answers = asked.map((prompt, i) => rollout(prompt, 'x'.repeat(9 * round + i + 1)))
    const rewards = asked.map((_, i) => Math.round(6 * uniform(8, round, i)))
    const earlier = new Map(
      [...new Set(asked)].map((p) => [
        p,
        Math.max(...everything.filter(({ prompt }) => prompt === p).map(({ reward }) => reward)),
      ]),
    )
    const figures = keepBest(kept, answers, rewards, prompts, 3, round)
    answers.forEach(({ prompt, text }, i) =>
      everything.push({ prompt, text, reward: rewards[i] ?? 0, round }),
    )
    // of equal ones the first stays
    const best = [...new Set(everything.map(({ prompt }) => prompt))].map((p) =>
      everything
        .filter(({ prompt }) => prompt === p)
        .reduce((a, b) => (b.reward > a.reward ? b : a)),
    )
    expect([...kept.values()].map(({ text, reward, round }) => ({ text, reward, round }))).toEqual(
      best.map(({ text, reward, round }) => ({ text, reward, round })),
    )
    const groups = [0, 3, 6].map((at) => Math.max(...rewards.slice(at, at + 3)))
    const known = [0, 3, 6].filter((at) => Number.isFinite(earlier.get(asked[at] ?? -1)))
    const improved = known.filter(
      (at) => (groups[at / 3] ?? 0) > (earlier.get(asked[at] ?? -1) ?? 0),
    )
    if (new Set(asked).size === 3 && known.length > 0)
      expect(figures['rejection/improved_share']).toBeCloseTo(improved.length / known.length, 12)
    expect(figures['rejection/best_reward']).toBeCloseTo(groups.reduce((a, b) => a + b, 0) / 3, 12)
    expect(figures['rejection/kept']).toBe(best.length)
    expect(figures['rejection/kept_earlier_share']).toBeCloseTo(
      best.filter((each) => each.round < round).length / best.length,
      12,
    )
  }
})

test.each([
  [{ method: 'rloo', samples_per_prompt: 1 }, 'samples_per_prompt'],
  [{ method: 'dpo', samples_per_prompt: 1 }, 'samples_per_prompt'],
  [{ method: 'dpo', kl_in: 'loss', kl_estimator: 'k2' }, 'kl_in'],
  [{ method: 'dpo', entropy_coef: 0.1 }, 'entropy_coef'],
  [{ method: 'rejection_sampling', target_kl: 0.1 }, 'target_kl'],
  [{ method: 'rejection_sampling', kl_target: 1 }, 'kl_target'],
  [{ method: 'rejection_sampling', reward_normalization: 'batch' }, 'reward_normalization'],
  [{ method: 'rejection_sampling', combiner: 'lagrangian', safety_limit: 0 }, 'safety_limit'],
])('options that a method cannot use are refused by name: %j', (options, field) => {
  const parsed = PpoOptions.parse({ samples_per_prompt: 4, ...options })
  expect(() => checkPolicyOptions(parsed)).toThrow(
    expect.objectContaining({ code: 'conflicting_options', details: { field } }) as Error,
  )
  checkPolicyOptions(PpoOptions.parse({ ...options, method: 'ppo', samples_per_prompt: 4 }))
})

test.each([
  [{ kl_in: 'loss' }, 'kl_estimator'],
  [{ kl_in: 'loss', method: 'rloo' }, 'kl_estimator'],
  [{ method: 'dpo', kl_coef: 0 }, 'kl_coef'],
  [{ kl_coef: 0, kl_target: 6 }, 'kl_coef'],
  [{ combiner: 'lagrangian', safety_limit: 0, lagrange_multiplier: 0 }, 'lagrange_multiplier'],
])('what would hold nothing back, or never move, is refused by name: %j', (options, field) => {
  const parsed = PpoOptions.parse({ samples_per_prompt: 4, ...options })
  expect(() => checkPolicyOptions(parsed)).toThrow(
    expect.objectContaining({ code: 'conflicting_options', details: { field } }) as Error,
  )
})

test('a safety limit steers λ of the lagrangian: with another combiner it is refused', () => {
  const parse = (more: object): PpoOptions => PpoOptions.parse({ samples_per_prompt: 2, ...more })
  for (const method of ['ppo', 'rloo', 'dpo', 'rejection_sampling'])
    for (const combiner of ['gate', 'gate_monotone', 'weighted', 'mean'])
      expect(() => checkPolicyOptions(parse({ method, combiner, safety_limit: 2 }))).toThrow(
        /^safety_limit: .*lagrangian/u,
      )
  checkPolicyOptions(parse({ safety_limit: null }))
  checkPolicyOptions(parse({ safety_limit: 2, combiner: 'lagrangian' }))
})
