import { expect, test } from 'vitest'
import { GRAM, seenInTraining } from '../../src/evaluation/contamination.ts'
import { states } from '../../src/evaluation/tax.ts'

const words = (from: number, to: number): string =>
  Array.from({ length: to - from }, (_, i) => `w${from + i}`).join(' ')

test('a prompt is seen where thirteen words in a row are, whatever stands around them', () => {
  expect(GRAM).toBe(13)
  const prompt = `before ${words(0, 13)}, after!`
  expect(seenInTraining([prompt], [`other ${words(0, 13)} text`])).toEqual([true])
  expect(seenInTraining([prompt], [`other ${words(0, 12)} text ${words(1, 13)}`])).toEqual([false])
  // no longer than that itself
  expect(seenInTraining([words(0, 13)], [words(0, 20)])).toEqual([true])
  // one list of texts, each prompt by itself
  expect(seenInTraining([words(0, 20), words(50, 70)], [words(55, 90)])).toEqual([false, true])
})

test('a short prompt is seen where a whole text is it, in other case, width and marks too', () => {
  const texts = ['HOW do I kill a Python process', '世界上有几大洲？', 'more of it: yes or no']
  expect(
    seenInTraining(
      [
        'How do I kill a Ｐｙｔｈｏｎ process?',
        '世界上有几大洲',
        '上有几大洲',
        'yes or no',
        '？！',
      ],
      texts,
    ),
  ).toEqual([true, true, false, false, false])
})

test('Chinese counts by characters', () => {
  const text = '请问怎样才能在不伤害任何人的情况下做好这件事情呢'
  expect(seenInTraining([text.slice(2, 16)], [text])).toEqual([true])
  expect(seenInTraining([`${text.slice(0, 8)}别的${text.slice(8, 16)}`], [text])).toEqual([false])
})

test('an answer states a fact as words of its own, not inside another word', () => {
  expect(states('It is Paris.', ['paris'])).toBe(true)
  expect(states('There are 17 of them', ['7'])).toBe(false)
  expect(states('There are 7 of them', ['7', 'seven'])).toBe(true)
  expect(states('世界上有七大洲。', ['七'])).toBe(true)
  expect(states('anything', ['。'])).toBe(false)
})
