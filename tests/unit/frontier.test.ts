import { afterAll, describe, expect, test } from 'vitest'
import * as exact from '../../src/evaluation/frontier.ts'
import type { Standing } from '../../src/evaluation/frontier.ts'
import { uniform } from '../../src/random.ts'
import { BETA, COMBINERS, optionsOf, trainNano } from '../../src/training/nano/train.ts'
import { ANSWERS, END, LONGEST, nanoWorld, PROMPTS } from '../../src/training/nano/world.ts'
import { rewardsBy, wordOf } from '../../src/training/nano/world.ts'
import { sample } from '../../src/training/ppo/rollout.ts'

const { policy: first, world, dispose } = nanoWorld()
afterAll(dispose)
const start = world.map(({ reference }) => reference)
const rewardsOf = (combiner: (typeof COMBINERS)[number]): number[][] =>
  rewardsBy(world, optionsOf('ppo', combiner, 1))
const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0)
/** any policy: the reference with every answer's logit moved at random */
const moved = (seed: number, by: number): number[][] =>
  start.map((p, x) => {
    const weights = p.map((q, y) => q * Math.exp(by * (uniform(seed, x, y) - 0.5)))
    return weights.map((w) => w / sum(weights))
  })

/** J by its definition and its ascent by exponentiated gradients, without the closed form. */
function climbed(rewards: readonly (readonly number[])[], sign = 1): number[][] {
  return start.map((reference, x) => {
    let p = reference.map(() => 1 / reference.length)
    for (let step = 0; step < 400; step++) {
      const raised = p.map((q, y) => {
        const slope = (rewards[x]?.[y] ?? 0) - sign * BETA * (Math.log(q / (reference[y] ?? 1)) + 1)
        return Math.log(q) + 0.3 * slope
      })
      const top = Math.max(...raised)
      const weights = raised.map((z) => Math.exp(z - top))
      const total = sum(weights)
      p = weights.map((w) => Math.max(1e-300, w / total))
    }
    return p
  })
}

test('all answers are enumerated, each once, and the model gives them all of its probability', () => {
  expect(ANSWERS).toHaveLength(1 + 6 + 36 + 216)
  expect(new Set(ANSWERS.map(wordOf)).size).toBe(ANSWERS.length)
  for (const p of start) expect(Math.abs(sum(p) - 1)).toBeLessThan(1e-6)
})

test('the engine’s own samples have the enumerated frequencies, rewards and KL', async () => {
  const n = 1000
  const asked = PROMPTS.flatMap((promptIds, prompt) =>
    Array.from({ length: n }, () => ({ prompt, promptIds, promptClass: null })),
  )
  const rollouts = await sample(first, asked, {
    ...{ maxTokens: LONGEST, temperature: 1, stopId: END, decode: wordOf },
    ...{ microTokens: 4096, key: [5, 1] },
  })
  const place = new Map(ANSWERS.map((ids, y) => [wordOf(ids), y]))
  const drawn = rollouts.map(({ prompt, text }) => ({ prompt, y: place.get(text) ?? -1 }))
  expect(drawn.every(({ y }) => y >= 0)).toBe(true)
  const other = exact.optimum(world, rewardsOf('weighted'), BETA).policy
  // E_π0[f] by samples against enumeration, within four standard errors: both rewards, and KL(π0‖π*)
  const functions = [
    (x: number, y: number) => world[x]?.helpfulness[y] ?? NaN,
    (x: number, y: number) => world[x]?.safety[y] ?? NaN,
    (x: number, y: number) => Math.log((start[x]?.[y] ?? NaN) / (other[x]?.[y] ?? NaN)),
  ]
  const standing = exact.standingOf(world, start)
  const kl = sum(start.map((p, x) => exact.divergence(p, other[x] ?? []))) / start.length
  const wanted = [standing.helpfulness, standing.safety, kl]
  functions.forEach((f, i) => {
    const values = drawn.map(({ prompt, y }) => f(prompt, y))
    const mean = sum(values) / values.length
    const error = Math.sqrt(sum(values.map((v) => (v - mean) ** 2))) / values.length
    expect(Math.abs(mean - (wanted[i] ?? NaN))).toBeLessThan(4 * error)
  })
})

describe.each(COMBINERS)('the optimum by %s', (combiner) => {
  const rewards = rewardsOf(combiner)
  const best = exact.optimum(world, rewards, BETA)
  test('is far from the untrained policy and no point', () => {
    expect(exact.variationOf(start, best.policy)).toBeGreaterThanOrEqual(0.4)
    expect(Math.max(...best.policy.flat())).toBeLessThanOrEqual(0.6)
  })
  test('has J = β·ln Z, and nothing around it has more', () => {
    const j = (policy: number[][]): number => exact.objective(world, policy, rewards, BETA)
    expect(j(best.policy)).toBeCloseTo(best.objective, 6)
    for (let seed = 1; seed <= 20; seed++)
      expect(j(moved(seed, 0.2 * seed))).toBeLessThan(best.objective)
  })
  test('is where exponentiated gradients end, from an even start', () => {
    expect(exact.variationOf(climbed(rewards), best.policy)).toBeLessThan(1e-6)
  })
  test('a KL of the wrong sign ends elsewhere', () => {
    expect(exact.variationOf(climbed(rewards, -1), best.policy)).toBeGreaterThan(0.2)
  })
})

describe('the front', () => {
  const budget = 0.6
  const weights = [0, 0.2, 0.5, 0.8, 1]
  const points = weights.map((w) => exact.frontPoint(world, w, budget))
  test('its points spend the budget and go from safe to helpful', () => {
    points.forEach((point) => expect(point.kl).toBeCloseTo(budget, 6))
    points.slice(1).forEach((point, i) => {
      expect(point.helpfulness).toBeGreaterThan(points[i]?.helpfulness ?? NaN)
      expect(point.safety).toBeLessThan(points[i]?.safety ?? NaN)
    })
  })
  test('no policy within the budget is over it, by any weight', () => {
    for (let seed = 1; seed <= 20; seed++) {
      // from the front's own points too, moved a little
      const near = points[seed % points.length]?.policy ?? []
      const noise = moved(seed, 0.5)
      const policy = near.map((p, x) => {
        const mixed = p.map((q, y) => 0.9 * q + 0.1 * (noise[x]?.[y] ?? NaN))
        return mixed.map((q) => q / sum(mixed))
      })
      const standing = exact.standingOf(world, policy)
      for (const w of weights) {
        const front = exact.frontPoint(world, w, standing.kl)
        const gap =
          w * (front.helpfulness - standing.helpfulness) +
          (1 - w) * (front.safety - standing.safety)
        expect(gap).toBeGreaterThan(-1e-9)
      }
    }
  })
  test('a point of it has no regret, and its weight is found', () => {
    points.forEach((point, i) => {
      const { regret, weight } = exact.frontRegret(world, point)
      expect(Math.abs(regret)).toBeLessThan(1e-6)
      expect(weight).toBeCloseTo(weights[i] ?? NaN, 1)
    })
  })
  test('others have some: those moved at random, and the untrained policy at this budget', () => {
    for (let seed = 1; seed <= 5; seed++) {
      const standing = exact.standingOf(world, moved(seed, 4))
      expect(exact.frontRegret(world, standing).regret).toBeGreaterThan(0.02)
    }
    const untrained = exact.standingOf(world, start)
    expect(exact.frontRegret(world, untrained, budget).regret).toBeGreaterThan(0.1)
    // with no KL to spend there is no other policy
    expect(Math.abs(exact.frontRegret(world, untrained).regret)).toBeLessThan(0.001)
  })
  test('golden sections find the least gap of a fine grid', () => {
    const standing = exact.standingOf(world, moved(3, 4))
    const gaps = Array.from({ length: 101 }, (_, i) => {
      const front = exact.frontPoint(world, i / 100, standing.kl)
      const [h, s] = [front.helpfulness - standing.helpfulness, front.safety - standing.safety]
      return (i / 100) * h + (1 - i / 100) * s
    })
    const { regret } = exact.frontRegret(world, standing)
    expect(regret).toBeLessThanOrEqual(Math.min(...gaps) + 1e-9)
    expect(regret).toBeGreaterThan(Math.min(...gaps) - 1e-3)
  })
  test('swapped axes are noticed', () => {
    const swapped = (point: Standing): Standing => ({
      ...{ kl: point.kl, helpfulness: point.safety, safety: point.helpfulness },
    })
    const gaps = points.map((point) => exact.frontRegret(world, swapped(point)).regret)
    // the front is nearly its own mirror image, so this is little; a point's own regret is below 1e-6
    expect(Math.max(...gaps.map(Math.abs))).toBeGreaterThan(0.01)
  })
})

test('the optimum of a linear reward lies on the front, that of the gate below it', () => {
  const regretOf = (combiner: (typeof COMBINERS)[number]): number => {
    const { policy } = exact.optimum(world, rewardsOf(combiner), BETA)
    return exact.frontRegret(world, exact.standingOf(world, policy)).regret
  }
  expect(Math.abs(regretOf('weighted'))).toBeLessThan(1e-6)
  expect(Math.abs(regretOf('lagrangian'))).toBeLessThan(1e-6)
  expect(regretOf('gate')).toBeGreaterThan(0.05)
})

test('the best of n, against draws', () => {
  const rewards = rewardsOf('gate')
  const n = 4
  const policy = exact.bestOf(world, rewards, n)
  for (const p of policy) expect(sum(p)).toBeCloseTo(1, 5)
  const draws = 20_000
  const draw = (u: number): number => {
    let left = u
    return Math.max(
      0,
      (start[0] ?? []).findIndex((p) => (left -= p) < 0),
    )
  }
  let total = 0
  for (let i = 0; i < draws; i++) {
    const best = Array.from({ length: n }, (_, k) => rewards[0]?.[draw(uniform(9, i, k))] ?? NaN)
    total += Math.max(...best) / draws
  }
  const wanted = exact.expectedReward(policy.slice(0, 1), rewards.slice(0, 1))
  expect(Math.abs(total - wanted)).toBeLessThan(0.03)
})

test('a trained policy comes nearer to the optimum, one of the wrong sign does not', async () => {
  const options = { ...optionsOf('rloo', 'weighted', 1), rounds: 25 }
  const rewards = rewardsOf('weighted')
  const j = (policy: number[][]): number => exact.objective(world, policy, rewards, BETA)
  const trained = await trainNano(first, world, options)
  const untrained = j(start.map((p) => [...p]))
  const { objective: best } = exact.optimum(world, rewards, BETA)
  for (const p of trained) expect(Math.abs(sum(p) - 1)).toBeLessThan(1e-6)
  expect(best - j(trained)).toBeLessThan(0.5 * (best - untrained))
  const wrong = world.map((each) => ({
    ...each,
    helpfulness: each.helpfulness.map((h) => -h),
    safety: each.safety.map((s) => -s),
  }))
  expect(j(await trainNano(first, wrong, options))).toBeLessThan(untrained)
}, 60_000)
