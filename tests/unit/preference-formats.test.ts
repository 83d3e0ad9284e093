import { expect, test } from 'vitest'
import type { PreferenceRow } from '../../src/schemas/feedback.ts'
import { EXPORT_FORMATS } from '../../src/schemas/preferences.ts'
import { exportPairs } from '../../src/services/export.ts'
import { readWords } from '../../src/text/preference-formats.ts'

const prompt = [{ role: 'user' as const, content: 'q' }]
const pairsOf = (row: unknown): PreferenceRow[] =>
  readWords(row, 'helpfulness').words.flatMap(({ pair, tied }) => (tied ? [] : [pair]))
const said = (row: unknown): string[] =>
  pairsOf(row).map(({ chosen, rejected }) => `${chosen} > ${rejected}`)
const refusal = (row: unknown): unknown => {
  try {
    return pairsOf(row)
  } catch (error) {
    return error
  }
}

test.each([[null], [''], [' '], ['N/A'], [true], [[]], [undefined]])(
  'UltraFeedback: %j is no rating, and not the worst one',
  (Rating) => {
    const completions = [
      { response: 'unrated', annotations: { helpfulness: { Rating } } },
      { response: 'rated two', annotations: { helpfulness: { Rating: '2' } } },
      { response: 'rated three', annotations: { helpfulness: { Rating: 3 }, truth: { Rating } } },
    ]
    expect(said({ instruction: 'i', completions })).toEqual(['rated three > rated two'])
    expect(said({ instruction: 'i', completions: completions.slice(0, 2) })).toEqual([])
  },
)

test('TRL’s text: one space in front of an answer is the layout’s, the others are the answer’s', () => {
  const pairs: PreferenceRow[] = [
    { axis: 'helpfulness', prompt, chosen: '    indented', rejected: '\n\tcode' },
    { axis: 'helpfulness', prompt, chosen: '  x', rejected: 'x' },
  ]
  const back = exportPairs(pairs, 'trl_text').rows.flatMap(pairsOf)
  expect(back).toEqual(pairs)
  expect(said({ prompt: 'q', chosen: 'no space', rejected: ' one' })).toEqual(['no space > one'])
})

const ranked = (answers: string[], ranks: number[]): unknown => ({
  ...{ axis: 'helpfulness', prompt: 'q', answers, ranks },
})

test('a ranking: equal answers of one rank are one, of different ranks they contradict each other', () => {
  expect(said(ranked(['u', 'u', 'v'], [1, 1, 2]))).toEqual(['u > v'])
  expect(pairsOf(ranked(['u', 'u', 'v'], [1, 1, 2]))).toEqual(pairsOf(ranked(['u', 'v'], [1, 2])))
  expect(refusal(ranked(['u', 'u', 'v'], [1, 2, 3]))).toMatchObject({
    code: 'invalid_data',
    message: 'ranks: equal answers need equal ranks',
  })
})

test('a row of our own whose probability contradicts its strength is refused', () => {
  const row = { axis: 'safety', prompt, chosen: 'a', rejected: 'b', probability: 0.05 }
  expect(refusal({ ...row, strength: 'significantly_better' })).toMatchObject({
    code: 'invalid_data',
    message:
      'probability: below ½ it contradicts that the chosen answer is better, as strength says',
  })
  // by itself it is a soft label, written the right way round, and at ½ nothing is contradicted
  expect(said(row)).toEqual(['b > a'])
  const more = { chosen_safe: false, rejected_safe: true, orders: [0.1, null] }
  expect(pairsOf({ ...row, ...more })).toEqual([
    {
      ...{ axis: 'safety', prompt, chosen: 'b', rejected: 'a', probability: 0.95 },
      ...{ chosen_safe: true, rejected_safe: false, orders: [null, 0.9] },
    },
  ])
  expect(pairsOf({ ...row, chosen_safe: false })).toEqual([
    {
      ...{ axis: 'safety', prompt, chosen: 'b', rejected: 'a', probability: 0.95 },
      rejected_safe: false,
    },
  ])
  expect(said({ ...row, strength: 'negligibly_better', probability: 0.5 })).toEqual(['a > b'])
})

test('binarized rows: the answer with the higher score is the better one, whatever it is called', () => {
  const turn = (content: string) => [...prompt, { role: 'assistant', content }]
  const row = { chosen: turn('a'), rejected: turn('b') }
  expect(said({ ...row, score_chosen: 2, score_rejected: 9 })).toEqual(['b > a'])
  expect(said({ ...row, score_chosen: 9, score_rejected: 2 })).toEqual(['a > b'])
  expect(said({ ...row, score_chosen: 2, score_rejected: 2 })).toEqual([])
  expect(said({ ...row, score_chosen: 2 })).toEqual(['a > b'])
})

test('PKU’s rows hold one annotator’s words each, none over another', () => {
  const by = (annotator: string, axis: 'helpfulness' | 'safety', chosen: string) => ({
    ...{ axis, prompt, chosen, rejected: chosen === 'u' ? 'v' : 'u', annotator },
  })
  const pairs: PreferenceRow[] = [
    by('ann', 'helpfulness', 'u'),
    by('bob', 'helpfulness', 'v'),
    { ...by('ann', 'safety', 'v'), chosen_safe: true, rejected_safe: false },
    { ...by('bob', 'safety', 'v'), chosen_safe: true, rejected_safe: true },
    // who gives no name is told by the source; another word from there takes the place of none
    { axis: 'helpfulness', prompt, chosen: 'u', rejected: 'v', source: 'crowd' },
    { axis: 'helpfulness', prompt, chosen: 'v', rejected: 'u', source: 'crowd' },
  ]
  const row = (better: number, safer: number | null, safe: (boolean | null)[]) => ({
    ...{ prompt: 'q', response_0: 'u', response_1: 'v' },
    ...{ is_response_0_safe: safe[0], is_response_1_safe: safe[1] },
    ...{ better_response_id: better, safer_response_id: safer },
  })
  expect(exportPairs(pairs, 'pku').rows).toEqual([
    row(0, 1, [false, true]),
    row(1, 1, [true, true]),
    row(0, null, [null, null]),
    row(1, null, [null, null]),
  ])
})

test.each(EXPORT_FORMATS)('a tie leaves as %s only where the layout has soft labels', (format) => {
  const pair = (chosen: string, probability: number | null): PreferenceRow => ({
    ...{ axis: 'safety', prompt, chosen, rejected: 'z', probability },
  })
  // two of them are even but for rounding
  const pairs = [pair('a', 0.5), pair('b', 0.5 + 1e-9), pair('c', 0.51), pair('d', null)]
  const { rows, leftOut } = exportPairs(pairs, format)
  const soft = format === 'libra' || format === 'ultrafeedback'
  expect([rows.length, leftOut]).toEqual(soft ? [4, 0] : [2, 2])
})
