import { expect, test } from 'vitest'
import { openPromptSets } from '../../src/services/data.ts'
import { service } from '../helpers/service.ts'

const { api, services } = await service()
const upload = async (from: number, to: number): Promise<string> => {
  const rows = Array.from({ length: to - from }, (_, i) => ({
    messages: [{ role: 'user', content: `question ${from + i}` }],
  }))
  const text = Buffer.from(rows.map((row) => JSON.stringify(row)).join('\n'))
  const { body } = await api
    .post('/v1/files')
    .field('purpose', 'fine-tune')
    .attach('file', text, 'prompts.jsonl')
  return (body as { id: string }).id
}
const numbers = ({ rows }: Awaited<ReturnType<typeof openPromptSets>>): number[] =>
  rows.map(({ messages }) => Number(messages[0]?.content.split(' ')[1]))
const ascending = (from: number, to: number): number[] =>
  Array.from({ length: to - from }, (_, i) => from + i)

test('one file keeps its order; of several each prompt comes once, drawn from the seed', async () => {
  const [first, second] = [await upload(0, 40), await upload(30, 70)]
  const alone = await openPromptSets(services, first, 1)
  expect(numbers(alone)).toEqual(ascending(0, 40))
  expect(alone.sets).toEqual([{ file: first, share: 1, prompts: 40 }])

  const both = [
    { file: first, share: 1 },
    { file: second, share: 1 },
  ]
  const drawn = await openPromptSets(services, both, 1)
  // ten of the second's 40 are in the first: 30 of each
  expect(drawn.sets.map(({ prompts }) => prompts)).toEqual([30, 30])
  expect(new Set(numbers(drawn)).size).toBe(60)
  expect(
    numbers(drawn)
      .filter((n) => n >= 40)
      .sort((a, b) => a - b),
  ).toEqual(ascending(40, 70))
  expect(numbers(await openPromptSets(services, both, 1))).toEqual(numbers(drawn))
  expect(numbers(await openPromptSets(services, both, 2))).not.toEqual(numbers(drawn))
})
