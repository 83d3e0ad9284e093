import { expect, test } from 'vitest'
import { aurocOf, recallOf, spearmanOf } from '../../src/evaluation/discrimination.ts'
import { exactShare, exactWhereFlat, gapOfShares } from '../../src/evaluation/shares.ts'
import {
  clusteredMean,
  clusteredStatistic,
  gap,
  pairedTest,
  resampleOf,
  twoSided,
  weightedStatistic,
} from '../../src/evaluation/statistics.ts'
import type { Interval } from '../../src/evaluation/statistics.ts'
import { voteOf } from '../../src/rlaif/guard.ts'
import { uniform, uniforms } from '../../src/random.ts'
import { outcomesOf } from '../helpers/ballots.ts'

// statsmodels 0.15.0: proportion_confint(hits, n, method='beta')
test.each([
  [0, 30, 0.0, 0.1157033],
  [5, 10, 0.187086, 0.812914],
  [10, 10, 0.6915029, 1.0],
  [1, 300, 0.0000844, 0.0184313],
  [85, 300, 0.2330401, 0.337964],
])('Clopper and Pearson’s interval of %i in %i', (hits, n, low, high) => {
  const found = exactShare(hits, n)
  expect(found.value).toBe(hits / n)
  expect(found.low).toBeCloseTo(low, 6)
  expect(found.high).toBeCloseTo(high, 6)
})

// with eleven clusters: 1 − 0.025^(1/11) = 0.2849142
test.each([
  [0, 0, 0, 0.2849142],
  [1, 0, 0.7150858, 1],
  [0, -1, -0.2849142, 0.2849142],
  [-1, -1, -1, -0.4301717], // a difference that is not −1 may be +1
] as const)('where every row is %i, from %i on, the interval is exact', (all, least, low, high) => {
  const clusters = Array.from({ length: 22 }, (_, i) => String(i % 11))
  const values = clusters.map(() => all)
  const found = exactWhereFlat(clusteredMean(values, clusters, 1), values, clusters, least)
  expect(found).toMatchObject({ value: all, n: 22 })
  expect(found.low).toBeCloseTo(low, 7)
  expect(found.high).toBeCloseTo(high, 7)
  const mixed = values.map((_, i) => Number(i < 4))
  const interval = clusteredMean(mixed, clusters, 1)
  expect(exactWhereFlat(interval, mixed, clusters, least)).toBe(interval)
})

test('rows of one cluster are one try, whatever they are: their interval says so', () => {
  const clusters = ['a', 'a', 'a', 'a']
  const of = (values: number[], least: number, most?: number) =>
    exactWhereFlat(clusteredMean(values, clusters, 1), values, clusters, least, most)
  // one try of one: 0.975 may be otherwise
  expect(of([0, 1, 0, 1], 0)).toMatchObject({ value: 0.5, n: 4 })
  expect(of([0, 1, 0, 1], 0).low).toBeCloseTo(0.5 - 0.5 * 0.975, 12)
  expect(of([0, -1, 0, -1], -1).high).toBeCloseTo(-0.5 + 1.5 * 0.975, 12)
  expect(of([40, 80, 20, 60], 0, 100).low).toBeCloseTo(50 - 50 * 0.975, 10)
  // clusters that are alike leave a bootstrap nothing to find either, up to rounding
  const thirds = [0.1, 0.2, 0.3, 0.3, 0.2, 0.1]
  const two = ['a', 'a', 'a', 'b', 'b', 'b']
  const { low, high } = exactWhereFlat(clusteredMean(thirds, two, 1), thirds, two, 0)
  expect(low).toBeCloseTo(0.2 - 0.2 * exactShare(0, 2).high, 12)
  expect(high).toBeCloseTo(0.2 + 0.8 * exactShare(0, 2).high, 12)
})

test('no p is below what turning the signs of the clusters can say', () => {
  const shifted = (G: number) =>
    pairedTest(
      new Array<number>(24).fill(0),
      new Array<number>(24).fill(1),
      Array.from({ length: 24 }, (_, i) => String(i % G)),
      1,
    )
  expect([1, 2, 3, 6].map((G) => shifted(G).p)).toEqual([1, 0.5, 0.25, 1 / 32])
  expect(shifted(24).p).toBe(2 / 1001) // the resamples can't say more
  // what rounding leaves on one side of 0 is 0
  expect(
    twoSided(
      new Array<number>(1000).fill(-1e-17),
      Array.from({ length: 24 }, (_, i) => String(i)),
    ),
  ).toBe(1)
})

test('a gap of shares has an interval also where a side is one cluster or all alike', () => {
  const side = (values: number[], cluster: (i: number) => string) => ({
    ...{ values, clusters: values.map((_, i) => cluster(i)) },
  })
  // Newcombe 1998: the limits of both sides by squares; 0 and 20 of 20, each at most 0.1684 otherwise
  const [all, none] = [side(new Array<number>(20).fill(1), String), side(new Array<number>(20).fill(0), String)] // prettier-ignore
  const sure = gapOfShares(all, none, 1)
  expect(sure).toMatchObject({ value: 1, high: 1, n: 40 })
  expect(sure.low).toBeCloseTo(1 - Math.SQRT2 * (1 - 0.025 ** (1 / 20)), 10)
  const one = gapOfShares(side([0, 1], () => 'template'), none, 1) // prettier-ignore
  expect(one.value).toBe(0.5)
  expect(one.low).toBeLessThan(0)
  // elsewhere both sides are resampled apart
  const [x, y] = [side(rows.map(({ score }) => score / 5), (i) => `${i % 20}`), side(rows.map(({ other }) => other / 8), (i) => `${i % 20}`)] // prettier-ignore
  expect(gapOfShares(x, y, 7)).toEqual(gap(x, y, 7))
})

// Sixty rows of twenty clusters; scores with many equals, so that ties matter.
const rows = Array.from({ length: 60 }, (_, i) => ({
  ...{
    cluster: `${i % 20}`,
    score: Math.floor(6 * uniform(1, i)),
    other: Math.floor(9 * uniform(2, i)),
  },
  positive: uniform(3, i) < 0.4,
}))
const clusters = rows.map(({ cluster }) => cluster)
const ones = (list: readonly unknown[]) => new Float64Array(list.length).fill(1)

test.each([
  ['AUROC', aurocOf(rows), (some: readonly (typeof rows)[number][]) => aurocOf(some)(ones(some))],
  [
    'recall',
    recallOf(rows, 0.2),
    (some: readonly (typeof rows)[number][]) => recallOf(some, 0.2)(ones(some)),
  ],
  [
    'Spearman’s ρ',
    spearmanOf(
      rows.map(({ score }) => score),
      rows.map(({ other }) => other),
    ),
    (some: readonly (typeof rows)[number][]) =>
      spearmanOf(
        some.map(({ score }) => score),
        some.map(({ other }) => other),
      )(ones(some)),
  ],
] as const)('%s of rows by how often they count is that of the rows themselves', (_, by, of) => {
  const weighted = weightedStatistic(clusters, by, 5)
  const repeated = clusteredStatistic(rows, ({ cluster }) => cluster, of, 5)
  for (const end of ['value', 'low', 'high'] as const)
    expect(weighted[end]).toBeCloseTo(repeated[end], 12)
  expect(weighted.low).toBeLessThan(weighted.high)
})

test('Spearman’s ρ of values that are all the same is not defined, however often they count', () => {
  const various = Array.from({ length: 49 }, (_, i) => uniform(4, i))
  for (const n of [2, 7, 14, 49]) {
    const [x, same] = [various.slice(0, n), new Array<number>(n).fill(0.1)]
    const weights = Float64Array.from(x, (u) => Math.floor(4 * u))
    for (const w of [ones(x), weights]) {
      expect(spearmanOf(x, same)(w)).toBeNaN()
      expect(spearmanOf(same, x)(w)).toBeNaN()
      expect(spearmanOf(same, same)(w)).toBeNaN()
    }
  }
  // a resample may hold equal values alone
  expect(spearmanOf([1, 1, 1, 2], [3, 1, 2, 4])([2, 1, 3, 0])).toBeNaN()
  expect(spearmanOf([1, 1, 1, 2], [3, 1, 2, 4])([2, 1, 3, 1])).toBeGreaterThan(0)
})

test('resamples are the same whether they are kept or drawn again, and others for another key', () => {
  const drawn = Array.from(resampleOf(7, 3, 5, 61))
  expect(drawn).toEqual(Array.from({ length: 7 }, (_, k) => Math.floor(uniform(5, 61, 3, k) * 7)))
  const same = resampleOf(7, 3, 5, 61)
  expect(resampleOf(7, 3, 5, 61)).toBe(same) // kept
  for (let seed = 0; seed < 5; seed++) resampleOf(1000, 0, seed, 61, 3000) // what was kept has to go
  expect(resampleOf(7, 3, 5, 61)).not.toBe(same)
  expect(Array.from(resampleOf(7, 3, 5, 61))).toEqual(drawn)
  expect(Array.from(resampleOf(7, 3, 6, 61))).not.toEqual(drawn)
  expect(Array.from(resampleOf(7, 3, 5, 62))).not.toEqual(drawn)
  // too many to keep
  const many = resampleOf(20_000, 2, 5, 61)
  expect(many[19_999]).toBe(Math.floor(uniform(5, 61, 2, 19_999) * 20_000))
})

test('the mean’s interval is that of a plain bootstrap over clusters', () => {
  const values = rows.map(({ score }) => score)
  const found = clusteredMean(values, clusters, 9)
  const means = Array.from({ length: 1000 }, (_, b) => {
    const some = Array.from({ length: 20 }, (_, k) => Math.floor(uniform(9, 61, b, k) * 20))
    const list = some.flatMap((cluster) => values.filter((_, i) => i % 20 === cluster))
    return list.reduce((x, y) => x + y, 0) / list.length
  }).sort((x, y) => x - y)
  expect(found.low).toBeCloseTo(means[25] ?? NaN, 12)
  expect(found.high).toBeCloseTo(means[974] ?? NaN, 12)
})

/** The interval that a vote has. */
function meanOf(outcomes: readonly number[]): Interval {
  const look = { round: 1, failed: 0, outcomes: { helpfulness: outcomes, safety: [] } }
  const interval = voteOf(look).intervals?.helpfulness
  if (interval == null) throw new Error('no interval')
  return interval
}

test('a mean of loose values: Wilson’s interval of a share, a narrower one with ties, the exact one of equals', () => {
  // Newcombe 1998, table I: 81 of 263 by Wilson's score
  const share = meanOf(outcomesOf(81, 0, 182))
  expect(share).toMatchObject({ value: 81 / 263, n: 263 })
  expect(Math.abs(share.low - 0.2553)).toBeLessThan(0.01)
  expect(Math.abs(share.high - 0.3662)).toBeLessThan(0.01)
  // 28 won, 100 tied: a mean of 0.609 with a standard error of √(0.0427 / 128) = 0.0183
  const tied = meanOf(outcomesOf(28, 100, 0))
  expect(Math.abs(tied.low - (0.609 - 1.96 * 0.0183))).toBeLessThan(0.006)
  expect(Math.abs(tied.high - (0.609 + 1.96 * 0.0183))).toBeLessThan(0.006)
  // none of 30 is another: Clopper and Pearson's 0.1157 at most, which a tie halves to either side
  const ends = (outcomes: number[]): number[] => {
    const { low, value, high } = meanOf(outcomes)
    return [low, value, high].map((x) => Number(x.toFixed(4)))
  }
  expect(ends(outcomesOf(30, 0, 0))).toEqual([0.8843, 1, 1])
  expect(ends(outcomesOf(0, 0, 30))).toEqual([0, 0, 0.1157])
  expect(ends(outcomesOf(0, 30, 0))).toEqual([0.4421, 0.5, 0.5579])
})

test('uniforms are what `uniform` gives one by one', () => {
  expect(Array.from(uniforms(5, 3, 61, 2))).toEqual(
    Array.from({ length: 5 }, (_, k) => uniform(3, 61, 2, k)),
  )
  // written down on 2026-11-27: what is seeded must stay what it was
  expect(uniform(1, 2, 3)).toBe(0.27552570961210343)
})
