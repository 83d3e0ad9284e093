import { describe, expect, test } from 'vitest'
import { uniform } from '../../src/random.ts'
import { PpoOptions } from '../../src/schemas/policy-options.ts'
import { gae } from '../../src/training/ppo/advantages.ts'
import { learningRows } from '../../src/training/ppo/learning-rows.ts'
import { klLoss, policyLoss, sequenceLoss, valueLoss } from '../../src/training/ppo/loss.ts'
import { tokenRewards } from '../../src/training/ppo/rewards.ts'

// A tree of answers over {a, b, end}, at most three tokens: small enough to enumerate, so the optimum of
// E[r] − β·KL is known exactly, π* ∝ π_ref·exp(r/β). PPO and RLOO as the project computes them must find it with k1 in
// the reward. In the loss the penalty is each token's own: where that leads is found by going up from the leaves.
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
const normalised = (weight: readonly number[]): number[] => {
  const total = weight.reduce((a, b) => a + b, 0)
  return weight.map((w) => w / total)
}
const OPTIMUM = normalised(
  leaves().map((s) => probabilityOf(referenceLogits, s) * Math.exp(worth(s) / BETA)),
)
const apart = (p: readonly number[], q: readonly number[]): number =>
  p.reduce((sum, x, i) => sum + Math.abs(x - (q[i] ?? 0)), 0) / 2
const answersOf = (table: Table): number[] => leaves().map((s) => probabilityOf(table, s))
const distance = (table: Table): number => apart(answersOf(table), OPTIMUM)

/**
 * Where a penalty in the loss leads: at every prefix π best for Σ_x π(x)·Q(x) less β·KL of this token alone, Q the
 * expected worth further down, without the KL there. k2's gradient is that of KL(π‖π_ref): π ∝ π_ref·exp(Q/β). k3's is
 * that of KL(π_ref‖π): π = β·π_ref/(c − Q), c such that it sums to 1.
 */
function tokenwise(estimator: 'k2' | 'k3'): number[] {
  const below = (s: string): { value: number; answers: Map<string, number> } => {
    if (isWhole(s)) return { value: worth(s), answers: new Map([[s, 1]]) }
    const children = LETTER.map((x) => below(s + x))
    const q = children.map(({ value }) => value)
    const reference = softmax(referenceLogits.get(s) ?? [])
    const policy = { k2: soft, k3: inverse }[estimator](q, reference)
    const value = q.reduce((sum, x, k) => sum + x * (policy[k] ?? 0), 0)
    const answers = children.flatMap((child, k) =>
      [...child.answers].map(([leaf, p]) => [leaf, p * (policy[k] ?? 0)] as const),
    )
    return { value, answers: new Map(answers) }
  }
  const { answers } = below('')
  return leaves().map((s) => answers.get(s) ?? 0)
}
const soft = (q: readonly number[], reference: readonly number[]): number[] =>
  normalised(reference.map((p, k) => p * Math.exp((q[k] ?? 0) / BETA)))
function inverse(q: readonly number[], reference: readonly number[]): number[] {
  const at = (c: number): number[] => reference.map((p, k) => (BETA * p) / (c - (q[k] ?? 0)))
  let [low, high] = [Math.max(...q), Math.max(...q) + BETA]
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2
    if (at(middle).reduce((a, b) => a + b, 0) > 1) low = middle
    else high = middle
  }
  return at(high)
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

/** The same by the project's own rows and losses, for any method and place of the penalty; the answers' probabilities. */
function trainBy(place: Pick<PpoOptions, 'method' | 'kl_in' | 'kl_estimator'>): number[] {
  const options = PpoOptions.parse({
    ...{ ...place, samples_per_prompt: ROWS, whiten_advantages: false, lambda: 1 },
  })
  const table = new Map([...referenceLogits].map(([s, logits]) => [s, [...logits]]))
  for (let round = 0; round < ROUNDS; round++) {
    const policy = new Map([...table].map(([s, logits]) => [s, softmax(logits)]))
    const sampled = Array.from({ length: ROWS }, (_, i) => rollOut(policy, round, i))
    const rollouts = sampled.map(({ tokens, logprobs, reference }) => ({
      ...{ prompt: 0, promptIds: [], promptClass: null, responseIds: tokens, ended: true },
      ...{ text: '', entropy: 0, logprobs: Float64Array.from(logprobs) },
      referenceLogprobs: Float64Array.from(reference),
      values: new Float64Array(tokens.length),
    }))
    const rewards = sampled.map(({ leaf }) => worth(leaf))
    const { rows } = learningRows(rollouts, rewards, options, BETA)
    const old = rows.map((row) => row.oldLogprobs)
    const masks = rows.map(({ responseIds }) => responseIds.map(() => 1))
    const advantages = rows.map((row) => row.advantages)
    const whole = options.method === 'rloo'
    const { grad } = whole
      ? sequenceLoss(
          old,
          old,
          advantages.map(([a = 0]) => a),
          masks,
          0.2,
        )
      : policyLoss(old, old, advantages, masks, 0.2)
    const penalty = klLoss(
      ...([old, rows.map((row) => row.referenceLogprobs), masks] as const),
      ...([options.kl_in === 'loss' ? BETA : 0, options.kl_estimator] as const),
      ...(whole ? [ROWS] : []),
    )
    const rate = (whole ? 4 : 8) * (1 - round / ROUNDS)
    sampled.forEach(({ prefixes, tokens }, i) =>
      prefixes.forEach((s, t) => {
        const g = (grad[i]?.[t] ?? 0) + (penalty.grad[i]?.[t] ?? 0)
        const logits = table.get(s) ?? []
        policy.get(s)?.forEach((p, k) => {
          logits[k] = (logits[k] ?? 0) - rate * g * ((k === tokens[t] ? 1 : 0) - p)
        })
      }),
    )
  }
  return answersOf(table)
}

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

test('RLOO finds it with k1 in the reward', () => {
  expect(
    apart(trainBy({ method: 'rloo', kl_in: 'reward', kl_estimator: 'k1' }), OPTIMUM),
  ).toBeLessThan(0.02)
})

describe.each(['k2', 'k3'] as const)('%s in the loss, over several tokens', (kl_estimator) => {
  const own = tokenwise(kl_estimator)
  test('leads elsewhere than to the optimum', () => {
    expect(own.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 10)
    expect(apart(own, OPTIMUM)).toBeGreaterThan(0.04)
  })
  test.each(['ppo', 'rloo'] as const)('%s meets the point of this penalty', (method) => {
    expect(apart(trainBy({ method, kl_in: 'loss', kl_estimator }), own)).toBeLessThan(0.02)
  })
})
