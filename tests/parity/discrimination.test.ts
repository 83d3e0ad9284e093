import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { expect, test } from 'vitest'
import { auroc, recallAt, spearman } from '../../src/evaluation/discrimination.ts'

const path = resolve(import.meta.dirname, '../../fixtures/parity/discrimination/expected.json')
const expected = JSON.parse(readFileSync(path, 'utf8')) as {
  [K in 'scores' | 'lengths' | 'rates' | 'recalls']: number[]
} & { positive: boolean[]; auroc: number; spearman: number }

test('AUROC, recall at a false-positive rate and rank correlation as scikit-learn and scipy find them', () => {
  const { scores, positive, lengths, rates } = expected
  const rows = scores.map((score, i) => ({ score, positive: positive[i] ?? false }))
  expect(auroc(rows)).toBeCloseTo(expected.auroc, 12)
  rates.forEach((rate, i) =>
    expect(recallAt(rows, rate), `at ${rate}`).toBeCloseTo(expected.recalls[i] ?? NaN, 12),
  )
  expect(spearman(scores, lengths)).toBeCloseTo(expected.spearman, 12)
})

test('one kind of row alone tells nothing', () => {
  const safe = [1, 2].map((score) => ({ score, positive: false }))
  expect(auroc(safe)).toBeNaN()
  expect(recallAt(safe, 0.05)).toBeNaN()
})
