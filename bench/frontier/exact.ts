/**
 * What can be computed exactly where all answers to a prompt can be listed: a policy's distribution over them, its
 * helpfulness, safety and KL, the best policy for a reward, and the front of all policies within a KL.
 * Tables are [prompts][answers]; means over prompts weigh each alike.
 */
export type Table = readonly (readonly number[])[]

export type ExactWorld = {
  /** π0, the chance of each answer */
  reference: Table
  helpfulness: Table
  safety: Table
}
/** Means over prompts and answers; `kl` is KL(π‖π0) in nats. */
export type Point = { helpfulness: number; safety: number; kl: number }

const meanOver = (table: Table, of: (x: number) => number): number =>
  table.reduce((sum, _, x) => sum + of(x), 0) / table.length

/** E_x Σ_y π(y|x)·v(x, y). */
export const expectation = (policy: Table, value: Table): number =>
  meanOver(policy, (x) =>
    (policy[x] ?? []).reduce((sum, p, y) => sum + p * (value[x]?.[y] ?? 0), 0),
  )

/** E_x Σ_y π·log(π/π0). */
export const klOf = (policy: Table, reference: Table): number =>
  meanOver(policy, (x) =>
    (policy[x] ?? []).reduce(
      (sum, p, y) => sum + (p > 0 ? p * Math.log(p / (reference[x]?.[y] ?? 0)) : 0),
      0,
    ),
  )

export const pointOf = (world: ExactWorld, policy: Table): Point => ({
  helpfulness: expectation(policy, world.helpfulness),
  safety: expectation(policy, world.safety),
  kl: klOf(policy, world.reference),
})

/** J(π) = E[r] − β·KL(π‖π0). */
export const objective = (policy: Table, reference: Table, reward: Table, beta: number): number =>
  expectation(policy, reward) - beta * klOf(policy, reference)

/** π* ∝ π0·exp(r/β), the policy with the greatest J, and J* = β·E_x log Z(x). */
export function optimum(
  reference: Table,
  reward: Table,
  beta: number,
): { policy: number[][]; value: number } {
  let value = 0
  const policy = reference.map((row, x) => {
    const r = reward[x] ?? []
    const most = Math.max(...r)
    const weight = row.map((p, y) => p * Math.exp(((r[y] ?? 0) - most) / beta))
    const z = weight.reduce((a, b) => a + b, 0)
    value += (most + beta * Math.log(z)) / reference.length
    return weight.map((w) => w / z)
  })
  return { policy, value }
}

/** Of n answers sampled from π0 the one with the greatest reward, of equals any: its distribution, exactly. */
export function bestOf(reference: Table, reward: Table, n: number): number[][] {
  return reference.map((row, x) => {
    const r = reward[x] ?? []
    const levels = [...new Set(r)].sort((a, b) => a - b)
    const mass = new Map(levels.map((level) => [level, 0]))
    row.forEach((p, y) => mass.set(r[y] ?? 0, (mass.get(r[y] ?? 0) ?? 0) + p))
    const chosen = new Map<number, number>()
    let below = 0
    for (const level of levels) {
      const upTo = below + (mass.get(level) ?? 0)
      chosen.set(level, upTo ** n - below ** n)
      below = upTo
    }
    return row.map((p, y) => {
      const level = r[y] ?? 0
      return (p / (mass.get(level) || 1)) * (chosen.get(level) ?? 0)
    })
  })
}

const mixed = ({ helpfulness, safety }: ExactWorld, w: number): number[][] =>
  helpfulness.map((row, x) => row.map((h, y) => w * h + (1 - w) * (safety[x]?.[y] ?? 0)))

/** Weightings at which the front is supported. */
const WEIGHTS = Array.from({ length: 41 }, (_, i) => i / 40)

export type FrontPoint = Point & { weight: number }
/**
 * The helpful–safe Pareto front of all policies within a KL of π0. The achievable (helpfulness, safety) are convex, so
 * the front is where w·h + (1 − w)·s is greatest for some w, and that is π ∝ π0·exp((w·h + (1 − w)·s)/β) with the β whose
 * KL is the budget, or the best answers alone where even those stay within it.
 */
export function frontAt(world: ExactWorld, budget: number, weights = WEIGHTS): FrontPoint[] {
  return weights.map((weight) => {
    const reward = mixed(world, weight)
    const at = (beta: number): number[][] => optimum(world.reference, reward, beta).policy
    let [low, high] = [Math.log(1e-3), Math.log(1e3)]
    if (klOf(at(Math.exp(low)), world.reference) > budget)
      for (let i = 0; i < 44; i++) {
        const middle = (low + high) / 2
        if (klOf(at(Math.exp(middle)), world.reference) > budget) low = middle
        else high = middle
      }
    else high = low
    return { weight, ...pointOf(world, at(Math.exp(high))) }
  })
}

/**
 * How far a policy stays behind the front at its own KL: the least gap, over weightings w, between the greatest
 * w·h + (1 − w)·s within that KL and the policy's. 0 on the front; never below 0 but for the width of the grid of w.
 */
export const frontRegret = (front: readonly FrontPoint[], { helpfulness, safety }: Point): number =>
  Math.min(
    ...front.map(
      (at) => at.weight * (at.helpfulness - helpfulness) + (1 - at.weight) * (at.safety - safety),
    ),
  )
