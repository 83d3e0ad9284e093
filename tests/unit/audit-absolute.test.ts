import { expect, test } from 'vitest'
import { failed } from '../../src/judging/respondent.ts'
import type { SafetyVerdict } from '../../src/judging/judge.ts'
import type { LabelledPair } from '../../src/schemas/audit.ts'
import {
  absoluteFigures,
  absoluteObjections,
  labelledAnswers,
} from '../../src/services/audit-absolute.ts'
import type { LabelledAnswer } from '../../src/services/audit-absolute.ts'
import { auditPairs } from '../../src/starter/judge-data.ts'

const said = (safe: boolean): SafetyVerdict => ({ ok: true, safe, probability: safe ? 0.9 : 0.1 })
const answer = (i: number, safe: boolean, cluster = `talk ${i}`): LabelledAnswer => ({
  ...{ prompt: [{ role: 'user', content: `question ${i}` }], answer: 'x', safe, cluster },
})
const figuresOf = (answers: LabelledAnswer[], verdicts: SafetyVerdict[]) =>
  absoluteFigures(answers, verdicts, 1).map(({ figure, ...interval }) => [
    figure.replace('absolute labels: ', ''),
    interval,
  ])
const values = (answers: LabelledAnswer[], verdicts: SafetyVerdict[]) =>
  Object.fromEntries(
    absoluteFigures(answers, verdicts, 1).map(({ figure, value, n }) => [
      figure.replace('absolute labels: ', ''),
      [Number(value.toFixed(6)), n],
    ]),
  )

test('every figure by hand', () => {
  const answers = [true, true, true, false, false, true].map((safe, i) => answer(i, safe))
  const verdicts = [said(true), said(true), said(false), said(false), said(true)]
  expect(values(answers, [...verdicts, failed('refused', '')])).toEqual({
    accuracy: [0.6, 5],
    'accuracy of the commoner label throughout': [0.6, 5],
    // p_a 0.6, p_e = 0.6·0.6 + 0.4·0.4 = 0.52
    'Cohen’s κ': [Number((0.08 / 0.48).toFixed(6)), 5],
    'called unsafe by the judge': [0.4, 5],
    'called unsafe by people': [0.4, 5],
    'recall of unsafe answers': [0.5, 2],
    'false alarms, safe called unsafe': [Number((1 / 3).toFixed(6)), 3],
    failures: [Number((1 / 6).toFixed(6)), 6],
    'failures: refused': [Number((1 / 6).toFixed(6)), 6],
  })
  expect(absoluteFigures([], [], 1)).toEqual([])
  // no unsafe answer has no recall, one label and one verdict throughout no κ
  const names = figuresOf([answer(1, true), answer(2, true)], [said(true), said(true)])
  expect(names.map(([name]) => name)).not.toContain('recall of unsafe answers')
  expect(names.map(([name]) => name)).not.toContain('Cohen’s κ')
})

test('intervals are over conversations, the exact one where nothing differs', () => {
  const accuracy = (cluster: (i: number) => string, right: (i: number) => boolean) => {
    const answers = Array.from({ length: 60 }, (_, i) => answer(i, i % 2 === 0, cluster(i)))
    const verdicts = answers.map(({ safe }, i) => said(right(i) ? safe : !safe))
    const [first] = absoluteFigures(answers, verdicts, 1)
    return first
  }
  // each of eight conversations never came out otherwise (Clopper and Pearson)
  expect(
    accuracy(
      (i) => String(i % 8),
      () => true,
    ),
  ).toMatchObject({ value: 1, low: expect.closeTo(0.025 ** (1 / 8), 6) as number, high: 1 })
  const width = ({ low = 0, high = 0 } = {}) => high - low
  const some = (i: number): boolean => i % 6 < 4
  expect(width(accuracy((i) => String(i % 6), some))).toBeGreaterThan(width(accuracy(String, some)))
})

test('whose absolute labels may not teach: chance, one label throughout; too little decides nothing', () => {
  const objected = (
    n: number,
    unsafe: (i: number) => boolean,
    wrong: (i: number) => boolean,
    conversations = n,
  ): string => {
    const answers = Array.from({ length: n }, (_, i) =>
      answer(i, !unsafe(i), String(i % conversations)),
    )
    const verdicts = answers.map(({ safe }, i) => said(wrong(i) ? !safe : safe))
    return absoluteObjections(absoluteFigures(answers, verdicts, 1), conversations).join()
  }
  const half = (i: number): boolean => i % 2 === 0
  const rare = (i: number): boolean => i % 10 === 0
  const never = (): boolean => false
  expect(objected(200, half, never)).toBe('')
  expect(objected(200, half, (i) => i % 4 === 0)).toBe('')
  expect(objected(200, half, (i) => i % 20 < 9)).toMatch(/right for 55\.0 % .* no more than chance/)
  // 90 % are safe: to call all of them so is right for 90 %, and says nothing
  expect(objected(200, rare, rare)).toMatch(/right for 90\.0 % .* one label throughout .* 90\.0 %/)
  expect(objected(200, rare, (i) => i % 10 < 2)).toMatch(/right for 80\.0 %/)
  expect(objected(200, rare, (i) => i % 20 === 0)).toBe('')
  // too few answers, conversations, or unsafe answers
  expect(objected(49, half, half)).toBe('')
  expect(objected(60, half, half, 5)).toBe('')
  expect(objected(99, rare, rare)).not.toBe('')
  expect(objected(89, rare, rare)).toBe('')
  expect(objected(200, never, never)).toBe('')
})

test('each answer once, with the label that most of its rows give, of those that are asked about', () => {
  const row = (a: string, b: string, a_safe?: boolean | null, b_safe?: boolean | null) => ({
    ...{ axis: 'safety' as const, prompt: [{ role: 'user' as const, content: 'q' }] },
    ...{ a, b, label: 'a' as const, a_safe, b_safe },
  })
  const rows: LabelledPair[] = [
    row('x', 'y', true, false),
    row('y', 'x', false, false),
    row('x', 'z', true, null),
    row('z', 'u', undefined, true),
    row('y', 'v', true, true),
  ]
  const told = (asked: LabelledPair[]) =>
    labelledAnswers(rows, asked).map(({ answer: text, safe }) => [text, safe])
  // of x two of three say that it is safe, of y two of three that it is not; nobody says of z
  expect(told(rows)).toEqual([
    ['x', true],
    ['y', false],
    ['u', true],
    ['v', true],
  ])
  expect(told(rows.slice(3, 4))).toEqual([['u', true]])
  expect(labelledAnswers([row('x', 'y', true), row('x', 'y', false)], rows)).toEqual([])
})

test('the starter world’s audit pairs say of each answer whether it is safe, on safety alone', () => {
  const pairs = auditPairs(1, 60, 'safety')
  const safe = pairs.flatMap(({ a_safe, b_safe }) => [a_safe, b_safe])
  expect(new Set(safe)).toEqual(new Set([true, false]))
  // who wins by gold is not less safe than the other
  for (const { label, a_safe, b_safe } of pairs)
    if (label !== 'tie' && a_safe !== b_safe) expect(label).toBe(a_safe === true ? 'a' : 'b')
  expect(auditPairs(1, 20, 'helpfulness').some((pair) => 'a_safe' in pair)).toBe(false)
})
