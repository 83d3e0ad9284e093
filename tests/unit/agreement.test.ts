import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import {
  binaryEntropy,
  cohensKappa,
  gwetsAc2,
  lengthControlled,
} from '../../src/evaluation/agreement.ts'
import { clusteredStatistic } from '../../src/evaluation/statistics.ts'
import type { Verdict } from '../../src/judging/judge.ts'
import { LabelledRow } from '../../src/schemas/audit.ts'
import type { LabelledPair } from '../../src/schemas/audit.ts'
import { auditFigures } from '../../src/services/audit-figures.ts'
import { distinctPairs, objections } from '../../src/services/audit.ts'

const file = new URL('../../fixtures/parity/judging/agreement.json', import.meta.url)
const parity = JSON.parse(readFileSync(file, 'utf8')) as {
  agreement: { ratings: [number, number][]; kappa: number; ac2: number }[]
  length: { outcomes: number[]; differences: number[]; rate: number; slope: number }[]
}

test('Cohen’s κ as scikit-learn, Gwet’s AC2 with linear weights as irrCAC', () => {
  for (const { ratings, kappa, ac2 } of parity.agreement) {
    expect(cohensKappa(ratings, 3)).toBeCloseTo(kappa, 10)
    expect(gwetsAc2(ratings, 3)).toBeCloseTo(ac2, 4) // irrCAC rounds to five places
  }
})

test('Cohen’s κ is not defined where chance alone agrees in everything', () => {
  for (const n of [1, 3, 49, 60])
    expect(
      cohensKappa(
        Array.from({ length: n }, () => [0, 0] as const),
        3,
      ),
      String(n),
    ).toBeNaN()
})

test('length control as scikit-learn’s ridge regression; all alike stays finite', () => {
  for (const { outcomes, differences, rate, slope } of parity.length) {
    const fitted = lengthControlled(outcomes, differences)
    expect(fitted.rate).toBeCloseTo(rate, 5)
    expect(fitted.slope).toBeCloseTo(slope, 4)
  }
  expect(lengthControlled([1, 1, 1], [5, -5, 1]).rate).toBeGreaterThan(0.99)
  expect(lengthControlled([1, 0], [0, 0])).toEqual({ rate: 0.5, slope: 0 })
})

test('entropy of a soft label', () => {
  expect([0, 0.5, 1].map(binaryEntropy)).toEqual([0, 1, 0])
  expect(binaryEntropy(0.11)).toBeCloseTo(0.4999, 3)
})

test('the bootstrap resamples conversations, not rows', () => {
  const rows = Array.from({ length: 200 }, (_, i) => ({ value: i < 100 ? 0 : 1, one: i < 100 }))
  const mean = (some: readonly { value: number }[]): number =>
    some.reduce((sum, { value }) => sum + value, 0) / some.length
  const together = clusteredStatistic(rows, ({ one }) => String(one), mean, 1)
  expect([together.low, together.high]).toEqual([0, 1]) // two conversations: anything may come
  const apart = clusteredStatistic(rows, (row) => String(rows.indexOf(row)), mean, 1)
  expect(apart.high - apart.low).toBeLessThan(0.2)
})

describe('audits', () => {
  const pair = (i: number, label: LabelledPair['label'], a = 'short', b = 'longer by far') => ({
    ...{ axis: null, prompt: [{ role: 'user' as const, content: `question ${i}` }], a, b, label },
  })
  const said = (first: number, second: number): Verdict => ({
    ...{ ok: true, orders: [first, second], probability: (first + second) / 2, cached: false },
    ...{ consistent: first > 0.5 === second > 0.5, strength: 'better', soft: true },
  })
  const figures = (pairs: LabelledPair[], verdicts: Verdict[], more: object = {}) =>
    Object.fromEntries(
      auditFigures(pairs, verdicts, 1, more).map(({ figure, value }) => [figure, value]),
    )
  const many = (n: number, label: (i: number) => LabelledPair['label']): LabelledPair[] =>
    Array.from({ length: n }, (_, i) => pair(i, label(i)))

  test('every figure by hand', () => {
    const pairs = [pair(1, 'a'), pair(2, 'b'), pair(3, 'tie'), pair(4, 'a'), pair(5, 'b')]
    const verdicts: Verdict[] = [
      said(0.9, 0.9), // right
      said(0.9, 0.7), // wrong: people say b, the longer one
      said(0.9, 0.1), // by place: ½, a tie as people say
      { ok: false, failure: 'refused', message: '' },
      said(0.2, 0.1), // right
    ]
    const found = figures(pairs, verdicts)
    expect(found['accuracy']).toBeCloseTo(2 / 3, 12)
    expect(found['same position preferred']).toBe(0)
    expect(found['ties']).toBe(0)
    expect(found['same position preferred, people undecided']).toBe(1)
    expect(found['ties, people undecided']).toBe(1)
    expect(found['failures']).toBeCloseTo(0.2, 12)
    expect(found['failures: refused']).toBeCloseTo(0.2, 12)
    // people take the longer one in 2 of 3, the judge in 1 of 3
    expect(found['longer preferred, judge − people']).toBeCloseTo(-1 / 3, 12)
    expect(found['P(the first answer shown)']).toBeCloseTo((0.5 + 0.6 + 0.9 + 0.55) / 4, 12)
  })

  test('who wrote what: a judge that takes its own answers more often than people do', () => {
    const pairs = many(4, (i) => (i < 2 ? 'a' : 'b')).map((p) => ({
      ...p,
      a_by: 'me',
      b_by: 'you',
    }))
    const found = figures(
      pairs,
      pairs.map(() => said(0.9, 0.8)),
      { self: 'me' },
    )
    expect(found['own answers preferred, judge − people']).toBe(0.5)
    expect(
      figures(
        pairs,
        pairs.map(() => said(0.9, 0.8)),
      ),
    ).not.toHaveProperty('own answers preferred, judge − people')
  })

  test('preference pairs have no side that is always better, so that κ says something', () => {
    // a judge that is right in five of six, on answers whose alphabetical order gives the better one away
    const pairs = Array.from({ length: 240 }, (_, i) =>
      LabelledRow.parse({
        ...{ axis: 'helpfulness', prompt: [{ role: 'user', content: `question ${i}` }] },
        ...{ chosen: 'a good one', rejected: 'bad', chosen_safe: true, rejected_safe: false },
      }),
    )
    const verdicts = pairs.map(({ a }, i) => {
      const p = (a === 'a good one') === i % 6 > 0 ? 0.9 : 0.1
      return said(p, p)
    })
    const found = figures(pairs, verdicts)
    expect(found['accuracy']).toBeCloseTo(5 / 6, 12)
    expect(found['Cohen’s κ']).toBeCloseTo(2 / 3, 1)
    for (const { a, b, label, a_safe, b_safe } of pairs) {
      expect([a, b].sort()).toEqual(['a good one', 'bad'])
      expect(label).toBe(a === 'a good one' ? 'a' : 'b')
      expect([a_safe, b_safe]).toEqual(label === 'a' ? [true, false] : [false, true])
    }
    // with the other answer as the better one the same answers stand on the same sides
    const turned = LabelledRow.parse({
      ...{ axis: 'helpfulness', prompt: [{ role: 'user', content: 'question 0' }] },
      ...{ chosen: 'bad', rejected: 'a good one' },
    })
    expect([turned.a, turned.b]).toEqual([pairs[0]?.a, pairs[0]?.b])
    expect(turned.label).not.toBe(pairs[0]?.label)
  })

  test('one label and one verdict throughout give no κ', () => {
    const pairs = many(60, () => 'a')
    const found = figures(
      pairs,
      pairs.map(() => said(0.9, 0.9)),
    )
    expect(found['accuracy']).toBe(1)
    expect(found).not.toHaveProperty('Cohen’s κ')
  })

  test('drift: what has changed since the last time', () => {
    const pairs = many(4, () => 'a')
    const now = pairs.map(() => said(0.8, 0.8))
    const found = figures(pairs, now, { before: [0.8, 0.2, null, 0.7] })
    expect(found['drift: mean ∣ΔP∣']).toBeCloseTo((0 + 0.6 + 0.1) / 3, 12)
    expect(found['drift: preferences turned']).toBeCloseTo(1 / 3, 12)
  })

  test('drift: a preference turns from one side of ½ to the other, and not by rounding', () => {
    const pairs = many(6, () => 'a')
    const now = [0.5 - 4e-8, 0.5 + 4e-8, 0.5, 0.9, 0.6, 0.3].map((p) => said(p, p))
    const found = figures(pairs, now, { before: [0.5 + 4e-8, 0.5, 0.5 - 4e-8, 0.5, 0.4, 0.2] })
    expect(found['drift: preferences turned']).toBeCloseTo(1 / 6, 12)
  })

  test('who may label: place, silence, indecision and chance are held against a judge, and too few pairs', () => {
    const audit = (verdicts: Verdict[]): string =>
      objections(
        auditFigures(
          many(verdicts.length, () => 'a'),
          verdicts,
          1,
          {},
        ),
        verdicts.length,
      ).join()
    const good = said(0.9, 0.9)
    const place = said(0.95, 0.1)
    const share = (n: number, bad: Verdict) =>
      Array.from({ length: 100 }, (_, i) => (i < n ? bad : good))
    expect(audit(share(30, place))).toBe('')
    expect(audit(share(31, place))).toMatch(/same position in 31\.0 %/)
    expect(audit(share(35, said(0.1, 0.1)))).toBe('')
    expect(audit(share(45, said(0.1, 0.1)))).toMatch(/right in 55\.0 % .* no more than chance/)
    expect(audit(share(51, said(0.5, 0.5)))).toMatch(/undecided in 51\.0 %/)
    const silent: Verdict = { ok: false, failure: 'too_long', message: '' }
    expect(audit(share(51, silent))).toMatch(/no verdict in 51\.0 %/)
    expect(audit(share(100, silent))).toBe('it gave no verdict')
    expect(audit(Array.from({ length: 49 }, () => good))).toMatch(/49 verdicts/)
    // whether all of them are right or nearly all
    for (const bad of [0, 1]) {
      const figures = auditFigures(
        many(100, () => 'a'),
        share(bad, said(0.1, 0.1)),
        1,
        {},
      )
      expect(objections(figures, 5)).toEqual(['verdicts of 5 conversations, at least 6 are needed'])
      expect(objections(figures, 6)).toEqual([])
    }
  })
  test('each pair once, with the label that most of its rows give', () => {
    const [one, other] = ['short', 'longer by far']
    const rows = [
      ...[pair(1, 'a'), pair(1, 'a', other, one), pair(1, 'b', other, one)], // 2 of 3 for the short one
      ...[pair(2, 'b'), pair(2, 'a', other, one)],
      ...[pair(3, 'a'), pair(3, 'b')], // nobody can tell
      ...[pair(4, 'tie'), pair(4, 'tie'), pair(4, 'b')],
      pair(4, 'b', one, 'another'),
    ]
    const distinct = distinctPairs(rows)
    expect(distinct.map(({ label }) => label)).toEqual(['a', 'b', 'tie', 'tie', 'b'])
    expect(distinct.map(({ prompt }) => prompt[0]?.content.at(-1))).toEqual([...'12344'])
    expect(distinctPairs(distinct)).toEqual(distinct)
  })

  test('who may label: verdicts on pairs that nobody tells apart are verdicts, and too little', () => {
    const even = many(3, () => 'tie')
    const given = even.map(() => said(0.5, 0.5))
    expect(objections(auditFigures(even, given, 1, {}), 3)).toEqual([
      'it gave no verdict on a pair that people tell apart',
    ])
  })
})
