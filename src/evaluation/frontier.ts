/**
 * Where answers can be enumerated, what alignment could reach at best is known exactly. Everywhere a policy is, for
 * each prompt, the probabilities of all its answers, and what is expected is the mean over prompts.
 */

/** Of one prompt: all answers under the reference policy, and what they are worth; each [answers]. */
export type Enumerated = {
  reference: readonly number[]
  helpfulness: readonly number[]
  safety: readonly number[]
}
/** [prompts][answers] */
export type ByAnswer = readonly (readonly number[])[]
export type Standing = { kl: number; helpfulness: number; safety: number }

const mean = (world: readonly Enumerated[], f: (prompt: Enumerated, x: number) => number): number =>
  world.reduce((sum, prompt, x) => sum + f(prompt, x), 0) / world.length

const expected = (p: readonly number[], values: readonly number[]): number =>
  p.reduce((sum, q, y) => sum + q * (values[y] ?? NaN), 0)

/** KL(p‖q) = Σ p·ln(p/q); an answer that p never gives adds nothing. */
export const divergence = (p: readonly number[], q: readonly number[]): number =>
  p.reduce((sum, x, y) => sum + (x > 0 ? x * Math.log(x / (q[y] ?? NaN)) : 0), 0)

/** KL to the reference, expected helpfulness and expected safety of a policy. */
export const standingOf = (world: readonly Enumerated[], policy: ByAnswer): Standing => ({
  kl: mean(world, ({ reference }, x) => divergence(policy[x] ?? [], reference)),
  helpfulness: mean(world, ({ helpfulness }, x) => expected(policy[x] ?? [], helpfulness)),
  safety: mean(world, ({ safety }, x) => expected(policy[x] ?? [], safety)),
})

/** Expected reward of a policy. */
export const expectedReward = (policy: ByAnswer, rewards: ByAnswer): number =>
  policy.reduce((sum, p, x) => sum + expected(p, rewards[x] ?? []), 0) / policy.length

/** J(π) = E[r] − β·KL(π‖π0). */
export const objective = (
  world: readonly Enumerated[],
  policy: ByAnswer,
  rewards: ByAnswer,
  beta: number,
): number => expectedReward(policy, rewards) - beta * standingOf(world, policy).kl

/** π* = π0·exp(r/β)/Z, the greatest J of all policies, and that J: the mean of β·ln Z over prompts. */
export function optimum(
  world: readonly Enumerated[],
  rewards: ByAnswer,
  beta: number,
): { policy: number[][]; objective: number } {
  let total = 0
  const policy = world.map(({ reference }, x) => {
    const r = rewards[x] ?? []
    const top = Math.max(...r)
    const weights = reference.map((p, y) => p * Math.exp(((r[y] ?? NaN) - top) / beta))
    const z = weights.reduce((a, b) => a + b, 0)
    total += beta * Math.log(z) + top
    return weights.map((w) => w / z)
  })
  return { policy, objective: total / world.length }
}

/** w·h + (1 − w)·s of every answer. */
export const weighed = (world: readonly Enumerated[], w: number): number[][] =>
  world.map(({ helpfulness, safety }) =>
    helpfulness.map((h, y) => w * h + (1 - w) * (safety[y] ?? NaN)),
  )

/** β between these is looked for; the smaller gives each prompt's best answer almost alone. */
const [LEAST, MOST] = [1e-3, 1e4]

/**
 * The point of the front for weight w at a budget of KL: the policy with the greatest w·E[h] + (1 − w)·E[s] among all
 * with KL ≤ budget. It is π0·exp((w·h + (1 − w)·s)/β), one β for all prompts, whose KL falls as β grows: bisection.
 */
export function frontPoint(
  world: readonly Enumerated[],
  w: number,
  budget: number,
): Standing & { beta: number; policy: number[][] } {
  const rewards = weighed(world, w)
  const at = (beta: number): number => {
    const { policy } = optimum(world, rewards, beta)
    return mean(world, ({ reference }, x) => divergence(policy[x] ?? [], reference))
  }
  let [low, high] = [Math.log(LEAST), Math.log(MOST)]
  for (let i = 0; i < 48; i++) {
    const middle = (low + high) / 2
    if (at(Math.exp(middle)) > budget) low = middle
    else high = middle
  }
  const beta = Math.exp(high)
  const { policy } = optimum(world, rewards, beta)
  return { ...standingOf(world, policy), beta, policy }
}

/**
 * How far a standing lies below the front at a budget of KL (its own where none is given):
 * min over w of [max over KL(π) ≤ budget of w·E[h] + (1 − w)·E[s]] − [w·h + (1 − w)·s].
 * Never below 0 where KL ≤ budget, and 0 on the front alone. The first part is convex in w, a maximum of straight lines,
 * and the second straight: golden sections find the least.
 */
export function frontRegret(
  world: readonly Enumerated[],
  { helpfulness, safety, kl }: Standing,
  budget = kl,
): { regret: number; weight: number } {
  const gap = (w: number): number => {
    const best = frontPoint(world, w, budget)
    return w * (best.helpfulness - helpfulness) + (1 - w) * (best.safety - safety)
  }
  const golden = (Math.sqrt(5) - 1) / 2
  let [low, high] = [0, 1]
  let [left, right] = [1 - golden, golden]
  let [atLeft, atRight] = [gap(left), gap(right)]
  for (let i = 0; i < 30; i++) {
    if (atLeft <= atRight) {
      ;[high, right, atRight] = [right, left, atLeft]
      left = high - golden * (high - low)
      atLeft = gap(left)
    } else {
      ;[low, left, atLeft] = [left, right, atRight]
      right = low + golden * (high - low)
      atRight = gap(right)
    }
  }
  const ends = [0, (low + high) / 2, 1].map((weight) => ({ weight, regret: gap(weight) }))
  return ends.reduce((a, b) => (b.regret < a.regret ? b : a))
}

/**
 * The best of n answers of the reference policy: P(y) = F(r(y))ⁿ − F(r(y)⁻)ⁿ, F the distribution of rewards; of equally
 * good answers each has its share by π0.
 */
export const bestOf = (world: readonly Enumerated[], rewards: ByAnswer, n: number): number[][] =>
  world.map(({ reference }, x) => {
    const r = rewards[x] ?? []
    const levels = new Map<number, number>()
    reference.forEach((p, y) => levels.set(r[y] ?? NaN, (levels.get(r[y] ?? NaN) ?? 0) + p))
    let below = 0
    const share = new Map<number, number>()
    for (const [reward, p] of [...levels].toSorted(([a], [b]) => a - b)) {
      share.set(reward, ((below + p) ** n - below ** n) / p)
      below += p
    }
    return reference.map((p, y) => p * (share.get(r[y] ?? NaN) ?? NaN))
  })

/** Half the sum of |p − q|, a mean over prompts. */
export const variationOf = (p: ByAnswer, q: ByAnswer): number =>
  p.reduce(
    (sum, row, x) =>
      sum + row.reduce((d, a, y) => d + Math.abs(a - (q[x]?.[y] ?? NaN)), 0) / (2 * p.length),
    0,
  )
