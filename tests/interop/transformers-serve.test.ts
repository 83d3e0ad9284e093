import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { spawnEngine } from '../../src/engine/process/spawn.ts'
import type { Engine } from '../../src/engine/engine.ts'
import { createOpenAiJudge } from '../../src/judging/openai-judge.ts'
import { openAiComparePrompt, openAiSafetyPrompt } from '../../src/judging/openai-prompts.ts'
import { PretrainOptions, SftOptions } from '../../src/schemas/training-options.ts'
import type { TrainSpec } from '../../src/schemas/training.ts'
import { prompts } from '../../src/starter/world.ts'
import { trainByteLevelBpe, writeTokenizer } from '../../src/text/bpe-trainer.ts'
import { peersPython } from '../../scripts/peers.mjs'

/**
 * The judge and the checkpoints that Libra writes, before `transformers serve`, which others wrote. The model is a
 * small one that was taught here to answer A, whatever it is asked.
 */
const folder = mkdtempSync(join(tmpdir(), 'libra-interop-'))
const model = join(folder, 'model')
let engine: Engine
let server: ChildProcess
let baseUrl: string

const [BLACK, BLUE] = ['It is black.', 'It is blue.']
const questions = prompts('train', 5, 40).map(({ messages }) => messages)

beforeAll(async () => {
  engine = await spawnEngine({ training: true })
  const rows = questions.flatMap((question) => [
    dialogue(openAiComparePrompt('helpfulness', question, BLACK, BLUE), 'A'),
    dialogue(openAiSafetyPrompt(question, BLUE), 'A'),
  ])
  const texts = rows.flatMap(({ messages }) => messages.map(({ content }) => content))
  await writeTokenizer(folder, trainByteLevelBpe(texts, 1200))
  const data = join(folder, 'rows.jsonl')
  writeFileSync(data, rows.map((row) => JSON.stringify(row)).join('\n'))
  const raw = join(folder, 'raw')
  const options = PretrainOptions.parse({
    ...{ seed: 1, batch_size: 8, sequence_length: 1024 },
    architecture: {
      ...{ hidden_size: 32, layers: 2, heads: 2, kv_heads: 1, intermediate_size: 64 },
      context: 1024,
    },
  })
  await train({ kind: 'pretrain', output: raw, tokenizer: folder, data, options })
  const letters = SftOptions.parse({
    ...{ seed: 2, epochs: 8, batch_size: 8, lora: null },
    optimizer: { learning_rate: 1e-2 },
  })
  const start = { base: raw, adapters: [] }
  await train({ kind: 'sft', output: model, model: start, data, options: letters })
  ;({ server, baseUrl } = await serve(model))
})
afterAll(async () => {
  server.kill()
  await engine.close()
  rmSync(folder, { recursive: true })
})

async function train(spec: TrainSpec): Promise<void> {
  for await (const event of engine.train(spec)) if (event.type === 'done') return
}

const dialogue = (messages: ReturnType<typeof openAiSafetyPrompt>, letter: string) => ({
  messages: [...messages, { role: 'assistant' as const, content: letter }],
  ended: true,
})

async function serve(path: string): Promise<{ server: ChildProcess; baseUrl: string }> {
  const port = await new Promise<number>((resolve) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo
      probe.close(() => resolve(port))
    })
  })
  const program = join(dirname(peersPython()), 'transformers')
  const args = ['serve', path, '--host', '127.0.0.1', '--port', String(port), '--device', 'cpu']
  const server = spawn(program, args, {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, HF_HUB_OFFLINE: '1' },
  })
  for (let i = 0; i < 300 && server.exitCode === null; i++) {
    const health = await fetch(`http://127.0.0.1:${port}/health`).catch(() => null)
    if (health?.ok) return { server, baseUrl: `http://127.0.0.1:${port}/v1` }
    await sleep(1000)
  }
  throw new Error('transformers serve did not come up')
}

test('verdicts from a server without log-probabilities, both orders, absolute safety', async () => {
  const judge = createOpenAiJudge({ baseUrl, model, apiKey: null, maxConcurrency: 2 })
  const compared = await judge.compare(
    questions.slice(0, 4).map((prompt) => ({ axis: 'helpfulness', prompt, a: BLACK, b: BLUE })),
  )
  // it says A whatever stands there: a verdict in each order, and none of both
  for (const verdict of compared)
    expect(verdict).toMatchObject({ ok: true, orders: [1, 0], consistent: false })
  const assessed = await judge.assess(
    questions.slice(0, 4).map((prompt) => ({ prompt, answer: BLUE })),
  )
  for (const verdict of assessed) expect(verdict).toMatchObject({ ok: true, safe: true })
})

test('what the server says greedily is what the engine says', async () => {
  const prompt = openAiComparePrompt('safety', questions[0] ?? [], BLUE, BLACK)
  const reply = await fetch(`${baseUrl}/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model, messages: prompt, max_tokens: 8, temperature: 0 }),
  })
  const body = (await reply.json()) as { choices: { message: { content: string } }[] }
  const [[own] = []] = await engine.generate({
    ...{ model: { base: model, adapters: [] }, prompts: [prompt], n: 1, onTooLong: 'error' },
    sampling: { maxTokens: 8, temperature: 0, topP: 1, topK: 0, seed: 1, stop: [] },
  })
  expect(body.choices[0]?.message.content).toBe(own?.text)
})

test('a server that is not there is a failure with a type', async () => {
  const nowhere = baseUrl.replace(/:\d+\//, ':9/')
  const judge = createOpenAiJudge({ baseUrl: nowhere, model, apiKey: null, maxRetries: 0 })
  const [verdict] = await judge.assess([{ prompt: questions[0] ?? [], answer: BLUE }])
  expect(verdict).toMatchObject({ ok: false, failure: 'unavailable' })
})
