import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { predictionPowered } from '../../src/evaluation/prediction-powered.ts'
import { taxFigures } from '../../src/evaluation/tax.ts'
import type { TaxedRow } from '../../src/evaluation/tax.ts'
import { samplesAtKl } from '../../src/services/policy-baselines.ts'

const file = new URL('../../fixtures/parity/evaluation/expected.json', import.meta.url)
const expected = JSON.parse(readFileSync(file, 'utf8')) as {
  [K in 'judge' | 'audited' | 'people' | 'bytes' | 'perplexity' | 'bits']: number[]
} & {
  [K in 'value' | 'margin' | 'clusteredMargin']: number
} & {
  bestOfN: [number, number][]
  tax: Record<'before' | 'after', { logprob: number; tokens: number }[]>
}

test('prediction-powered mean and its interval as numpy computes algorithm 1, rows alone and in clusters', () => {
  const { judge, audited, people, value, margin, clusteredMargin } = expected
  const of = (size: number) =>
    predictionPowered(
      judge.map((p, i) => ({ judge: p, cluster: String(Math.floor(i / size)) })),
      audited.map((p, i) => ({
        ...{ judge: p, people: people[i] ?? NaN, cluster: String(Math.floor(i / size)) },
      })),
    )
  expect(of(1).value).toBeCloseTo(value, 12)
  expect(of(1).high - of(1).value).toBeCloseTo(margin, 12)
  expect(of(1).value - of(1).low).toBeCloseTo(margin, 12)
  expect(of(1).n).toBe(people.length)
  expect(of(3).high - of(3).value).toBeCloseTo(clusteredMargin, 12)
  // a judge that is always wrong by as much costs nothing: its bias goes
  const biased = predictionPowered(
    [0.2, 0.4, 0.6].map((p, i) => ({ judge: p, cluster: String(i) })),
    [0.1, 0.5].map((p, i) => ({ judge: p, people: p + 0.3, cluster: String(i) })),
  )
  expect(biased.value).toBeCloseTo(0.7, 12)
})

test('the n of best of n at a KL: the least whose bound reaches it', () => {
  for (const [n, bound] of expected.bestOfN) expect(samplesAtKl(bound - 1e-9)).toBe(n)
  for (const [n, bound] of expected.bestOfN.slice(0, -1))
    expect(samplesAtKl(bound + 1e-9)).toBe(n + 1)
  expect(samplesAtKl(100)).toBe(64)
})

test('perplexity and bits per byte as numpy sums them; facts where they were asked for', () => {
  const { tax, bytes, perplexity, bits } = expected
  const rows = (side: 'before' | 'after'): TaxedRow[] =>
    tax[side].map((row, i) => ({
      ...{ ...row, cluster: String(i), bytes: bytes[i] ?? NaN },
      right: i < 4 ? Number(side === 'before' || i < 1) : null,
    }))
  const figures = taxFigures('new', rows('before'), rows('after'), 1)
  const of = (name: string) => figures.find(({ figure }) => figure.startsWith(name))
  for (const [name, [before = NaN, after = NaN]] of [
    ['perplexity', perplexity],
    ['bits', bits],
  ] as const) {
    expect(of(name)?.before?.value).toBeCloseTo(before, 10)
    expect(of(name)?.after?.value).toBeCloseTo(after, 10)
    expect(of(name)?.value).toBeCloseTo(after - before, 10)
    expect(of(name)?.low).toBeLessThan(after - before)
    expect(of(name)?.high).toBeGreaterThan(after - before)
  }
  expect(of('right answers')).toMatchObject({
    ...{ value: -0.75, n: 4, before: { value: 1 }, after: { value: 0.25 } },
  })
  // all four were right before: Clopper and Pearson's 0.025^(1/4)
  expect(of('right answers')?.before?.low).toBeCloseTo(0.3976354, 7)
  expect(taxFigures('new', rows('before').slice(4), rows('after').slice(4), 1)).toHaveLength(2)
})
