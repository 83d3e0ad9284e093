import { expect, test } from 'vitest'
import { uniform } from '../../src/random.ts'
import { gae } from '../../src/training/ppo/advantages.ts'
import { policyLoss, valueLoss } from '../../src/training/ppo/loss.ts'
import { tokenRewards } from '../../src/training/ppo/rewards.ts'

// A tree of answers over {a, b, end}, at most three tokens: small enough to enumerate, so the optimum of
// E[r] − β·KL is known exactly, π* ∝ π_ref·exp(r/β). PPO as the project computes it must find it.
const END = 2
const LONGEST = 3
const BETA = 0.35
const MISSING_END = 1

const isWhole = (s: string): boolean => s.endsWith('E') || s.length === LONGEST
const LETTER = ['a', 'b', 'E']
const leaves = (s = ''): string[] => (isWhole(s) ? [s] : LETTER.flatMap((x) => leaves(s + x)))
const prefixes = (s = ''): string[] =>
  isWhole(s) ? [] : [s, ...LETTER.flatMap((x) => prefixes(s + x))]

/** What answers are worth: short ones little, `ab…` much, and one without an end is punished. */
const WORTH: Record<string, number> = { E: -0.3, aE: 0.1, bE: 0.2, abE: 1.1, baE: -0.4, aba: 1.9 }
const worth = (s: string): number =>
  (WORTH[s] ?? 0.05 * s.length) - (s.endsWith('E') ? 0 : MISSING_END)

const referenceLogits = new Map(
  prefixes().map((s, i) => [s, [0.9, 0.2, 0.6].map((x, k) => x * (uniform(3, i, k) + 0.5))]),
)
const softmax = (logits: readonly number[]): number[] => {
  const e = logits.map((x) => Math.exp(x - Math.max(...logits)))
  const total = e.reduce((a, b) => a + b, 0)
  return e.map((x) => x / total)
}
type Table = ReadonlyMap<string, number[]>
const probabilityOf = (table: Table, leaf: string): number =>
  [...leaf].reduce(
    (p, x, t) => p * (softmax(table.get(leaf.slice(0, t)) ?? [])[LETTER.indexOf(x)] ?? 0),
    1,
  )
function distance(table: Table): number {
  const weight = leaves().map((s) => probabilityOf(referenceLogits, s) * Math.exp(worth(s) / BETA))
  const total = weight.reduce((a, b) => a + b, 0)
  return (
    leaves().reduce(
      (sum, s, i) => sum + Math.abs(probabilityOf(table, s) - (weight[i] ?? 0) / total),
      0,
    ) / 2
  )
}

type Fault = 'sign' | 'mask' | 'lambda' | 'gamma' | 'index'
const ROUNDS = 500
const ROWS = 512

function train(fault: Fault | null, critic: boolean): number {
  const table = new Map([...referenceLogits].map(([s, logits]) => [s, [...logits]]))
  const values = new Map(prefixes().map((s) => [s, 0]))
  const options = {
    gamma: fault === 'gamma' ? 0.3 : 1,
    lambda: fault === 'lambda' ? 0 : critic ? 0.95 : 1,
  }
  for (let round = 0; round < ROUNDS; round++) {
    const policy = new Map([...table].map(([s, logits]) => [s, softmax(logits)]))
    const rows = Array.from({ length: ROWS }, (_, i) => rollOut(policy, round, i))
    const computed = rows.map((row) => {
      const mask = row.prefixes.map((_, t) =>
        fault === 'mask' && t === row.prefixes.length - 1 ? 0 : 1,
      )
      const reward = fault === 'sign' ? -worth(row.leaf) : worth(row.leaf)
      const rewards = tokenRewards(row.logprobs, row.reference, mask, reward, BETA, 'k1')
      if (fault === 'index') {
        // the score on the first token instead of the last
        rewards[0] = (rewards[0] ?? 0) + reward
        rewards[rewards.length - 1] = (rewards.at(-1) ?? 0) - reward
      }
      const old = row.prefixes.map((s) => (critic ? (values.get(s) ?? 0) : 0))
      return { mask, old, ...gae(rewards, old, mask, options) }
    })
    const logprobs = rows.map((row) => row.logprobs)
    const masks = computed.map(({ mask }) => mask)
    const advantages = computed.map((c) => c.advantages)
    const { grad } = policyLoss(logprobs, logprobs, advantages, masks, 0.2)
    const old = computed.map((c) => c.old)
    const returns = computed.map((c) => c.returns)
    const value = valueLoss(old, old, returns, masks, 0.2)
    const rate = 8 * (1 - round / ROUNDS)
    rows.forEach((row, i) =>
      row.prefixes.forEach((s, t) => {
        const g = grad[i]?.[t] ?? 0
        const logits = table.get(s) ?? []
        // ∂ log π(x)/∂ logit_k = [k = x] − π_k
        policy.get(s)?.forEach((p, k) => {
          logits[k] = (logits[k] ?? 0) - rate * g * ((k === row.tokens[t] ? 1 : 0) - p)
        })
        values.set(s, (values.get(s) ?? 0) - 4 * (value.grad[i]?.[t] ?? 0))
      }),
    )
  }
  return distance(table)
}

function rollOut(policy: Table, round: number, row: number) {
  const seen: string[] = []
  const tokens: number[] = []
  let leaf = ''
  while (!isWhole(leaf)) {
    seen.push(leaf)
    let u = uniform(7, round, row, leaf.length)
    const at = policy.get(leaf)?.findIndex((p) => (u -= p) < 0) ?? -1
    const token = at < 0 ? END : at
    tokens.push(token)
    leaf += LETTER[token] ?? ''
  }
  const logp = (table: Table): number[] =>
    seen.map((s, t) => Math.log(table.get(s)?.[tokens[t] ?? 0] ?? 1))
  return { leaf, prefixes: seen, tokens, logprobs: logp(policy), reference: logp(REFERENCE) }
}
const REFERENCE = new Map([...referenceLogits].map(([s, logits]) => [s, softmax(logits)]))

test('PPO finds the optimum of an enumerated tree of answers', () => {
  expect(leaves()).toHaveLength(15)
  expect(distance(referenceLogits)).toBeGreaterThanOrEqual(0.4)
  expect(train(null, false)).toBeLessThan(0.02)
  expect(train(null, true)).toBeLessThan(0.02)
})

test.each(['sign', 'mask', 'lambda', 'gamma', 'index'] as const)(
  'a broken %s does not find it',
  (fault) => expect(train(fault, false)).toBeGreaterThan(0.05),
)
