import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createAdaptorServer } from '@hono/node-server'
import { createClient } from '@libsql/client'
import puppeteer from 'puppeteer-core'
import { spawnEngine } from '../src/engine/process/spawn.ts'
import { createApp } from '../src/http/app.ts'
import { createServices } from '../src/services/services.ts'
import { openStore } from '../src/store/store.ts'

/**
 * How fast the dashboard comes up over 10,000 runs and 1,000,000 stored scores: the server's answer, and the first
 * contentful paint in Chromium, where one is installed. `node --import tsx bench/dashboard.ts`
 */
const RUNS = 10_000
const SCORES = 1_000_000
const TIMES = 15

const folder = mkdtempSync(join(tmpdir(), 'libra-bench-'))
await (await openStore(folder)).close() // the tables
const client = createClient({ url: `file:${join(folder, 'libra.db')}` })
const numbers = (n: number): string =>
  `with recursive n(i) as (select 0 union all select i + 1 from n where i < ${n - 1})`
await client.execute(`insert into runs (id, kind, state, config, seed, code_version, created_at, started_at, ended_at,
  summary, tags, notes) ${numbers(RUNS)} select printf('run_%06d', i), case i % 4 when 0 then 'sft' when 1 then
  'reward_model' when 2 then 'policy_update' else 'evaluation' end, case i % 9 when 0 then 'failed' else 'succeeded' end,
  json_object('kind', 'sft', 'options', json_object('learning_rate', i / 1e6, 'lora', json_object('rank', i % 64))), i,
  '0.1.0', 1700000000000 + i * 1000, 1700000000000 + i * 1000, 1700000000000 + i * 1000 + 60000,
  json_object('loss', 1.0 / (1 + i)), json_array('tag' || (i % 100)), 'note ' || i from n`)
await client.execute(`insert into scores (id, axis, model, model_version, logit, messages, created_at) ${numbers(SCORES)}
  select printf('score_%08d', i), case i % 2 when 0 then 'helpfulness' else 'safety' end, 'starter-helpfulness', 'v',
  i % 17 - 8.5, '[{"role":"user","content":"世界上有几大洲？"},{"role":"assistant","content":"七大洲。"}]',
  1700000000000 + i from n`)
client.close()

const store = await openStore(folder)
const serving = await spawnEngine()
const startTraining = () => spawnEngine({ training: true })
const services = await createServices({ store, serving, startTraining, dataDir: folder })
const server = createAdaptorServer({ fetch: createApp(services, folder).fetch })
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`

const row = (name: string, ms: number[]): void => {
  const sorted = ms.toSorted((a, b) => a - b)
  const [min = 0, median = 0, max = 0] = [0, Math.floor(ms.length / 2), -1].map((i) => sorted.at(i))
  console.log(
    `| ${name} | ${min.toFixed(0)} | ${median.toFixed(0)} | ${max.toFixed(0)} | ${ms.length} |`,
  )
}
console.log(
  `${cpus()[0]?.model ?? ''}, ${cpus().length} cores, Node ${process.version}; ms\n\n| | least | median | most | n |\n| --- | --- | --- | --- | --- |`,
)
try {
  for (const path of [
    '/',
    '/?after=run_001000',
    '/?kind=sft&state=failed',
    '/?search=nothing-has-this',
    '/?tag=tag7',
    '/evaluations',
    '/v1/runs?limit=20&after=run_000500',
    '/v1/scores?limit=20&after=score_00000500',
  ]) {
    const ms: number[] = []
    for (let i = 0; i < TIMES; i++) {
      const started = performance.now()
      const reply = await fetch(base + path)
      await reply.text()
      if (!reply.ok) throw new Error(`${path}: ${reply.status}`)
      ms.push(performance.now() - started)
    }
    row(`GET ${path}`, ms)
  }
  const executablePath = process.env['CHROMIUM'] ?? '/usr/bin/chromium'
  if (existsSync(executablePath)) {
    const browser = await puppeteer.launch({ executablePath, args: ['--no-sandbox'] })
    const paint = async (url: string): Promise<number> => {
      const context = await browser.createBrowserContext() // nothing cached
      const page = await context.newPage()
      await page.goto(url, { waitUntil: 'load' })
      const painted = await page.waitForFunction(
        `performance.getEntriesByName('first-contentful-paint')[0]?.startTime`,
      )
      const ms = Number(await painted.jsonValue())
      await context.close()
      return ms
    }
    const ours: number[] = []
    const least: number[] = []
    // by turns with a page of one line, which says how fast this browser is on this machine
    for (let i = 0; i < 2 * TIMES; i++) {
      ours.push(await paint(base))
      least.push(await paint(`${base}/healthz`))
    }
    await browser.close()
    row('first contentful paint of /, nothing cached', ours)
    row('the same of a page of one line, /healthz', least)
  }
} finally {
  server.close()
  await services.runner.close()
  await serving.close()
  await store.close()
  rmSync(folder, { recursive: true })
}
