/** Mean and deviation of values under the answers' probabilities, all prompts alike. Both [prompts][answers]. */
export function momentsUnder(
  probabilities: readonly (readonly number[])[],
  values: readonly (readonly number[])[],
): { mean: number; std: number } {
  const expected = (f: (x: number) => number): number =>
    probabilities.reduce(
      (sum, row, x) => sum + row.reduce((a, p, y) => a + p * f(values[x]?.[y] ?? NaN), 0),
      0,
    ) / probabilities.length
  const mean = expected((x) => x)
  return { mean, std: Math.sqrt(expected((x) => (x - mean) ** 2)) }
}
