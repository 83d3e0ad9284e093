/** One number per response token, right-padded rows. `mask[t]` is 1 where the token counts. */
export type Row = Float64Array

/**
 * Generalised advantage estimation (Schulman et al. 2016, eq. 16) over one response:
 * δ_t = r_t + γ·V_{t+1} − V_t, A_t = δ_t + γλ·A_{t+1}, return_t = A_t + V_t; beyond the last token V = 0.
 * rewards, values, mask [R] → advantages, returns [R], zero where the mask is.
 */
export function gae(
  rewards: ArrayLike<number>,
  values: ArrayLike<number>,
  mask: ArrayLike<number>,
  { gamma, lambda }: { gamma: number; lambda: number },
): { advantages: Row; returns: Row } {
  const R = rewards.length
  const advantages = new Float64Array(R)
  const returns = new Float64Array(R)
  let nextValue = 0
  let nextAdvantage = 0
  for (let t = R - 1; t >= 0; t--) {
    if (!mask[t]) continue
    const value = values[t] ?? 0
    const delta = (rewards[t] ?? 0) + gamma * nextValue - value
    nextAdvantage = delta + gamma * lambda * nextAdvantage
    nextValue = value
    advantages[t] = nextAdvantage
    returns[t] = nextAdvantage + value
  }
  return { advantages, returns }
}

/**
 * (x − mean)/√(var + 1e-8) over the counted tokens of all rows, variance with Bessel's correction as
 * TRL's masked_whiten; with `shiftMean: false` the mean is added back. Zero where the mask is.
 */
export function whiten(
  rows: readonly ArrayLike<number>[],
  masks: readonly ArrayLike<number>[],
  shiftMean = true,
): Row[] {
  const { mean, unit } = momentsOver(rows, masks)
  const scale = 1 / unit
  return rows.map((row, i) =>
    Float64Array.from(row, (x, t) =>
      masks[i]?.[t] ? (x - mean) * scale + (shiftMean ? 0 : mean) : 0,
    ),
  )
}

/** Mean of the counted tokens, and the √(var + 1e-8) that whitening divides by. */
export function momentsOver(
  rows: readonly ArrayLike<number>[],
  masks: readonly ArrayLike<number>[],
): { mean: number; unit: number } {
  let n = 0
  let total = 0
  each(rows, masks, (x) => {
    n++
    total += x
  })
  const mean = n === 0 ? 0 : total / n
  let squares = 0
  each(rows, masks, (x) => (squares += (x - mean) ** 2))
  return { mean, unit: Math.sqrt((n > 1 ? squares / (n - 1) : 0) + 1e-8) }
}

function each(
  rows: readonly ArrayLike<number>[],
  masks: readonly ArrayLike<number>[],
  visit: (x: number) => void,
): void {
  rows.forEach((row, i) => {
    for (let t = 0; t < row.length; t++) if (masks[i]?.[t]) visit(row[t] ?? 0)
  })
}

/**
 * RLOO (Ahmadian et al. 2024, eq. 8): each answer's reward less the mean reward of the other answers to its prompt,
 * A_i = R_i − 1/(k−1)·Σ_{j≠i} R_j. rewards [n·k], the k answers to a prompt side by side → [n·k].
 */
export function leaveOneOut(rewards: ArrayLike<number>, k: number): Row {
  const advantages = new Float64Array(rewards.length)
  for (let start = 0; start < rewards.length; start += k) {
    let total = 0
    for (let i = start; i < start + k; i++) total += rewards[i] ?? 0
    for (let i = start; i < start + k; i++) {
      const own = rewards[i] ?? 0
      advantages[i] = own - (total - own) / (k - 1)
    }
  }
  return advantages
}
