import { expect, test } from 'vitest'
import type { MeasuredPrompt } from '../../src/evaluation/policy-measures.ts'
import type { Comparison, Judge } from '../../src/judging/judge.ts'
import { winRates } from '../../src/services/policy-judging.ts'
import type { People } from '../../src/services/policy-judging.ts'
import type { Conversed } from '../../src/services/turns.ts'

/** A judge that says what a function says of each comparison. */
const judging = (say: (comparison: Comparison, i: number) => number): Judge => ({
  name: 'j',
  promptVersion: '1',
  version: () => Promise.resolve('1'),
  usage: () => {
    throw new Error('not asked')
  },
  assess: () => Promise.resolve([]),
  score: () => Promise.resolve([]),
  compare: (comparisons) =>
    Promise.resolve(
      comparisons.map((comparison, i) => {
        const probability = say(comparison, i)
        return {
          ...{ ok: true, probability, orders: [probability, null], consistent: null },
          ...{ strength: 'better', soft: true, cached: false },
        }
      }),
    ),
})
const answer = (text: string, tokens = 5) => ({ text, ended: true, tokens })
type Row = { question: number; turn: number; tokens: readonly [number, number] }

/** Two policies, a and b, who say their names and the question; b is the baseline. */
function world(rows: readonly Row[]) {
  const conversed = ['b', 'a'].map((name, at): Conversed => ({
    asked: rows.map(({ question, turn }) => ({
      ...{ question, turn, cluster: String(question) },
      messages:
        turn === 1
          ? [{ role: 'user', content: `q${question}` }]
          : [
              { role: 'user', content: `q${question}` },
              { role: 'assistant', content: name },
              { role: 'user', content: 'go on' },
            ],
    })),
    answers: rows.map(({ question, tokens }) => [answer(`${name}${question}`, tokens[at])]),
  }))
  const measured = rows.map(({ question, turn, tokens }, i): MeasuredPrompt => ({
    ...{ prompt: `q${question}`, label: null, pair: null, cluster: String(question), turn },
    answers: [0, 1].map((at) => [
      {
        ...{ class: 'comply', helpfulness: 0.5, safety: 1, branch: 'helpfulness' },
        ...{ text: conversed[at]?.answers[i]?.[0]?.text ?? '', tokens: tokens[at] ?? 0 },
      },
    ]),
  }))
  const ask = async (judge: Judge, people?: People) => {
    const warnings: string[] = []
    const asking = {
      ...{ prompts: [], judge, people, conversed },
      options: { seed: 1, max_new_tokens: 8, samples: 1 },
      signal: new AbortController().signal,
    }
    const { figures } = await winRates({ name: 'a', at: 1 }, measured, asking, warnings)
    return { warnings, of: (name: string) => figures.find(({ figure }) => figure === name) }
  }
  return { ask }
}

test('people correct the judge on what they could be asked about: later turns are in dialogues that have parted', async () => {
  const questions = Array.from({ length: 24 }, (_, question) => question)
  const rows = questions.flatMap((question) =>
    [1, 2].map((turn): Row => ({ question, turn, tokens: [5, 5] })),
  )
  // the judge likes a in first turns and b in later ones
  const judge = judging(({ a }) => (typeof a === 'string' ? 0.8 : 0.2))
  const people: People = {
    // asked about the first half, they would always have a
    prefer: (_axis, prompt, a, b) => {
      const question = Number(a.slice(1))
      expect([prompt.length, b]).toEqual([1, `b${question}`])
      return question < 12 ? 1 : null
    },
    unsafe: () => null,
  }
  const { of } = await world(rows).ask(judge, people)
  expect(of('win rate by the judge, helpfulness')?.value).toBeCloseTo(0.5, 12)
  expect(of('win rate by the judge, helpfulness, turn 1')?.value).toBeCloseTo(0.8, 12)
  expect(of('win rate by the judge, helpfulness, turn 2')?.value).toBeCloseTo(0.2, 12)
  // 0.8 of those that nobody was asked about, and 0.2 that the judge is below people
  expect(of('win rate by people and judge, helpfulness')?.value).toBeCloseTo(1, 12)
})

test('a win rate that lengths decide is told, with its standard error at equal lengths', async () => {
  // a wins where it is longer, which it mostly is
  const rows = Array.from({ length: 60 }, (_, question): Row => {
    const longer = question % 6 !== 0
    return { question, turn: 1, tokens: longer ? [4, 12] : [12, 4] }
  })
  const judge = judging((_, i) => (i % 6 === 0 ? 0.1 : 0.9))
  const { of, warnings } = await world(rows).ask(judge)
  const [raw, controlled] = ['by the judge', 'at equal lengths'].map((how) =>
    of(`win rate ${how}, safety`),
  )
  expect(raw?.value).toBeCloseTo((0.1 + 5 * 0.9) / 6, 12)
  expect(Math.abs((controlled?.value ?? NaN) - 0.5)).toBeLessThan(0.1)
  expect(controlled).toMatchObject({ standard_error: expect.any(Number) })
  expect((controlled as unknown as { standard_error: number }).standard_error).toBeGreaterThan(0)
  expect(warnings.join()).toMatch(
    /a, safety: length control moves the win rate from 0\.767 to 0\.5/,
  )
  // who wins whatever the length moves nowhere
  const even = await world(rows).ask(judging((_, i) => (i % 10 < 7 ? 0.9 : 0.1)))
  expect(even.warnings).toEqual([])
})
