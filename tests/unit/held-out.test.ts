import { expect, test } from 'vitest'
import type { PreferenceRow } from '../../src/schemas/feedback.ts'
import { foldOf, FOLDS, heldOutRivals, scoreHeldOut } from '../../src/services/cross-validation.ts'
import { conversationOf } from '../../src/text/conversation.ts'

const pair = (axis: PreferenceRow['axis'], conversation: number, turn: number): PreferenceRow => ({
  ...{ axis, source: 'test', chosen: `good ${turn} `.repeat(turn + 2), rejected: `bad ${turn}` },
  prompt: [
    { role: 'user', content: `question ${conversation}` },
    ...(turn === 0
      ? []
      : [
          { role: 'assistant' as const, content: 'so' },
          { role: 'user' as const, content: `${axis} ${turn}` },
        ]),
  ],
})
// conversations with one to three pairs, and some that both axes have
const pairs = {
  helpfulness: Array.from({ length: 60 }, (_, i) => pair('helpfulness', i % 25, i % 3)),
  safety: Array.from({ length: 40 }, (_, i) => pair('safety', i % 30, i % 2)),
}

test('no conversation is learned from and held out, and each score stays beside its pair', async () => {
  const chosenOf = new Map([...pairs.helpfulness, ...pairs.safety].map((p, i) => [p, i]))
  const held = await scoreHeldOut(pairs, FOLDS, (axis, fold, training, rows) => {
    const learned = new Set(training.map(conversationOf))
    expect(training.every((p) => p.axis === axis)).toBe(true)
    expect(rows.filter((p) => learned.has(conversationOf(p)))).toEqual([])
    // every pair of the axis is on one of the two sides
    expect(training.length + rows.filter((p) => p.axis === axis).length).toBe(pairs[axis].length)
    const chosen = rows.map((p) => (chosenOf.get(p) ?? NaN) + fold / 10)
    return Promise.resolve({ chosen, rejected: chosen.map((x) => -x) })
  })
  for (const axis of ['helpfulness', 'safety'] as const) {
    expect(held[axis]).toHaveLength(100)
    for (const { pair: p, fold, chosen, rejected, cluster } of held[axis]) {
      expect([chosen, rejected]).toEqual([(chosenOf.get(p) ?? NaN) + fold / 10, -chosen])
      expect(cluster).toBe(p.prompt[0]?.content)
    }
  }
})

test('a conversation is known by its first user turn, whatever the system says before', () => {
  const told = pairs.helpfulness.map((p) => ({
    ...p,
    prompt: [{ role: 'system' as const, content: 'Be brief.' }, ...p.prompt],
  }))
  expect(told.map(foldOf)).toEqual(pairs.helpfulness.map(foldOf))
  expect(new Set(told.map(foldOf)).size).toBe(FOLDS.length)
})

test('what counting makes of a pair stands in the row of that pair', async () => {
  const same = () => Promise.resolve({ chosen: [], rejected: [] })
  const rows = (await scoreHeldOut(pairs, FOLDS, same)).helpfulness.filter(
    (row) => row.pair.axis === 'helpfulness',
  )
  const rivals = await heldOutRivals('helpfulness', pairs)
  const longer = rivals.find(({ name }) => name === 'the longer answer wins')
  expect(rivals.map(({ right }) => right.length)).toEqual([60, 60, 60])
  // longer answers are the chosen ones here: turn one pair about and it alone is lost
  expect(longer?.right).toEqual(rows.map(() => 1))
  const place = rows.findIndex(({ pair: p }, i) => pairs.helpfulness.indexOf(p) !== i)
  const lose = rows[place]?.pair
  if (lose === undefined) throw new Error('folds keep the order: nothing can be told')
  const turned = { ...lose, chosen: lose.rejected, rejected: lose.chosen }
  const others = pairs.helpfulness.map((p) => (p === lose ? turned : p))
  const again = await heldOutRivals('helpfulness', { ...pairs, helpfulness: others })
  const lost = again.find(({ name }) => name === 'the longer answer wins')?.right ?? []
  expect(lost.map((x, i) => (x === 1 ? [] : [i])).flat()).toEqual([place])
})
