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

/** −log σ(−x), where x is large too. */
const softplus = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)))

/** Of what pulls Platt's (a, b) to (1, 0). */
const RIDGE = 1e-3
/** A step that is halved more often moves nothing. */
const HALVINGS = 60

/**
 * Platt scaling: (a, b) minimising −Σ log σ(±(a·r + b)), by Newton's method with a ridge of 1e-3 on a − 1 and b,
 * so that separable data stay finite. A step is halved until the loss falls: where forecasts are far too sure, whole
 * ones go back and forth for ever.
 */
export function fitPlatt(
  logits: readonly number[],
  labels: readonly boolean[],
): { a: number; b: number } {
  const loss = (a: number, b: number): number =>
    logits.reduce(
      (sum, r, i) => sum + softplus(labels[i] ? -(a * r + b) : a * r + b),
      (RIDGE / 2) * ((a - 1) ** 2 + b ** 2),
    )
  let [a, b] = [1, 0]
  let best = loss(a, b)
  for (let iteration = 0; iteration < 100; iteration++) {
    let [ga, gb, haa, hab, hbb] = [RIDGE * (a - 1), RIDGE * b, RIDGE, 0, RIDGE]
    logits.forEach((r, i) => {
      const p = sigmoid(a * r + b)
      const error = p - (labels[i] ? 1 : 0)
      const w = p * (1 - p)
      ga += error * r
      gb += error
      haa += w * r * r
      hab += w * r
      hbb += w
    })
    const determinant = haa * hbb - hab * hab
    const [da, db] = [(hbb * ga - hab * gb) / determinant, (haa * gb - hab * ga) / determinant]
    let step = 1
    let next = loss(a - da, b - db)
    for (let halving = 0; halving < HALVINGS && !(next < best); halving++) {
      step /= 2
      next = loss(a - step * da, b - step * db)
    }
    if (!(next < best)) break
    ;[a, b, best] = [a - step * da, b - step * db, next]
    if (Math.abs(da) + Math.abs(db) < 1e-10) break
  }
  return { a, b }
}

/**
 * The temperature T that minimises −Σ p·log σ(Δ/T) + (1 − p)·log σ(−Δ/T) over pairs, by golden section on log T. Each
 * label counts as one try for either side beside all n (Laplace; as Platt's targets do): p becomes (n·p + 1)/(n + 2), so
 * that twenty right pairs don't make it sure. 1 where no difference says anything.
 */
export function fitTemperature(
  differences: readonly number[],
  probabilities: readonly number[],
): number {
  const n = differences.length
  if (differences.every((d) => d === 0)) return 1
  const labels = differences.map((_, i) => (n * (probabilities[i] ?? 1) + 1) / (n + 2))
  const loss = (logT: number): number =>
    differences.reduce((sum, d, i) => {
      const p = labels[i] ?? NaN
      const x = d / Math.exp(logT)
      return sum + p * softplus(-x) + (1 - p) * softplus(x)
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
