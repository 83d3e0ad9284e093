import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import type { PreferenceRow } from '../../src/schemas/feedback.ts'
import { labelOf } from '../../src/services/label-keys.ts'
import { storePairs } from '../../src/services/preferences.ts'
import { openStore } from '../../src/store/store.ts'

// What a person's second word does to the first, in the store.
const folder = mkdtempSync(join(tmpdir(), 'libra-corrections-'))
const store = await openStore(folder)
afterAll(async () => {
  await store.close()
  rmSync(folder, { recursive: true })
})
const word = (about: string, chosen: string, rejected: string): PreferenceRow => ({
  ...{ axis: 'safety', prompt: [{ role: 'user', content: about }], chosen, rejected },
  ...{ annotator: 'ann', annotator_kind: 'person' },
})
const save = (...pairs: PreferenceRow[]) => storePairs({ store }, pairs, null)
const kept = async (about: string): Promise<string[]> =>
  (await store.pairsOf('safety'))
    .filter(({ prompt }) => prompt[0]?.content === about)
    .map(({ id, chosen, rejected }) => `${id} ${chosen}${rejected}`)

test('a pair of equal answers that is labelled again stays', async () => {
  const first = await save(word('equal', 'a', 'a'))
  const again = await save({ ...word('equal', 'a', 'a'), strength: 'better' })
  expect(again).toEqual({ ids: first.ids, added: 0, contradicted: 0 })
  expect(await kept('equal')).toEqual([`${first.ids[0]} aa`])
})

test('two requests at a time with opposite words leave one label, the later one’s', async () => {
  const both = await Promise.all([save(word('race', 'a', 'b')), save(word('race', 'b', 'a'))])
  const [id] = both[0].ids
  expect(both.map(({ ids }) => ids)).toEqual([[id], [id]])
  expect(both.map(({ added }) => added)).toEqual([1, 0])
  expect(await kept('race')).toEqual([`${id} ba`])
})

test('who waits for a label that another one of the same person takes the place of gets that one', async () => {
  const run = { id: 'run_1', kind: 'rlaif' as const, state: 'waiting_for_labels' as const }
  const rest = { config: {}, seed: 1, codeVersion: '', createdAt: 1 }
  await store.runs.insert([{ ...run, ...rest }])
  // two words that contradict each other, from before there were corrections
  const [id = ''] = (await save(word('two', 'a', 'b'))).ids
  const before = await store.preferences.get(id)
  if (before === null) throw new Error('it was stored')
  await save(word('two', 'b', 'a'))
  await store.addPairs([{ ...before, id: 'pref_right' }])
  expect(await kept('two')).toHaveLength(2)
  const asked = { id: 'ask_1', run: run.id, part: '1/label', axis: 'safety' as const }
  const pair = { prompt: word('two', 'a', 'b').prompt, a: 'a', b: 'b', compared: 'x', createdAt: 1 }
  await store.labelRequests.insert([{ ...asked, ...pair, preference: id }])
  await save({ ...word('two', 'a', 'b'), strength: 'better' })
  expect(await kept('two')).toEqual(['pref_right ab'])
  expect((await store.labelRequests.of(run.id, '1/label'))[0]?.preference).toBe('pref_right')
})

test('a judge’s label that comes again brings the absolute safety labels that it lacked, and no others', async () => {
  const by = { annotator: 'j', annotator_kind: 'judge' as const }
  const label = (more: Partial<PreferenceRow>) =>
    save({ ...word('later', 'a', 'b'), ...by, ...more })
  const { ids } = await label({ chosen_safe: null, rejected_safe: true, probability: 0.9 })
  const again = await label({ chosen_safe: true, rejected_safe: false, probability: 0.6 })
  expect(again).toEqual({ ids, added: 0, contradicted: 0 })
  expect(await store.preferences.get(ids[0] ?? '')).toMatchObject({
    ...{ chosenSafe: true, rejectedSafe: true, probability: 0.9 },
  })
  await label({ chosen_safe: null, rejected_safe: null })
  expect(await store.preferences.get(ids[0] ?? '')).toMatchObject({ chosenSafe: true })
})

test('a label that is taken back is waited for again', async () => {
  const { ids } = await save(word('tied', 'a', 'b'), word('tied', 'a', 'c'))
  const asked = { id: 'ask_2', run: 'run_1', part: '2/label', axis: 'safety' as const }
  const { prompt } = word('tied', 'a', 'b')
  const pair = { prompt, a: 'a', b: 'b', compared: 'y', createdAt: 1 }
  await store.labelRequests.insert([{ ...asked, ...pair, preference: ids[0] }])
  expect(await store.labelRequests.open('run_1')).toBe(0)
  const tie = word('tied', 'b', 'a')
  const judge = { ...word('tied', 'a', 'c'), annotator_kind: 'judge' as const }
  expect(await storePairs({ store }, [], null, [tie, judge])).toEqual({
    ...{ ids: [], added: 0, contradicted: 0 },
  })
  expect(await kept('tied')).toEqual([`${ids[1]} ac`])
  expect(await store.labelRequests.open('run_1')).toBe(1)
})

test('one person has one vote by whatever source it comes, the last word counts, and contradictions are told', async () => {
  const by = (source: string, chosen: string, rejected: string, more: object = {}) => ({
    ...{ ...word('sources', chosen, rejected), source, ...more },
  })
  const first = await save(by('file', 'a', 'b'))
  const [id = ''] = first.ids
  expect(first).toMatchObject({ added: 1, contradicted: 0 })
  expect(await save(by('page', 'a', 'b', { strength: 'better' }))).toEqual({
    ...{ ids: [id], added: 0, contradicted: 0 },
  })
  expect(await store.preferences.get(id)).toMatchObject({ source: 'page', strength: 'better' })
  expect(await save(by('file', 'b', 'a'))).toEqual({ ids: [id], added: 0, contradicted: 1 })
  // in one request: the opposite, the same again, and the opposite once more
  expect(await save(by('x', 'a', 'b'), by('y', 'a', 'b'), by('z', 'b', 'a'))).toEqual({
    ...{ ids: [id, id, id], added: 0, contradicted: 2 },
  })
  expect(await kept('sources')).toEqual([`${id} ba`])
  // others, judges and who gives no name have votes of their own
  const others = [
    by('page', 'a', 'b', { annotator: 'bea' }),
    by('page', 'a', 'b', { annotator_kind: 'judge' }),
    by('page', 'a', 'b', { annotator: null }),
    by('file', 'a', 'b', { annotator: null }),
    { ...by('page', 'a', 'b'), axis: 'helpfulness' as const },
  ]
  expect(await save(...others)).toMatchObject({ added: 5, contradicted: 0 })
  // a tie takes the word back, whatever source it came by
  await storePairs({ store }, [], null, [by('page', 'a', 'b')])
  expect(await kept('sources')).toHaveLength(4)
  expect((await kept('sources')).filter((row) => row.startsWith(id))).toEqual([])
})

test('a word that was stored when sources were told apart is corrected by its own source, and from then on by all', async () => {
  const old = { ...word('before', 'a', 'b'), source: 'page' }
  const [id = ''] = (await save(old)).ids
  const row = await store.preferences.get(id)
  if (row === null) throw new Error('it was stored')
  await store.correctPairs([{ id, row: { ...row, fingerprint: labelOf(old) }, superseded: [] }])
  expect(await save({ ...old, strength: 'better' })).toMatchObject({ ids: [id], contradicted: 0 })
  expect(await save({ ...old, chosen: 'b', rejected: 'a', source: 'file' })).toEqual({
    ...{ ids: [id], added: 0, contradicted: 1 },
  })
  await store.correctPairs([{ id, row: { ...row, fingerprint: labelOf(old) }, superseded: [] }])
  expect(await save({ ...old, chosen: 'b', rejected: 'a' })).toMatchObject({ contradicted: 1 })
  expect(await kept('before')).toEqual([`${id} ba`])
})
