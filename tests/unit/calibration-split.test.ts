import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import type { Engine } from '../../src/engine/engine.ts'
import { calibrateReward, splitForCalibration } from '../../src/rlaif/reward.ts'
import { trainingPairs } from '../../src/rlaif/teachers.ts'
import type { PreferenceRow } from '../../src/schemas/feedback.ts'
import { RlaifOptions } from '../../src/schemas/rlaif.ts'

const folder = mkdtempSync(join(tmpdir(), 'libra-calibration-'))
afterAll(() => rmSync(folder, { recursive: true }))

const system = { role: 'system' as const, content: 'You are helpful.' }
const pair = (
  conversation: string,
  k: number,
  more: Partial<PreferenceRow> = {},
): PreferenceRow => ({
  ...{ axis: 'helpfulness', source: 'test', chosen: `good ${k}`, rejected: `bad ${k}` },
  prompt: [system, { role: 'user', content: conversation }],
  ...more,
})
/** Six pairs of each of so many conversations, as a ranking of four answers gives them. */
const rankings = (n: number, from = 0): PreferenceRow[] =>
  Array.from({ length: 6 * n }, (_, i) => pair(`Question ${from + Math.floor(i / 6)}?`, i))
const asked = (rows: readonly PreferenceRow[]): Set<string> =>
  new Set(rows.map(({ prompt }) => prompt[1]?.content.toLowerCase() ?? ''))
const shared = (a: readonly PreferenceRow[], b: readonly PreferenceRow[]): string[] =>
  [...asked(a)].filter((conversation) => asked(b).has(conversation))

test('what calibrates a model is of conversations that it learned nothing from', () => {
  const { training, held, shared: same } = splitForCalibration(rankings(100), 1)
  expect([training.length, held.length, same]).toEqual([480, 120, false])
  expect(shared(training, held)).toEqual([])
  // capitals make no other conversation
  const twice = [...rankings(20), ...rankings(20).map((row) => loud(row))]
  const cut = splitForCalibration(twice, 2)
  expect(shared(cut.training, cut.held)).toEqual([])
})
const loud = (row: PreferenceRow): PreferenceRow => ({
  ...row,
  prompt: row.prompt.map((turn) => ({ ...turn, content: turn.content.toUpperCase() })),
})

test('a conversation or two can only be cut between pairs, and that is said', () => {
  const { training, held, shared: same } = splitForCalibration(rankings(2), 1)
  expect([training.length, held.length, same]).toEqual([9, 3, true])
})

test('nor does an earlier iteration’s pair of the same conversation train it', () => {
  const options = RlaifOptions.parse({ seed: 3, replay: 10, counterfactuals: 0 })
  const { training, held } = trainingPairs(
    [rankings(40), rankings(40).map((row) => ({ ...row, chosen: `${row.chosen}!` }))],
    ...(['helpfulness', 2, options] as const),
  )
  expect(held).toHaveLength(48)
  expect(training.length).toBeGreaterThan(240)
  expect(shared(training, held)).toEqual([])
})

test('nor does a pair of a conversation of the reference answers, new, learned again or edited', () => {
  const all = [rankings(30), rankings(40, 20)]
  const taught = (axis: 'helpfulness' | 'safety', references: PreferenceRow['prompt'][] | null) => {
    const labelled = all.map((rows) => rows.map((row) => ({ ...row, axis })))
    const options = RlaifOptions.parse({ seed: 3, replay: 10, counterfactuals: 0.5 })
    return trainingPairs(labelled, axis, 2, options, references)
  }
  const plain = taught('helpfulness', null)
  expect(plain.figures.of_references).toBe(0)
  const [old, fresh] = ['question 5?', 'question 53?']
  for (const name of [old, fresh]) expect(asked(plain.training)).toContain(name)
  // references are whole dialogues; capitals and spaces make no other conversation
  const answer = { role: 'assistant' as const, content: 'good' }
  const references = [
    [system, { role: 'user' as const, content: 'QUESTION  5?' }, answer],
    [{ role: 'user' as const, content: 'Question 53?' }, answer],
    [{ role: 'user' as const, content: 'Question 999?' }, answer],
  ]
  const { training, held, figures } = taught('helpfulness', references)
  for (const name of [old, fresh]) expect(asked(training)).not.toContain(name)
  // a new conversation of six pairs, counted
  expect(figures.of_references).toBe(6)
  expect(figures.pairs).toBe(plain.figures.pairs - 12)
  expect(figures.left_out).toBe(0)
  expect(held).toEqual(plain.held)
  // of others than these conversations all is as it was, and safety is held against no references
  expect(taught('helpfulness', references.slice(2))).toEqual(plain)
  expect(taught('safety', references)).toEqual(taught('safety', null))
  // too few conversations to be cut: nothing is kept apart; else there must be something to learn from
  const options = RlaifOptions.parse({ counterfactuals: 0 })
  const of = (n: number) =>
    trainingPairs(
      ...([
        [rankings(n)],
        'helpfulness',
        1,
        options,
        rankings(n).map(({ prompt }) => prompt),
      ] as const),
    )
  expect(of(3).training).toHaveLength(14)
  expect(() => of(10)).toThrow(expect.objectContaining({ code: 'too_little_data' }) as Error)
})

test('a mix takes pairs of iterations in its shares before counterfactual ones are made, and cuts as without it', () => {
  const from = (source: string, rows: PreferenceRow[]) => rows.map((row) => ({ ...row, source }))
  const [old, people, judge] = [
    from('old', rankings(20, 200)),
    from('people', rankings(10)),
    from('judge', rankings(40, 50)),
  ]
  const labelled = [old, [...people, ...judge]]
  const taught = (more: object) =>
    trainingPairs(
      ...([labelled, 'helpfulness', 2] as const),
      RlaifOptions.parse({ seed: 3, replay: 0.2, counterfactuals: 0.5, ...more }),
    )
  const sources = (rows: readonly PreferenceRow[]) => [...new Set(rows.map(({ source }) => source))]
  const plain = taught({})
  const own = plain.training.filter(({ source }) => source !== 'counterfactual')
  expect(sources(own).sort()).toEqual(['judge', 'old', 'people'])
  expect(plain.figures).toMatchObject({ pairs: own.length, left_out: 0 })
  expect(plain.figures.counterfactuals).toBe(plain.training.length - own.length)
  // without one for its axis nothing is otherwise, to the pair
  for (const none of [{ safety: { judge: 1 } }, { helpfulness: null }, {}])
    expect(taught({ mix: none })).toEqual(plain)

  const { training, held, figures } = taught({
    mix: { helpfulness: { people: 0.5, judge: 0.5, old: 0 }, safety: { nobody: 1 } },
  })
  const of = (source: string) => own.filter((row) => row.source === source).length
  const each = Math.min(of('people'), of('judge'))
  expect(figures.by_source).toEqual({
    people: { pairs: each, share: 0.5 },
    judge: { pairs: each, share: 0.5 },
  })
  expect(figures).toMatchObject({ pairs: 2 * each, left_out: own.length - 2 * each })
  expect(figures.counterfactuals).toBe(training.length - 2 * each)
  expect(figures.counterfactuals).toBeGreaterThan(each / 2)
  const mixed = training.slice(0, 2 * each)
  for (const row of mixed) expect(own).toContainEqual(row)
  expect(new Set(mixed.map(({ chosen, source }) => `${source} ${chosen}`)).size).toBe(2 * each)
  // what calibrates it is cut alike, of the sources that are named
  expect(held).toEqual(plain.held)
  const { held: theirs, figures: alone } = taught({ mix: { helpfulness: { people: 1 } } })
  expect(theirs).toEqual(plain.held.filter(({ source }) => source === 'people'))
  expect(theirs.length).toBeGreaterThan(0)
  expect(alone.by_source).toEqual({ people: { pairs: of('people'), share: 1 } })
  expect(() => taught({ mix: { helpfulness: { nobody: 1, judge: 1 } } })).toThrow(
    expect.objectContaining({
      ...{ code: 'empty_data', details: { field: 'options.mix.helpfulness' } },
      message: expect.stringMatching(/"nobody"/u) as string,
    }) as Error,
  )
})

/** Scores by the digits of an answer, so that some are wrong. */
const staged = {
  score: ({ conversations }: { conversations: { content: string }[][] }) =>
    Promise.resolve(
      conversations.map((turns) => {
        const text = turns.at(-1)?.content ?? ''
        const k = Number(/\d+/u.exec(text)?.[0] ?? 0)
        return { logit: ((k * 7919) % 13) / 6 + Number(text.startsWith('good')) }
      }),
    ),
  describe: () => Promise.resolve({ version: 'raw' }),
} as unknown as Engine
test('a system turn before all conversations makes no one conversation of them', async () => {
  const raw = join(folder, 'raw')
  mkdirSync(raw)
  const quality = async (held: readonly PreferenceRow[], name: string) => {
    const { calibration } = await calibrateReward(
      ...([staged, { base: raw, adapters: [raw] }, join(folder, name)] as const),
      { axis: 'helpfulness', held, dataHash: 'x', seed: 1, references: null },
    )
    return calibration.quality
  }
  const many = await quality(rankings(40), 'many')
  expect((many?.slope.high ?? 0) - (many?.slope.low ?? 0)).toBeGreaterThan(0.01)
  // of one conversation there is no other to fit on, so nothing is known
  expect(await quality(rankings(1), 'one')).toBeUndefined()
})
