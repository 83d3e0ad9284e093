import { circles, fitBradleyTerry } from './bradley-terry.ts'
import type { Contest } from './bradley-terry.ts'
import type { PolicyFigure } from './policy-measures.ts'
import { exactWhereFlat } from './shares.ts'
import { bootstrapSums, holm, percentiles, ROUNDING, twoSided } from './statistics.ts'
import type { Interval } from './statistics.ts'

/** Every pair of k policies that meet: [i, j] with i < j. */
export const pairings = (k: number): [number, number][] =>
  Array.from({ length: k }, (_, i) =>
    Array.from({ length: k - 1 - i }, (_, d): [number, number] => [i, i + 1 + d]),
  ).flat()

/** What a judge said on one prompt: P(the first of the pair is better) of each verdict, one list for each of `pairings`. */
export type ArenaPrompt = { cluster: string; verdicts: readonly (readonly number[])[] }

export type Standing = {
  policy: string
  /** log-odds; all ratings together are 0 */
  rating: Interval
  rank: number
  /** ranks that the corrected tests leave open */
  best: number
  worst: number
}

/** p-values as small as 0.05 over the 28 pairs of eight policies need more resamples than intervals do. */
const RESAMPLES = 4000
const ALPHA = 0.05
/** Closer to ½ than this a mean verdict is a tie, where circles are looked for. */
const TIE = 0.01

/**
 * A round robin: Bradley–Terry ratings θ, P(i beats j) = σ(θ_i − θ_j), of all verdicts together, with 95 % percentile
 * intervals by bootstrap over clusters of prompts. Each difference θ_i − θ_j is tested (two-sided, the same
 * resamples) and corrected over all pairs (Holm), where what rounding leaves is a tie; a policy's rank is at best 1 +
 * those that are surely better and at worst k − those that are surely worse. `circles`: i beats j beats l, or
 * more of them, beats i in the mean verdicts, which no rating shows.
 */
export function arenaFigures(
  names: readonly string[],
  prompts: readonly ArenaPrompt[],
  seed: number,
): { figures: PolicyFigure[]; standings: Standing[]; circles: string[][] } {
  const k = names.length
  const pairs = pairings(k)
  // per pair the sum of its verdicts and their number
  const features = prompts.map(({ verdicts }) =>
    pairs.flatMap((_, at) => {
      const given = verdicts[at] ?? []
      return [given.reduce((sum, p) => sum + p, 0), given.length]
    }),
  )
  const contestsOf = (sums: readonly number[]): Contest[] =>
    pairs.flatMap(([i, j], at) => {
      const weight = sums[2 * at + 1] ?? 0
      return weight === 0 ? [] : [{ i, j, p: (sums[2 * at] ?? 0) / weight, weight }]
    })
  const rate = (sums: readonly number[]): number[] =>
    fitBradleyTerry(k, contestsOf(sums)).map(({ value }) => value)

  const clusters = prompts.map(({ cluster }) => cluster)
  const { all, resampled } = bootstrapSums(features, clusters, seed, RESAMPLES)
  const ratings = rate(all)
  const draws = resampled.map(rate)
  const at = (list: readonly number[], i: number): number => list[i] ?? NaN
  const n = (pair: number): number => at(all, 2 * pair + 1)
  const judged = prompts.filter(({ verdicts }) => verdicts.some((given) => given.length > 0))
  const taking = judged.map(({ cluster }) => cluster)

  const differences = pairs.map(([i, j], pair) => {
    const resamples = draws.map((draw) => at(draw, i) - at(draw, j))
    return {
      ...percentiles(at(ratings, i) - at(ratings, j), resamples, n(pair)),
      p: twoSided(resamples, taking),
    }
  })
  const corrected = holm(differences.map(({ p }) => p))
  const surely = (a: number, b: number): boolean =>
    pairs.some(([i, j], pair) => {
      const sign = i === a && j === b ? 1 : i === b && j === a ? -1 : 0
      const { value = 0 } = differences[pair] ?? {}
      return sign * value > ROUNDING && at(corrected, pair) < ALPHA
    })
  const others = (i: number): number[] => names.flatMap((_, j) => (j === i ? [] : [j]))
  const standings = names.map((policy, i): Standing => {
    const met = pairs.reduce((sum, pair, at) => sum + (pair.includes(i) ? n(at) : 0), 0)
    const draw = draws.map((each) => at(each, i))
    return {
      policy,
      rating: percentiles(at(ratings, i), draw, met),
      rank: 1 + ratings.filter((other) => other - at(ratings, i) > ROUNDING).length,
      best: 1 + others(i).filter((j) => surely(j, i)).length,
      worst: k - others(i).filter((j) => surely(i, j)).length,
    }
  })
  const winRates = pairs.map((_, pair) => {
    const rows = prompts.flatMap(({ cluster, verdicts }) =>
      (verdicts[pair] ?? []).map((p) => ({ cluster, p })),
    )
    return exactWhereFlat(
      percentiles(
        at(all, 2 * pair) / n(pair),
        resampled.map((sums) => at(sums, 2 * pair) / at(sums, 2 * pair + 1)),
        n(pair),
      ),
      rows.map(({ p }) => p),
      rows.map((row) => row.cluster),
      0,
    )
  })
  const over = ([i, j]: readonly [number, number]): string =>
    `${names[i] ?? ''} over ${names[j] ?? ''}`
  return {
    figures: [
      ...standings.map(({ policy, rating }) => ({
        figure: `${policy}: rating`,
        ...rating,
      })),
      ...standings.map(({ policy, rank, best, worst, rating }) => ({
        ...{ figure: `${policy}: rank`, value: rank, low: best, high: worst, n: rating.n },
      })),
      ...pairs.map((pair, at) => ({
        figure: `${over(pair)}: rating difference`,
        ...(differences[at] as Interval & { p: number }),
        p_holm: corrected[at] ?? NaN,
      })),
      ...pairs.flatMap((pair, at) =>
        n(at) === 0
          ? []
          : [
              {
                figure: `${over(pair)}: win rate`,
                ...(winRates[at] as Interval),
              },
            ],
      ),
    ],
    standings: standings.toSorted((a, b) => a.rank - b.rank),
    circles: circles(k, contestsOf(all), TIE).map((circle) => circle.map((i) => names[i] ?? '')),
  }
}
