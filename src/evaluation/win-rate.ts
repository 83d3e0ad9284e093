import { grouped, resampleOf } from './statistics.ts'
import type { Interval } from './statistics.ts'

/**
 * Length-controlled win rate (Dubois et al. 2024, "Length-Controlled AlpacaEval", without the table of instruction
 * difficulties): the verdicts are fitted as
 *   P(win) = σ(θ + φ·tanh(Δ/s)),   Δ = length of ours − length of theirs in tokens, s its deviation per language,
 * and the win rate is σ(θ): what it would be at equal lengths. Soft verdicts are used as they are; a tie counts ½.
 *
 * Deviations from the paper: a ridge of 0.1 on φ and 1e-3 on θ keeps separated data finite, where the paper
 * regularises across models; the standard error is that of a bootstrap over clusters.
 */

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x))
const RIDGE = { theta: 1e-3, phi: 0.1 }

/** (θ, φ) by Newton's method. wins [n] in 0 … 1, lengths [n] = tanh(Δ/s). */
export function fitLengthControl(
  wins: readonly number[],
  lengths: readonly number[],
): { theta: number; phi: number } {
  let [theta, phi] = [0, 0]
  for (let iteration = 0; iteration < 100; iteration++) {
    let [gt, gp, htt, htp, hpp] = [
      ...[RIDGE.theta * theta, RIDGE.phi * phi],
      ...[RIDGE.theta, 0, RIDGE.phi],
    ] as [number, number, number, number, number]
    wins.forEach((win, i) => {
      const x = lengths[i] ?? 0
      const p = sigmoid(theta + phi * x)
      const w = Math.max(p * (1 - p), 1e-9)
      gt += p - win
      gp += (p - win) * x
      htt += w
      htp += w * x
      hpp += w * x * x
    })
    const determinant = htt * hpp - htp * htp
    const [dt, dp] = [(hpp * gt - htp * gp) / determinant, (htt * gp - htp * gt) / determinant]
    const damp = Math.min(1, 2 / Math.max(Math.abs(dt), Math.abs(dp), 1e-12))
    theta -= damp * dt
    phi -= damp * dp
    if (Math.abs(dt) + Math.abs(dp) < 1e-10) break
  }
  return { theta, phi }
}

/** tanh(Δ/s) with s the deviation of Δ within each group (language). */
export function standardisedLengths(
  differences: readonly number[],
  groups: readonly string[],
): number[] {
  const squares = new Map<string, { sum: number; n: number }>()
  differences.forEach((d, i) => {
    const group = squares.get(groups[i] ?? '') ?? { sum: 0, n: 0 }
    squares.set(groups[i] ?? '', { sum: group.sum + d * d, n: group.n + 1 })
  })
  return differences.map((d, i) => {
    const { sum, n } = squares.get(groups[i] ?? '') ?? { sum: 0, n: 1 }
    // the deviation from zero, not from the mean: equal lengths must map to 0
    const s = Math.sqrt(sum / n)
    return s === 0 ? 0 : Math.tanh(d / s)
  })
}

const BOOTSTRAPS = 300

/**
 * The win rate at equal lengths with a 95 % interval and its standard error, by bootstrap over clusters. Requests go
 * between: hundreds of fits of thousands of verdicts take seconds.
 */
export async function lengthControlledWinRate(
  wins: readonly number[],
  lengths: readonly number[],
  clusters: readonly string[],
  seed: number,
): Promise<Interval & { standard_error: number }> {
  const list = grouped(
    clusters.map((_, i) => i),
    (i) => clusters[i] ?? '',
  )
  const rate = (rows: readonly number[]): number =>
    sigmoid(
      fitLengthControl(
        rows.map((i) => wins[i] ?? 0),
        rows.map((i) => lengths[i] ?? 0),
      ).theta,
    )
  const rates: number[] = []
  for (let b = 0; b < BOOTSTRAPS; b++) {
    rates.push(rate(Array.from(resampleOf(list.length, b, seed, 67)).flatMap((k) => list[k] ?? [])))
    if (b % 20 === 0) await new Promise(setImmediate)
  }
  rates.sort((a, b) => a - b)
  const mean = rates.reduce((a, b) => a + b, 0) / BOOTSTRAPS
  return {
    value: rate(wins.map((_, i) => i)),
    low: rates[Math.floor(0.025 * BOOTSTRAPS)] ?? NaN,
    high: rates[Math.ceil(0.975 * BOOTSTRAPS) - 1] ?? NaN,
    n: wins.length,
    standard_error: Math.sqrt(rates.reduce((a, r) => a + (r - mean) ** 2, 0) / (BOOTSTRAPS - 1)),
  }
}
