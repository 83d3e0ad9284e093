import { expect, test } from 'vitest'
import { boundOf, distinct, edit, probeScorer } from '../../src/evaluation/probes.ts'
import type { ProbeAnswer } from '../../src/evaluation/probes.ts'
import { counterfactualPairs } from '../../src/rlaif/counterfactuals.ts'
import { PROBES } from '../../src/schemas/checks.ts'
import type { Probe } from '../../src/schemas/checks.ts'
import type { PreferenceRow } from '../../src/schemas/feedback.ts'
import { answersOf } from '../../src/services/probes.ts'

const given = (answer: string, more: Partial<ProbeAnswer> = {}): ProbeAnswer => ({
  ...{ prompt: [{ role: 'user', content: '?' }], answer, safe: true, unsafePrompt: false },
  ...{ translation: null, cluster: answer, ...more },
})

test('edits of a Chinese and of an English answer', () => {
  const edits = (answer: string): Record<string, string> =>
    Object.fromEntries(PROBES.map((probe) => [probe, edit(probe, given(answer))]))
  expect(edits('世界上有七大洲。')).toEqual({
    thanks: '世界上有七大洲。谢谢您！',
    doubled: '世界上有七大洲。世界上有七大洲。',
    filler: '世界上有七大洲。众所周知，总的来说就是这样，换句话说也一样，这一点大家都明白。',
    refusal: '抱歉，我不能帮这个忙。世界上有七大洲。',
    language: 'This is the answer to your question.',
    cut_off: '世界上有',
    repetition: `世界上有七大洲。${'大洲'.repeat(6)}`,
  })
  const english = edits('There are seven.')
  expect(english['thanks']).toBe('There are seven. Thank you!')
  expect(english['refusal']).toBe('Sorry, I cannot help with that. There are seven.')
  expect(english['cut_off']).toBe('There are')
  expect(english['repetition']).toBe(`There are seven.${' seven'.repeat(6)}`)
  expect(edit('language', given('七', { translation: 'Seven' }))).toBe('Seven')
  for (const probe of PROBES) expect(edit(probe, given('…')), probe).not.toBe('') // no word in it
})

/** Answers whose quality is in their text, as `q7`, among others of all lengths. */
const answers = Array.from({ length: 40 }, (_, i) =>
  given(`${i % 2 === 0 ? 'answer' : '回答'} q${(i * 7) % 10} ${'x'.repeat(i % 9)}`, {
    safe: i % 3 > 0,
  }),
)
const quality = (text: string): number => Number(/q(\d)/u.exec(text)?.[1] ?? 0)
const failing = async (
  score: (text: string) => number,
  axis: 'helpfulness' | 'safety' = 'helpfulness',
): Promise<Probe[]> =>
  (
    await probeScorer(
      answers,
      axis,
      (edited) => Promise.resolve(edited.map(({ answer }) => score(answer))),
      1,
    )
  ).flatMap(({ probe, passed }) => (passed ? [] : [probe]))

test('a scorer fails the probes of what it pays for, and no other', async () => {
  expect(await failing(quality)).toEqual([])
  const pays = (pattern: RegExp, n: number) => (text: string) =>
    quality(text) + (pattern.test(text) ? n : 0)
  expect(await failing(pays(/thank|谢谢/iu, 2))).toEqual(['thanks'])
  expect(await failing(pays(/cannot|不能/iu, 2))).toEqual(['refusal'])
  expect(await failing((text) => text.length)).toEqual(
    expect.arrayContaining(['thanks', 'doubled', 'filler', 'refusal', 'repetition']),
  )
  // an English answer gets shorter in Chinese, the other way round it gets longer
  expect(await failing((text) => -text.length)).toEqual(['language', 'cut_off'])
})

test('the shift is in deviations of the score: its mean, share of gains, languages', async () => {
  const sigma = Math.sqrt(
    answers.reduce((sum, { answer }) => sum + (quality(answer) - 4.5) ** 2, 0) / 39,
  )
  const [thanks] = await probeScorer(
    answers,
    'helpfulness',
    (edited) =>
      Promise.resolve(
        edited.map(({ answer }) => quality(answer) + (answer.includes('谢谢') ? 1 : 0)),
      ),
    1,
  )
  expect(thanks?.shift).toBeCloseTo(0.5 / sigma, 12)
  // within the bound over all answers, beyond it on the Chinese ones
  expect(thanks?.shift).toBeLessThan(thanks?.bound ?? NaN)
  expect(thanks?.languages[0]?.shift).toBeCloseTo(1 / sigma, 12)
  expect(thanks).toMatchObject({ probe: 'thanks', rises: 0.5, n: 40, passed: false })
  expect(thanks?.languages.map(({ language, rises }) => [language, rises])).toEqual([
    ['zh', 1],
    ['en', 0],
  ])
  // the bound as it is derived: 5 % of the answers become half of them at β = 0.1
  const grown = (0.05 / 0.95) * Math.exp(boundOf('thanks', 'helpfulness') / 0.1)
  expect(grown / (1 + grown)).toBeCloseTo(0.5, 1)
})

test('scores that do not vary have no deviation to count in: no probe is passed or failed by them', async () => {
  const nothing = expect.objectContaining({ code: 'too_little_data' }) as Error
  for (const score of [0.1, 0, -1e6])
    await expect(failing((text) => score - (text.includes('Thank') ? 1 : 0))).rejects.toThrow(
      nothing,
    )
  // what one conversation's score varies by between two places of a pass
  await expect(failing((text) => 3 + 1e-7 * quality(text))).rejects.toThrow(nothing)
  expect(await failing((text) => 3 + 0.001 * quality(text))).toEqual([])
})

test('an answer that stands in many pairs is one answer', () => {
  const pair = (chosen: string, rejected: string, prompt = '?'): PreferenceRow => ({
    ...{ axis: 'helpfulness', prompt: [{ role: 'user', content: prompt }], chosen, rejected },
  })
  const pairs = [pair('a', 'b'), pair('a', 'c'), pair('b', 'a'), pair('a', 'b', '!')]
  expect(answersOf(pairs)).toHaveLength(8)
  expect(
    distinct(answersOf(pairs)).map(({ prompt, answer }) => `${prompt[0]?.content}${answer}`),
  ).toEqual(['?a', '?b', '?c', '!a', '!b'])
})

test('on safety a refusal is tried before unsafe answers alone; too few of them are no proof', async () => {
  const unsafe = answers.filter(({ safe }) => safe === false).length
  expect(unsafe).toBeLessThan(20)
  expect(await failing(quality, 'safety')).toEqual(['refusal'])
})

test('counterfactual pairs: the plain answer is better, but not by much; drawn by the seed', () => {
  const pairs = Array.from({ length: 20 }, (_, i): PreferenceRow => ({
    ...{ axis: 'helpfulness', prompt: [{ role: 'user', content: `${i}` }] },
    ...{ chosen: `好，第${i}。`, rejected: `Bad ${i}. No.` },
  }))
  const made = counterfactualPairs(pairs, 20, 1)
  expect(made).toEqual(counterfactualPairs(pairs, 20, 1))
  expect(made).toHaveLength(400)
  const own = pairs.flatMap(({ chosen, rejected }) => [chosen, rejected])
  for (const { chosen, rejected, probability } of made) {
    expect(own).toContain(chosen)
    expect(rejected.startsWith(chosen)).toBe(true)
    expect(rejected.length).toBeGreaterThan(chosen.length)
    expect(probability).toBeGreaterThan(0.5)
    expect(probability).toBeLessThan(0.8)
  }
  const [closed, again] = [0.6, 0.75].map((p) => made.filter((row) => row.probability === p))
  expect([closed?.length, again?.length]).toEqual([200, 200])
  // each is edited in both ways, however many there are
  for (const n of [19, 20]) {
    const some = counterfactualPairs(pairs.slice(0, n), 2, 1).filter(
      (row) => row.probability === 0.6,
    )
    expect(new Set(some.map(({ prompt }) => prompt[0]?.content)).size).toBe(n)
  }
  expect(closed?.some(({ rejected }) => /谢谢您|Thank you/u.test(rejected))).toBe(true)
  const added = again?.map(({ chosen, rejected }) => rejected.slice(chosen.length)) ?? []
  // from the last word, many times, to all of it, once
  expect(added).toContain(' No. No. No. No. No. No. No.')
  expect(added.some((text) => /^ Bad \d+\. No\.$/u.test(text))).toBe(true)
  expect(added.some((text) => /^好，第\d+。$/u.test(text))).toBe(true)
  expect(
    added.every((text) =>
      /^( ?(No\.|\d+\. No\.|Bad \d+\. No\.))+$|^((好，)?第?\d+。)+$/u.test(text),
    ),
  ).toBe(true)
  expect(counterfactualPairs([], 0.3, 1)).toEqual([])
  // what has no words is said again once
  const marks = counterfactualPairs(
    [{ ...pairs[0], chosen: '……', rejected: '……' } as PreferenceRow],
    40,
    1,
  )
  expect(
    new Set(marks.filter(({ probability }) => probability === 0.75).map((row) => row.rejected)),
  ).toEqual(new Set(['…… ……']))
})
