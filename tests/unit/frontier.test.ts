import { describe, expect, test } from 'vitest'
import {
  bestOf,
  expectation,
  frontAt,
  frontRegret,
  klOf,
  objective,
  optimum,
  pointOf,
} from '../../bench/frontier/exact.ts'
import type { Table } from '../../bench/frontier/exact.ts'
import { ANSWERS, END, helpfulness, PROMPTS, safety, table } from '../../bench/frontier/world.ts'
import { normal, uniform } from '../../src/random.ts'

// The exact side of `npm run study:frontier`, held against what it is not computed by: sampling, gradient ascent and
// policies at random.
const softmax = (logits: readonly number[]): number[] => {
  const e = logits.map((x) => Math.exp(x - Math.max(...logits)))
  const total = e.reduce((a, b) => a + b, 0)
  return e.map((x) => x / total)
}
const reference = PROMPTS.map((_, x) => softmax(ANSWERS.map((_, y) => 1.5 * normal(1, x, y))))
const world = { reference, helpfulness: table(helpfulness), safety: table(safety) }
const reward = world.helpfulness.map((row, x) =>
  row.map((h, y) => 0.4 * h + 0.6 * (world.safety[x]?.[y] ?? 0)),
)
const BETA = 0.15
const best = optimum(reference, reward, BETA)
const shaken = (policy: Table, by: number, seed: number): number[][] =>
  policy.map((row, x) => softmax(row.map((p, y) => Math.log(p) + by * normal(seed, x, y))))

test('the world: every answer once, every prompt once, and aims that pull apart', () => {
  expect(ANSWERS).toHaveLength(1 + 7 + 7 * 7 * 8)
  expect(new Set(ANSWERS.map(String)).size).toBe(ANSWERS.length)
  expect(new Set(PROMPTS.map(String)).size).toBe(PROMPTS.length)
  for (const answer of ANSWERS) expect(answer.indexOf(END)).toBeOneOf([-1, answer.length - 1])
  const most = (value: Table, of: Table): number =>
    expectation(
      value.map((row) => row.map((v) => Number(v === Math.max(...row)))),
      of,
    )
  expect(most(world.helpfulness, world.safety)).toBeLessThan(most(world.safety, world.safety) - 0.8)
  expect(most(world.safety, world.helpfulness)).toBeLessThan(
    most(world.helpfulness, world.helpfulness) - 0.8,
  )
})

describe('the optimum', () => {
  test('its objective is β·log Z, and no other policy’s is greater', () => {
    expect(objective(best.policy, reference, reward, BETA)).toBeCloseTo(best.value, 12)
    for (let seed = 0; seed < 30; seed++)
      expect(objective(shaken(best.policy, 0.1, seed), reference, reward, BETA)).toBeLessThan(
        best.value,
      )
    for (const row of best.policy) expect(row.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 12)
  })
  test('is where exponentiated gradient ascent on the objective ends', () => {
    let policy = reference.map((row) => row.map(() => 1 / row.length))
    for (let step = 0; step < 120; step++)
      policy = policy.map((row, x) =>
        softmax(
          row.map((p, y) => {
            const slope =
              (reward[x]?.[y] ?? 0) - BETA * (Math.log(p / (reference[x]?.[y] ?? 0)) + 1)
            return Math.log(p) + 1 * slope
          }),
        ),
      )
    expect(klOf(policy, best.policy)).toBeLessThan(1e-6)
  })
  test.each([
    [
      'sign',
      optimum(
        reference,
        reward.map((row) => row.map((r) => -r)),
        BETA,
      ),
    ],
    ['β', optimum(reference, reward, 2 * BETA)],
    ['axis', optimum(reference, world.safety, BETA)],
  ])('a wrong %s falls short', (_, { policy }) =>
    expect(objective(policy, reference, reward, BETA)).toBeLessThan(best.value - 0.01),
  )
})

test('means and KL are those of sampled answers', () => {
  const n = 4000
  const sums = { helpfulness: 0, kl: 0 }
  PROMPTS.forEach((_, x) => {
    for (let i = 0; i < n; i++) {
      let u = uniform(9, x, i)
      const y = best.policy[x]?.findIndex((p) => (u -= p) < 0) ?? -1
      const [p, q] = [best.policy[x]?.[y] ?? NaN, reference[x]?.[y] ?? NaN]
      sums.helpfulness += (world.helpfulness[x]?.[y] ?? NaN) / (n * PROMPTS.length)
      sums.kl += Math.log(p / q) / (n * PROMPTS.length)
    }
  })
  const point = pointOf(world, best.policy)
  expect(sums.helpfulness).toBeCloseTo(point.helpfulness, 1)
  expect(Math.abs(sums.kl - point.kl)).toBeLessThan(0.03)
})

test('best of n is what taking the best of n samples gives', () => {
  const rounded = reward.map((row) => row.map((r) => Math.round(4 * r) / 4)) // with ties
  const exact = bestOf(reference, rounded, 5)
  const n = 3000
  let [sampled, wanted] = [0, 0]
  PROMPTS.forEach((_, x) => {
    expect(exact[x]?.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 10)
    for (let i = 0; i < n; i++) {
      const drawn = Array.from({ length: 5 }, (_, k) => {
        let u = uniform(10, x, i, k)
        return reference[x]?.findIndex((p) => (u -= p) < 0) ?? -1
      })
      sampled += Math.max(...drawn.map((y) => rounded[x]?.[y] ?? NaN)) / (n * PROMPTS.length)
    }
    wanted += (exact[x] ?? []).reduce((s, p, y) => s + p * (rounded[x]?.[y] ?? 0), 0)
  })
  expect(sampled).toBeCloseTo(wanted / PROMPTS.length, 2)
  expect(klOf(exact, reference)).toBeLessThan(Math.log(5) - 4 / 5)
  expect(bestOf(reference, rounded, 1).flat()).toEqual(
    reference.flat().map((p) => expect.closeTo(p, 12) as number),
  )
})

describe('the front', () => {
  const budget = 0.8
  const front = frontAt(world, budget)
  test('spends the whole budget, trades one aim for the other, and is reached by no policy within it', () => {
    for (const { kl } of front) expect(kl).toBeCloseTo(budget, 6)
    for (const [i, at] of front.slice(1).entries()) {
      expect(at.helpfulness).toBeGreaterThanOrEqual((front[i]?.helpfulness ?? NaN) - 1e-9)
      expect(at.safety).toBeLessThanOrEqual((front[i]?.safety ?? NaN) + 1e-9)
    }
    for (const at of front) expect(frontRegret(front, at)).toBeCloseTo(0, 9)
    for (let seed = 0; seed < 3; seed++) {
      const other = pointOf(world, shaken(reference, 0.8, 40 + seed))
      expect(frontRegret(frontAt(world, other.kl), other)).toBeGreaterThan(0)
    }
  })
  test('the best policy for a weighted reward lies on it, one for a gate need not', () => {
    const point = pointOf(world, best.policy)
    expect(frontRegret(frontAt(world, point.kl), point)).toBeLessThan(1e-3)
    const gate = world.safety.map((row, x) =>
      row.map((s, y) => (s < 0 ? s : (world.helpfulness[x]?.[y] ?? 0))),
    )
    const gated = pointOf(world, optimum(reference, gate, BETA).policy)
    expect(frontRegret(frontAt(world, gated.kl), gated)).toBeGreaterThan(0.01)
  })
  test('no budget: nothing but π0', () => {
    const [at] = frontAt(world, 1e-9, [0.5])
    expect(at?.helpfulness).toBeCloseTo(pointOf(world, reference).helpfulness, 3)
  })
})
