import { ROUNDING } from './statistics.ts'

/** Two raters' categories of one thing, as places on a scale 0…q−1. */
export type Rating = readonly [number, number]

/** Table of shares p_kl and both margins. */
function shares(ratings: readonly Rating[], q: number) {
  const table = Array.from({ length: q }, () => new Array<number>(q).fill(0))
  for (const [k, l] of ratings) {
    const row = table[k]
    if (row !== undefined) row[l] = (row[l] ?? 0) + 1 / ratings.length
  }
  const first = table.map((row) => row.reduce((sum, p) => sum + p, 0))
  const second = first.map((_, l) => table.reduce((sum, row) => sum + (row[l] ?? 0), 0))
  return { table, first, second }
}

/** Cohen's κ = (p_a − p_e)/(1 − p_e), p_e = Σ_k p_k+ · p_+k (Cohen 1960). NaN where p_e is 1. ratings [n] of q categories. */
export function cohensKappa(ratings: readonly Rating[], q: number): number {
  const { table, first, second } = shares(ratings, q)
  const agreed = table.reduce((sum, row, k) => sum + (row[k] ?? 0), 0)
  const chance = first.reduce((sum, p, k) => sum + p * (second[k] ?? 0), 0)
  // agreement by chance that is 1 but for rounding makes it 0/0
  return 1 - chance < ROUNDING ? NaN : (agreed - chance) / (1 - chance)
}

/**
 * Gwet's AC2 with linear weights w_kl = 1 − |k − l|/(q − 1): (p_a − p_e)/(1 − p_e), p_a = Σ w_kl p_kl,
 * p_e = Σ w_kl/(q(q − 1)) · Σ_k π_k(1 − π_k), π_k = (p_k+ + p_+k)/2 (Gwet 2014, chapter 4). ratings [n] of q ordered
 * categories. Unlike κ it does not fall when one category is rare.
 */
export function gwetsAc2(ratings: readonly Rating[], q: number): number {
  const { table, first, second } = shares(ratings, q)
  const weight = (k: number, l: number): number => 1 - Math.abs(k - l) / (q - 1)
  let [agreed, weights] = [0, 0]
  for (let k = 0; k < q; k++)
    for (let l = 0; l < q; l++) {
      agreed += weight(k, l) * (table[k]?.[l] ?? 0)
      weights += weight(k, l)
    }
  const spread = first.reduce((sum, p, k) => {
    const share = (p + (second[k] ?? 0)) / 2
    return sum + share * (1 - share)
  }, 0)
  const chance = (weights / (q * (q - 1))) * spread
  return (agreed - chance) / (1 - chance)
}

/** Entropy of a soft label in bits: 1 for an even one, 0 for a certain one. */
export function binaryEntropy(p: number): number {
  const term = (x: number): number => (x <= 0 ? 0 : -x * Math.log2(x))
  return term(p) + term(1 - p)
}

const RIDGE = 1e-2

/**
 * What a rate would be where two answers are of one length: σ(b₀) of the logistic regression of outcomes on
 * tanh(Δ/σ_Δ), Δ the difference of their lengths, with a ridge on b₁ against separation (after AlpacaEval's
 * length-controlled win rate). outcomes [n] in 0…1 (½: a tie), differences [n]. `slope` is b₁.
 */
export function lengthControlled(
  outcomes: readonly number[],
  differences: readonly number[],
): { rate: number; slope: number } {
  const n = outcomes.length
  const [only = NaN] = outcomes
  // one outcome alone: the fit would run away to it
  if (only !== 0.5 && outcomes.every((y) => y === only)) return { rate: only, slope: 0 }
  const deviation = Math.sqrt(differences.reduce((sum, d) => sum + d * d, 0) / n) || 1
  const x = differences.map((d) => Math.tanh(d / deviation))
  let [b0, b1] = [0, 0]
  for (let iteration = 0; iteration < 50; iteration++) {
    let [g0, g1, h00, h01, h11] = [0, RIDGE * n * b1, 0, 0, RIDGE * n]
    for (let i = 0; i < n; i++) {
      const xi = x[i] ?? 0
      const p = 1 / (1 + Math.exp(-(b0 + b1 * xi)))
      const w = Math.max(p * (1 - p), 1e-9)
      const error = p - (outcomes[i] ?? 0)
      g0 += error
      g1 += error * xi
      h00 += w
      h01 += w * xi
      h11 += w * xi * xi
    }
    const determinant = h00 * h11 - h01 * h01
    const [d0, d1] = [(h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant]
    const damp = Math.min(1, 2 / Math.max(Math.abs(d0), Math.abs(d1), 1e-12))
    b0 -= damp * d0
    b1 -= damp * d1
    if (Math.abs(d0) + Math.abs(d1) < 1e-9) break
  }
  return { rate: 1 / (1 + Math.exp(-b0)), slope: b1 }
}
