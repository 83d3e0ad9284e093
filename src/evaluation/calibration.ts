import type { Calibration } from '../schemas/model.ts'

export const sigmoid = (x: number): number =>
  x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x))

/** Raw logit → probability; null where the model has no calibration. */
export function calibrate(logit: number, calibration: Calibration | null): number | null {
  if (calibration === null) return null
  if (calibration.kind === 'platt') return sigmoid(calibration.a * logit + calibration.b)
  const { anchors, temperature } = calibration
  return (
    anchors.reduce((sum, anchor) => sum + sigmoid((logit - anchor) / temperature), 0) /
    anchors.length
  )
}

/**
 * Platt scaling: (a, b) minimising −Σ log σ(±(a·r + b)), by Newton's method with a ridge of 1e-3 on a − 1 and b,
 * so that separable data stay finite.
 */
export function fitPlatt(
  logits: readonly number[],
  labels: readonly boolean[],
): { a: number; b: number } {
  let [a, b] = [1, 0]
  const ridge = 1e-3
  for (let iteration = 0; iteration < 100; iteration++) {
    let [ga, gb, haa, hab, hbb] = [ridge * (a - 1), ridge * b, ridge, 0, ridge]
    logits.forEach((r, i) => {
      const p = sigmoid(a * r + b)
      const error = p - (labels[i] ? 1 : 0)
      const w = Math.max(p * (1 - p), 1e-9)
      ga += error * r
      gb += error
      haa += w * r * r
      hab += w * r
      hbb += w
    })
    const determinant = haa * hbb - hab * hab
    const [da, db] = [(hbb * ga - hab * gb) / determinant, (haa * gb - hab * ga) / determinant]
    // half steps keep Newton from leaving the basin on near-separable data
    const damp = Math.min(1, 2 / Math.max(Math.abs(da), Math.abs(db), 1e-12))
    a -= damp * da
    b -= damp * db
    if (Math.abs(da) + Math.abs(db) < 1e-10) break
  }
  return { a, b }
}

/** The temperature T that minimises −Σ p·log σ(Δ/T) + (1 − p)·log σ(−Δ/T) over pairs, by golden section on log T. */
export function fitTemperature(
  differences: readonly number[],
  probabilities: readonly number[],
): number {
  const loss = (logT: number): number =>
    differences.reduce((sum, d, i) => {
      const p = probabilities[i] ?? 1
      const x = d / Math.exp(logT)
      return sum + p * Math.log1p(Math.exp(-x)) + (1 - p) * Math.log1p(Math.exp(x))
    }, 0)
  const ratio = (Math.sqrt(5) - 1) / 2
  let [low, high] = [-4, 4]
  while (high - low > 1e-6) {
    const [x, y] = [high - ratio * (high - low), low + ratio * (high - low)]
    if (loss(x) < loss(y)) high = y
    else low = x
  }
  return Math.exp((low + high) / 2)
}
