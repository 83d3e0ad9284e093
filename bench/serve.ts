import { createAdaptorServer } from '@hono/node-server'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { Agent, request as httpRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import { availableParallelism, cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { Command } from 'commander'
import { starterFolder } from '../src/config.ts'
import { spawnEngine } from '../src/engine/process/spawn.ts'
import { createApp } from '../src/http/app.ts'
import { PretrainOptions, RewardModelOptions, SftOptions } from '../src/schemas/training-options.ts'
import { sftDialogues } from '../src/starter/corpus.ts'
import { filesOf, findModel } from '../src/services/catalog.ts'
import { createServices } from '../src/services/services.ts'
import { openStore } from '../src/store/store.ts'
import { encodeChat } from '../src/text/template.ts'
import { loadTokenizer } from '../src/text/tokenizer.ts'

/**
 * The scoring service under load: real HTTP on loopback with kept connections, clients in this process with the server,
 * the engine in its own as always. Prints throughput as a share of the engine's own on the same texts, the latency of
 * a request by itself, beside a long generation, and beside a training run.
 */
const { models, clients, seconds, tokens } = new Command()
  .option('--models <names>', 'of starter, 30M', 'starter,30M')
  .option('--clients <n>', 'at a time', '64')
  .option('--seconds <n>', 'of each measurement', '15')
  .option('--tokens <n>', 'of each text', '200')
  .parse()
  .opts<Record<'models' | 'clients' | 'seconds' | 'tokens', string>>()
const [CLIENTS, SECONDS, TOKENS] = [clients, seconds, tokens].map(Number) as [
  number,
  number,
  number,
]

type Json = Record<string, unknown>
type Files = { base: string; adapters: string[] }
const AXES = ['helpfulness', 'safety'] as const

const quantile = (values: readonly number[], q: number): number =>
  values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(q * values.length))] ??
  NaN
const ms = (x: number): string => x.toFixed(1)

const folder = mkdtempSync(join(tmpdir(), 'libra-serve-'))
const store = await openStore(folder)
const serving = await spawnEngine()
let called = 0 // how long the engine took for the last request, its own side of the wire included
const timed: typeof serving = {
  ...serving,
  async scoreAll(request, signal) {
    const before = performance.now()
    const result = await serving.scoreAll(request, signal)
    called = performance.now() - before
    return result
  },
}
const services = await createServices({
  ...{ store, serving: timed, dataDir: folder },
  startTraining: () => spawnEngine({ training: true }),
})
const server = createAdaptorServer({ fetch: createApp(services, join(folder, 'models')).fetch })
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
const { port } = server.address() as AddressInfo
const agent = new Agent({ keepAlive: true, maxSockets: 2 * CLIENTS })

function post(path: string, body: object): Promise<{ status: number; reply: Json }> {
  const text = JSON.stringify(body)
  const headers = {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
  }
  return new Promise((resolve, reject) => {
    const sent = httpRequest(
      { ...{ port, path, agent, headers }, host: '127.0.0.1', method: 'POST' },
      (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            reply: JSON.parse(Buffer.concat(chunks).toString()) as Json,
          }),
        )
      },
    )
    sent.on('error', reject)
    sent.end(text)
  })
}

function writeRows(name: string, rows: readonly object[]): string {
  const file = join(folder, name)
  writeFileSync(file, rows.map((row) => JSON.stringify(row)).join('\n'))
  return file
}

/** A reward model of about 30 M parameters for each axis: an adapter on one base, all after a step or two. */
async function make30M(): Promise<Record<(typeof AXES)[number], Files>> {
  const dialogues = writeRows('dialogues.jsonl', sftDialogues(1, 8))
  const pairs = (axis: string) =>
    writeRows(
      `${axis}.jsonl`,
      sftDialogues(2, 8).map(({ messages }) => ({
        ...{ axis, prompt: messages.slice(0, -1), rejected: '…' },
        chosen: messages.at(-1)?.content ?? '',
      })),
    )
  const architecture = {
    ...{ hidden_size: 512, layers: 9, heads: 8, kv_heads: 4, intermediate_size: 1536 },
    context: 512,
  }
  const small = { batch_size: 8, epochs: 1, seed: 1 }
  const engine = await spawnEngine()
  const base = join(folder, 'base')
  const run = async (spec: Parameters<typeof engine.train>[0]): Promise<void> => {
    for await (const event of engine.train(spec))
      if (event.type === 'warning') console.error(event.message)
  }
  await run({
    ...{ kind: 'pretrain', output: base, tokenizer: join(starterFolder, 'base') },
    ...{ data: dialogues, options: PretrainOptions.parse({ ...small, architecture }) },
  })
  const model = { base, adapters: [] }
  for (const axis of AXES)
    await run({
      ...{ kind: 'reward_model', output: join(folder, axis), model, data: pairs(axis) },
      options: RewardModelOptions.parse({ ...small, axis }),
    })
  await engine.close()
  return {
    helpfulness: { base, adapters: [join(folder, 'helpfulness')] },
    safety: { base, adapters: [join(folder, 'safety')] },
  }
}

async function play(roles: Record<(typeof AXES)[number], Files>): Promise<void> {
  for (const axis of AXES) {
    const row = { id: `bench-${axis}`, kind: 'reward_model' as const, axis, run: null }
    await store.models.insert([{ ...row, ...roles[axis], createdAt: Date.now() }])
    await store.setRoles({ [axis]: row.id })
  }
}

/** Conversations of about so many tokens, no two alike. */
async function textsOf(base: string, count: number) {
  const tokenizer = await loadTokenizer(base)
  const words = sftDialogues(3, 400).flatMap(({ messages }) => messages.map((m) => m.content))
  return Array.from({ length: count }, (_, i) => {
    let content = ''
    const chat = () => [
      { role: 'user' as const, content },
      { role: 'assistant' as const, content: '七大洲' },
    ]
    for (let at = 7 * i; encodeChat(tokenizer, chat()).ids.length < TOKENS; at++)
      content += words[at % words.length] ?? ''
    while (encodeChat(tokenizer, chat()).ids.length > TOKENS) content = content.slice(0, -1)
    return chat()
  })
}

/** So many clients, each asking again as soon as it is answered. */
async function load(bodies: object[], count: number): Promise<{ rate: number; times: number[] }> {
  const times: number[] = []
  const start = performance.now()
  const end = start + 1000 * SECONDS
  let next = 0
  const client = async (): Promise<void> => {
    while (performance.now() < end) {
      const before = performance.now()
      const { status, reply } = await post('/v1/score', bodies[next++ % bodies.length] as object)
      if (status !== 200) throw new Error(`${status}: ${JSON.stringify(reply)}`)
      times.push(performance.now() - before)
    }
  }
  await Promise.all(Array.from({ length: count }, client))
  return { rate: (1000 * times.length) / (performance.now() - start), times }
}

async function bench(name: string): Promise<void> {
  if (name === '30M') await play(await make30M())
  const files = await Promise.all(AXES.map(async (axis) => filesOf(await findModel(store, axis))))
  const texts = await textsOf(files[0]?.base ?? '', 4 * CLIENTS)
  const bodies = texts.map((messages) => ({ inputs: [{ messages }] }))
  const row = (what: string, ...cells: string[]) =>
    console.log(`| ${name} | ${what} | ${cells.join(' | ')} |`)

  // 1. the engine's own: as many texts at a time as there are clients, both axes, again and again
  const own = async (count: number, from = 0): Promise<number> => {
    const conversations = texts.slice(from, from + count)
    const before = performance.now()
    await serving.scoreAll({ models: files, conversations, onTooLong: 'error' })
    return performance.now() - before
  }
  const mine: number[] = []
  const shares: number[] = []
  await own(CLIENTS)
  const served: Awaited<ReturnType<typeof load>>[] = []
  for (let i = 0; i < 3; i++) {
    const start = performance.now()
    let done = 0
    for (; performance.now() - start < 1000 * SECONDS; done += CLIENTS) await own(CLIENTS)
    const rate = (1000 * done) / (performance.now() - start)
    const through = await load(bodies, CLIENTS)
    mine.push(rate)
    shares.push(through.rate / rate)
    served.push(through)
  }
  const rate = quantile(
    served.map((s) => s.rate),
    0.5,
  )
  const times = served.flatMap((s) => s.times)
  const spread = `${Math.min(...shares).toFixed(2)}–${Math.max(...shares).toFixed(2)}`
  row(
    `${CLIENTS} clients`,
    ...[rate.toFixed(1), (rate * TOKENS).toFixed(0), ms(quantile(times, 0.5))],
    ...[ms(quantile(times, 0.99)), `${quantile(shares, 0.5).toFixed(2)} (${spread})`],
  )

  // 2. one at a time: what a request takes beside its call of the engine
  const over: number[] = []
  const alone: number[] = []
  for (const body of bodies.slice(0, 100)) {
    const before = performance.now()
    await post('/v1/score', body)
    alone.push(called)
    over.push(performance.now() - before - called)
  }
  const idle = await load(bodies, 1)
  const cells = ({ rate, times }: typeof idle): string[] => [
    ...[rate.toFixed(1), (rate * TOKENS).toFixed(0)],
    ...[ms(quantile(times, 0.5)), ms(quantile(times, 0.99))],
  ]
  row(
    'one at a time',
    ...cells(idle),
    `${ms(quantile(over, 0.5))} ms over the engine's ${ms(quantile(alone, 0.5))} (p90 ${ms(quantile(over, 0.9))})`,
  )

  // 3. beside a long generation
  const messages = [{ role: 'user', content: '世界上有几大洲？' }]
  const stop = performance.now() + 1000 * SECONDS
  const steps: number[] = []
  const writing = (async () => {
    while (performance.now() < stop) {
      const before = performance.now()
      const body = {
        model: 'policy',
        messages,
        n: 8,
        max_tokens: 128,
        temperature: 2,
        logprobs: true,
      }
      const { status, reply } = await post('/v1/chat/completions', body)
      if (status !== 200) throw new Error(`${status}: ${JSON.stringify(reply)}`)
      const { choices } = reply as { choices: { logprobs: { content: unknown[] } }[] }
      const longest = Math.max(...choices.map(({ logprobs }) => logprobs.content.length))
      steps.push((performance.now() - before) / longest)
    }
  })()
  const beside = await load(bodies, 1)
  await writing
  const step = quantile(steps, 0.5)
  const delay = quantile(beside.times, 0.5) - quantile(idle.times, 0.5)
  row(
    'one at a time, beside a generation of 8',
    ...cells(beside),
    `${ms(delay)} ms later; a decode step with scores between takes ${ms(step)}`,
  )

  // 4. beside a training run
  const training = await spawnEngine({ training: true })
  const data = writeRows(`${name}-sft.jsonl`, sftDialogues(4, 4000))
  const controller = new AbortController()
  let started = (): void => {}
  const running = new Promise<void>((resolve) => (started = resolve))
  const run = (async () => {
    const options = SftOptions.parse({ batch_size: 32, epochs: 1000 })
    const model = { base: join(starterFolder, 'base'), adapters: [] }
    const output = join(folder, `${name}-sft`)
    const spec = { kind: 'sft' as const, output, model, data, options }
    for await (const event of training.train(spec, controller.signal))
      if (event.type === 'metrics') started()
  })().catch(() => {}) // it is cut off
  await running
  const busy = await load(bodies, 1)
  controller.abort()
  await run
  await training.close()
  const times99 = quantile(busy.times, 0.99) / quantile(idle.times, 0.99)
  row('one at a time, beside a training run', ...cells(busy), `p99 ${times99.toFixed(1)} × idle`)
}

console.log(
  `${cpus()[0]?.model ?? 'unknown processor'}, ${availableParallelism()} threads, node ${process.version}; texts of ${TOKENS} tokens, both axes, clients on the same cores\n`,
)
console.log('| model | load | req/s | tokens/s | p50, ms | p99, ms | of the engine’s own rate |')
console.log('| --- | --- | --- | --- | --- | --- | --- |')
try {
  for (const name of models.split(',')) await bench(name)
} finally {
  agent.destroy()
  server.close()
  await services.runner.close()
  await serving.close()
  await store.close()
  rmSync(folder, { recursive: true, force: true })
}
