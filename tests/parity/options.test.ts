import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { createLocalEngine } from '../../src/engine/local.ts'
import { starterRoles } from '../starter-roles.ts'

const engine = createLocalEngine()
afterAll(() => engine.close())

const file = join(import.meta.dirname, '../../fixtures/parity/judging/options.json')
const { options, rows } = JSON.parse(readFileSync(file, 'utf8')) as {
  options: string[]
  rows: { content: string; tokens: number[]; probabilities: number[] }[]
}

test('P(option) of one and of several tokens, some the beginning of others, as transformers', async () => {
  expect(Math.max(...(rows[0]?.tokens ?? []))).toBeGreaterThan(2)
  const prompts = rows.map(({ content }) => [{ role: 'user' as const, content }])
  const model = starterRoles().base
  const found = await engine.optionLogprobs({ model, prompts, options })
  rows.forEach(({ probabilities }, i) =>
    probabilities.forEach((p, k) => {
      // 1 without what goes on to 10: a difference of two near values where 10 is what it says
      expect(Math.abs(Math.exp(found[i]?.[k] ?? NaN) - p)).toBeLessThan(1e-5 * p + 1e-7)
    }),
  )
  // what fits without its second token and not with it is too long as a whole
  const long = [{ role: 'user' as const, content: '洲'.repeat(2000) }]
  expect(await engine.optionLogprobs({ model, prompts: [long], options })).toEqual([null])
})
