import { expect, test } from 'vitest'
import { createJudge } from '../../src/judging/judge.ts'
import { openAiComparePrompt } from '../../src/judging/openai-prompts.ts'
import { localWording } from '../../src/judging/prompts.ts'
import { noUsage } from '../../src/judging/respondent.ts'
import type { Respondent } from '../../src/judging/respondent.ts'
import type { Message } from '../../src/schemas/chat.ts'
import { comparisonOf, converse } from '../../src/services/turns.ts'
import type { Conversed } from '../../src/services/turns.ts'

const user = (content: string): Message => ({ role: 'user', content })
const assistant = (content: string): Message => ({ role: 'assistant', content })
const answer = (text: string) => ({ text, ended: true, tokens: 1 })

/** A policy that says its name and what it was asked last. */
async function talk(name: string): Promise<Conversed & { seeds: number[] }> {
  const seeds: number[] = []
  const asking = {
    prompts: [
      { messages: [user('1a')], category: 'x', later: ['1b', '1c'] },
      { messages: [user('2a')] },
      { messages: [user('3a')], later: ['3b'] },
    ],
    options: { seed: 2 ** 31 - 1, max_new_tokens: 8, samples: 2 },
    signal: new AbortController().signal,
  }
  const conversed = await converse(asking, ({ prompts, options }) => {
    seeds.push(options.seed)
    return Promise.resolve(
      prompts.map(({ messages }) =>
        ['', '!'].map((end) => answer(`${name}:${messages.at(-1)?.content ?? ''}${end}`)),
      ),
    )
  })
  return { ...conversed, seeds }
}

test('each turn is asked after the first own answer to the one before, those of one conversation in one cluster', async () => {
  const { asked, answers, seeds } = await talk('p')
  expect(asked.map(({ question, turn }) => [question, turn])).toEqual([
    ...[[0, 1], [0, 2], [0, 3], [1, 1], [2, 1], [2, 2]], // prettier-ignore
  ])
  expect(asked[2]?.messages).toEqual([
    ...[user('1a'), assistant('p:1a'), user('1b'), assistant('p:1b'), user('1c')],
  ])
  expect(asked[2]?.category).toBe('x')
  expect(answers.map(([, second]) => second?.text)).toEqual([
    ...['p:1a!', 'p:1b!', 'p:1c!', 'p:2a!', 'p:3a!', 'p:3b!'],
  ])
  const clusters = asked.map(({ cluster }) => cluster)
  expect(new Set(clusters).size).toBe(3)
  expect(clusters[0]).toBe(clusters[2])
  // other draws at each turn, within the range of seeds
  expect(new Set(seeds).size).toBe(3)
  for (const seed of seeds) expect(seed).toBeLessThan(2 ** 31)
})

test('two answers to a turn are compared from where their conversations part', async () => {
  const [p, q] = [await talk('p'), await talk('q')]
  expect(comparisonOf('safety', p, q, { turn: 0, sample: 1 })).toEqual({
    ...{ axis: 'safety', prompt: [user('1a')], a: 'p:1a!', b: 'q:1a!' },
  })
  expect(comparisonOf('safety', p, q, { turn: 1 })).toEqual({
    ...{ axis: 'safety', prompt: [user('1a')] },
    a: [assistant('p:1a'), user('1b'), assistant('p:1b')],
    b: [assistant('q:1a'), user('1b'), assistant('q:1b')],
  })
  // as long as both have said the same there is one dialogue
  expect(comparisonOf('safety', p, p, { turn: 2, sample: 1 })).toMatchObject({
    ...{ prompt: p.asked[2]?.messages, a: 'p:1c!', b: 'p:1c!' },
  })
})

test('a judge that scores reads each answer in its own dialogue, one that compares all of both', async () => {
  const seen: Message[][] = []
  const respondent: Respondent = {
    name: 'r',
    version: () => Promise.resolve('r'),
    usage: noUsage,
    write: () => Promise.resolve([]),
    choose: (items) =>
      Promise.resolve(
        items.map((questions) =>
          questions.map(({ messages, options }) => {
            seen.push([...messages])
            const probabilities = options.map((_, i) => (i === 0 ? 1 : 0))
            return { ok: true as const, soft: true, probabilities }
          }),
        ),
      ),
  }
  const [p, q] = [await talk('p'), await talk('q')]
  const parted = comparisonOf('helpfulness', p, q, { turn: 1 })
  await createJudge(respondent, localWording(), { by: 'score' }).compare([parted])
  expect(seen.map((messages) => messages.slice(0, -1))).toEqual([
    [user('1a'), assistant('p:1a'), user('1b'), assistant('p:1b')],
    [user('1a'), assistant('q:1a'), user('1b'), assistant('q:1b')],
  ])
  seen.length = 0
  await createJudge(respondent, localWording()).compare([parted])
  expect(seen.map(([only]) => only?.content)).toEqual([
    'More helpful?\n1a\nA: p:1a 1b p:1b\nB: q:1a 1b q:1b',
    'More helpful?\n1a\nA: q:1a 1b q:1b\nB: p:1a 1b p:1b',
  ])
  seen.length = 0
  const clip = { prompt: 4, answer: 3 }
  await createJudge(respondent, localWording({ clip })).compare([parted])
  // of what was said before the end, of the answer the beginning, as of any other
  expect(seen[0]?.[0]?.content).toBe('More helpful?\n1a\nA: … 1b p:1…\nB: … 1b q:1…')
})

test('a large judge is told when the answers are turns, and only then', async () => {
  const [p, q] = [await talk('p'), await talk('q')]
  const { prompt, a, b } = comparisonOf('helpfulness', p, q, { turn: 1 })
  const [rules, document] = openAiComparePrompt('helpfulness', prompt, a, b)
  expect(rules?.content).toContain('Each answer is a list of turns')
  const json = (document?.content ?? '').split('\n').slice(1, -2).join('\n')
  expect(JSON.parse(json)).toEqual({
    dialogue: [user('1a')],
    answer_A: [assistant('p:1a'), user('1b'), assistant('p:1b')],
    answer_B: [assistant('q:1a'), user('1b'), assistant('q:1b')],
  })
  const plain = openAiComparePrompt('helpfulness', [user('1a')], 'x', 'y')
  expect(plain[0]?.content).not.toContain('list of turns')
  const chinese = openAiComparePrompt('safety', [user('天空是什么颜色？')], a, b)
  expect(chinese[0]?.content).toContain('若干轮对话')
})
