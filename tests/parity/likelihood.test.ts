import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import type { GivenText } from '../../src/engine/engine.ts'
import { createLocalEngine } from '../../src/engine/local.ts'
import { starterRoles } from '../starter-roles.ts'

const engine = createLocalEngine()
afterAll(() => engine.close())

const file = join(import.meta.dirname, '../../fixtures/parity/likelihood/expected.json')
const rows = JSON.parse(readFileSync(file, 'utf8')) as {
  given: GivenText
  logprob: number
  tokens: number
}[]

test('log-probabilities of last turns and of plain texts as transformers, together and alone', async () => {
  const model = starterRoles().base
  const found = await engine.likelihoods({ model, texts: rows.map(({ given }) => given) })
  for (const [i, { logprob, tokens, given }] of rows.entries()) {
    expect(found[i]?.tokens).toBe(tokens)
    expect(Math.abs((found[i]?.logprob ?? NaN) - logprob)).toBeLessThan(1e-4)
    const [alone] = await engine.likelihoods({ model, texts: [given] })
    expect(Math.abs((alone?.logprob ?? NaN) - logprob)).toBeLessThan(1e-4)
  }
  // that the answer ends there costs something
  expect(found[0]?.logprob).toBeLessThan(found[1]?.logprob ?? NaN)
})

test('a sampled answer is as likely as the sampler says; what the context does not hold is refused', async () => {
  const model = starterRoles().policy
  const prompt = [{ role: 'user' as const, content: 'What is the capital of France?' }]
  const [[answer] = []] = await engine.generate({
    ...{ model, prompts: [prompt], n: 1, onTooLong: 'error' },
    sampling: { maxTokens: 24, temperature: 1, topP: 1, topK: 0, seed: 3, stop: [] },
  })
  const { text = '', finish, logprobs = [] } = answer ?? {}
  const messages = [...prompt, { role: 'assistant' as const, content: text }]
  const [found] = await engine.likelihoods({
    model,
    texts: [{ messages, ended: finish === 'stop' }],
  })
  expect(found?.tokens).toBe(logprobs.length)
  expect(found?.logprob).toBeCloseTo(
    logprobs.reduce((a, b) => a + b, 0),
    3,
  )
  const texts = [{ text: '洲'.repeat(3000) }]
  await expect(engine.likelihoods({ model, texts })).rejects.toMatchObject({
    code: 'context_length_exceeded',
  })
})
