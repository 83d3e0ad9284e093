import { expect, test } from 'vitest'
import { bestOfKlBound } from '../../src/evaluation/best-of.ts'

const kl = (p: readonly number[], q: readonly number[]): number =>
  p.reduce((sum, each, i) => sum + (each > 0 ? each * Math.log(each / (q[i] ?? NaN)) : 0), 0)

/** Every list of `length` answers and its chance under the policy. */
function* lists(policy: readonly number[], length: number): Generator<[number[], number]> {
  if (length === 0) return yield [[], 1]
  for (const [rest, chance] of lists(policy, length - 1))
    for (const [answer, p] of policy.entries()) yield [[...rest, answer], chance * p]
}

/**
 * The KL of the `kept` best of `sampled` to plain samples, as a set and of one of them picked at random: all lists
 * counted, the first of equals taken.
 */
function exactKls(
  policy: readonly number[],
  reward: readonly number[],
  [sampled, kept]: readonly [number, number],
): { set: number; one: number } {
  const one = policy.map(() => 0)
  const [chosen, plain] = [new Map<string, number>(), new Map<string, number>()]
  const count = (sets: Map<string, number>, list: number[], chance: number): void => {
    const key = list.toSorted().join()
    sets.set(key, (sets.get(key) ?? 0) + chance)
  }
  for (const [list, chance] of lists(policy, kept)) count(plain, list, chance)
  for (const [list, chance] of lists(policy, sampled)) {
    const best = list.toSorted((a, b) => (reward[b] ?? NaN) - (reward[a] ?? NaN)).slice(0, kept)
    count(chosen, best, chance)
    for (const answer of best) one[answer] = (one[answer] ?? 0) + chance / kept
  }
  const keys = [...plain.keys()]
  const of = (sets: Map<string, number>): number[] => keys.map((key) => sets.get(key) ?? 0)
  return { set: kl(of(chosen), of(plain)), one: kl(one, policy) }
}
const exactKl = (...input: Parameters<typeof exactKls>): number => exactKls(...input).set

const POLICY = [0.1, 0.4, 0.2, 0.25, 0.05]
const DISTINCT = [3, 1, 5, 2, 4]

test('the bound: by hand, and nothing where nothing is chosen', () => {
  expect(bestOfKlBound(4)).toBeCloseTo(0.6362943611, 10) // ln 4 − 3/4
  expect(bestOfKlBound(64)).toBeCloseTo(3.1745080834, 10) // ln 64 − 63/64
  expect(bestOfKlBound(4, 2)).toBeCloseTo(0.6250928026, 10) // ln 6 − 2·(1/4 + 1/3)
  for (const all of [1, 2, 64]) expect(bestOfKlBound(all, all)).toBe(0)
})

test('one of n: the exact KL from F(y)^n − F(y−)^n stays below the bound and nears it as answers get rarer', () => {
  const pmf = (policy: readonly number[], n: number): number[] => {
    let below = 0 // policy in the order of its rewards
    return policy.map((p) => {
      const chance = (below + p) ** n - below ** n
      below += p
      return chance
    })
  }
  for (const n of [1, 2, 4, 16]) {
    const gaps = [4, 40, 4000].map((size) => {
      const policy = new Array<number>(size).fill(1 / size)
      return bestOfKlBound(n) - kl(pmf(policy, n), policy)
    })
    if (n > 1) expect(gaps).toEqual(gaps.toSorted((a, b) => b - a))
    for (const gap of gaps) expect(gap).toBeGreaterThanOrEqual(-1e-9)
    expect(gaps.at(-1)).toBeLessThan(0.01)
  }
  // the same by counting all lists
  const ordered = [0.4, 0.25, 0.1, 0.05, 0.2]
  expect(exactKl(POLICY, DISTINCT, [4, 1])).toBeCloseTo(kl(pmf(ordered, 4), ordered), 10)
})

test('several of n: the set’s exact KL stays below the bound, ties make it less, one of the set has at most its part', () => {
  for (const [sampled, kept] of [
    [3, 2],
    [4, 2],
    [5, 3],
  ] as const) {
    const bound = bestOfKlBound(sampled, kept)
    const exact = exactKl(POLICY, DISTINCT, [sampled, kept])
    const tied = exactKl(POLICY, [1, 1, 2, 1, 2], [sampled, kept])
    expect(exact).toBeLessThan(bound)
    expect(exactKls(POLICY, DISTINCT, [sampled, kept]).one).toBeLessThan(bound / kept)
    expect(tied).toBeLessThan(exact)
    expect(exactKl(POLICY, [1, 1, 1, 1, 1], [sampled, kept])).toBeCloseTo(0, 10)
  }
  const fine = new Array<number>(20).fill(1 / 20)
  const gap = bestOfKlBound(3, 2) - exactKl(fine, [...fine.keys()], [3, 2])
  expect(gap).toBeGreaterThan(0)
  expect(gap).toBeLessThan(0.05)
})
