import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Hono } from 'hono'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { LibraError } from '../../src/errors.ts'
import { renderHtml } from '../../src/evaluation/report.ts'
import { readReport, writeReport } from '../../src/services/report.ts'
import { recordRun } from '../../src/services/runs.ts'
import { createServices } from '../../src/services/services.ts'
import type { Services } from '../../src/services/services.ts'
import { openStore } from '../../src/store/store.ts'
import { figureName, figuresOf, toldFigure } from '../../src/web/figures.ts'
import { mountWeb } from '../../src/web/app.ts'
import { sayIn } from '../../src/web/words.ts'
import { guardOfTwo } from '../helpers/ballots.ts'

// Pages need the store alone: an engine that were asked would fail these tests.
const engine = new Proxy({}, { get: (_, name) => (name === 'then' ? undefined : refuse) })
const refuse = (): never => {
  throw new Error('a page asked the engine')
}
const EVIL = '<script>alert("1")</script><img src=x onerror=alert(1)>'
const folder = mkdtempSync(join(tmpdir(), 'libra-web-'))
const app = new Hono()
let services: Services
let [loop, part, measured, failed] = ['', '', '', '']

beforeAll(async () => {
  const store = await openStore(folder)
  services = await createServices({
    ...{ store, serving: engine as Services['serving'], dataDir: folder },
    startTraining: () => Promise.reject(new Error('no training here')),
  })
  mountWeb(app, services)
  const interval = { value: 0.61, low: 0.55, high: 0.67, n: 400 }
  const done = await recordRun(
    services.store,
    { kind: 'rlaif', config: { note: EVIL, lora: { rank: 8 } }, seed: 1 },
    async ({ id, emit: tell }) => {
      await tell({
        ...{ type: 'guard', round: 10, action: 'accept', worse: 0.5, limit: 33 },
        winRate: { helpfulness: 0.73, safety: 0.5 },
        opinions: {
          own: { helpfulness: 0.71, safety: 0.62 },
          twins: { helpfulness: 0.41, safety: null },
        },
      })
      const output = join(folder, 'sft')
      const child = { kind: 'sft' as const, seed: 1, parent: id, output, parentCheckpoint: 'base' }
      await recordRun(services.store, { ...child, config: {} }, async ({ emit, id: sft }) => {
        await emit({ type: 'metrics', step: 1, metrics: { loss: 1 } })
        part = sft
        return { loss: 0.25 }
      })
      const name = EVIL
      return {
        figures: [{ figure: name, before: interval, after: interval, difference: interval }],
        guard: guardOfTwo,
      }
    },
  )
  loop = done.runId
  const side = (value: number) => ({ value, low: value - 0.05, high: value + 0.05, n: 400 })
  const evaluated = await recordRun(
    services.store,
    {
      ...{ kind: 'evaluation' as const, seed: 1 },
      config: {
        options: { target: 'policy', models: ['mine-1', 'mine-2', 'mine-3'], axis: 'helpfulness' },
      },
    },
    () =>
      Promise.resolve({
        figures: [
          {
            ...{ figure: 'safe and helpful', value: 0.062, low: 0.01, high: 0.114, n: 400 },
            ...{ before: side(0.5), after: side(0.562), p_holm: 0.0123 },
          },
          { figure: 'KL to the baseline', value: 0.5, low: 0.4, high: 0.6, n: 400 },
        ],
        warnings: ['no prompt is labelled <unsafe>'],
      }),
  )
  measured = evaluated.runId
  await recordRun(services.store, { kind: 'rlaif', config: {}, seed: 1 }, async ({ id }) => {
    failed = id
    const child = { kind: 'policy_update' as const, seed: 1, parent: id, part: '1/ppo-2' }
    await recordRun(services.store, { ...child, config: {} }, async ({ emit }) => {
      await emit({ type: 'metrics', step: 1, metrics: { 'objective/kl': 1 } })
      return {}
    })
    throw new LibraError('judge_failed', 'nobody <answers>')
  }).catch(() => {})
  await services.store.runs.update(loop, { tags: ['a&b'], notes: EVIL })
  await services.store.models.insert([
    {
      id: EVIL,
      kind: 'policy',
      base: 'base',
      adapters: [join(folder, 'sft')],
      run: loop,
      axis: null,
      createdAt: 1,
    },
  ])
})
afterAll(async () => {
  await services.runner.close()
  await services.store.close()
  rmSync(folder, { recursive: true })
})

const get = async (path: string, headers: Record<string, string> = {}) => {
  const reply = await app.request(path, { headers })
  return { status: reply.status, headers: reply.headers, text: await reply.text() }
}
const pages = (): string[] => [
  ...['/', '/?search=rank&kind=rlaif', `/runs/${loop}`, `/runs/${part}`, '/evaluations', '/models'],
  ...[`/runs/${measured}`, `/runs/${failed}`, `/runs/compare?run=${loop}&run=${measured}`],
  ...[`/runs/compare?run=${loop}&run=${part}`, '/playground/score', '/playground/judge'],
]

test('every page: nothing that people or models wrote is markup, and the policy leaves no way in', async () => {
  for (const path of pages()) {
    const { status, headers, text } = await get(path)
    expect(status, path).toBe(200)
    expect(text, path).not.toContain('<img src=x')
    expect(text, path).not.toContain('<script>')
    // no script and no style inside, no handler, nothing from elsewhere
    expect(text.match(/<script(?! (type="module" )?src="\/assets\/)/g), path).toBeNull()
    expect(text, path).not.toMatch(/\sstyle=|<style|\son\w+="|(src|href)="(https?:)?\/\//)
    const policy = headers.get('content-security-policy') ?? ''
    expect(policy).toContain("default-src 'none'")
    expect(policy).not.toContain('unsafe')
  }
  expect((await get(`/runs/${loop}`)).text).toContain('&lt;script&gt;alert(')
})

test('every file that a page names is there', async () => {
  for (const path of pages())
    for (const [, file = ''] of (await get(path)).text.matchAll(
      /(?:src|href)="(\/assets\/[^"]*)"/g,
    )) {
      const { status, headers } = await get(file)
      expect(status, file).toBe(200)
      const again = await get(file, { 'if-none-match': headers.get('etag') ?? '' })
      expect(again.status, file).toBe(304)
    }
})

test('Chinese and English: by the address, then the cookie, then the browser', async () => {
  expect((await get('/')).text).toContain('<h1>Runs</h1>')
  expect((await get('/', { 'accept-language': 'zh-CN,zh;q=0.9' })).text).toContain('<h1>运行</h1>')
  const asked = await get('/?lang=zh')
  expect(asked.text).toContain('lang="zh-CN"')
  const cookie = asked.headers.get('set-cookie') ?? ''
  expect((await get('/models', { cookie })).text).toContain('<h1>模型</h1>')
})

test('a difference is told as one, with its sign, in points where it is one of shares', async () => {
  for (const path of [`/runs/compare?run=${measured}&run=${part}`, '/evaluations']) {
    const { text } = await get(path)
    const row = /safe and helpful[\s\S]*?<\/tr>/u.exec(text)?.[0] ?? ''
    expect(row, path).toContain('<small>Difference</small>')
    expect(row, path).toContain('<b>+6.2 points</b>')
    expect(row, path).toContain('+1.0 … +11.4')
    const plain = /KL to the baseline[\s\S]*?<\/tr>/u.exec(text)?.[0] ?? ''
    expect(plain, path).toContain('<b>0.500</b>')
    expect(plain, path).not.toContain('Difference')
  }
  const { text } = await get('/evaluations?lang=zh')
  expect(text).toContain('<b>+6.2 个百分点</b>')
})

test('points are for shares: what has no upper end keeps its unit', () => {
  const side = (value: number) => ({ value, low: value, high: value, n: 9 })
  const told = (figure: string, before: number, after: number) =>
    toldFigure(
      { figure, ...side(after - before), before: side(before), after: side(after) },
      sayIn('en'),
    ).value
  expect(told('right answers, facts', 0.5, 0.25)).toBe('-25.0 points')
  expect(told('mine: bits per byte of given texts', 0.5, 0.25)).toBe('-0.250')
  expect(told('helpfulness score', 50, 75)).toBe('+25.00')
})

test('a run’s page says what the run warns of, and how sure its differences are', async () => {
  const { text } = await get(`/runs/${measured}`)
  expect(text).toContain('no prompt is labelled &lt;unsafe&gt;')
  expect(text).toMatch(/p \(Holm\)[\s\S]*0\.012/u)
  expect((await get(`/runs/${loop}`)).text).not.toContain('p (Holm)')
})

test('the other language is the same page: the same runs, the same filter', async () => {
  const { text } = await get(`/runs/compare?run=${loop}&run=${part}`)
  expect(text).toContain(`href="/runs/compare?run=${loop}&amp;run=${part}&amp;lang=zh"`)
  expect((await get('/?lang=zh&tag=a%26b')).text).toContain('href="/?lang=en&amp;tag=a%26b"')
})

test('lists name the policies that were evaluated', async () => {
  for (const path of ['/', '/evaluations', `/runs/compare?run=${measured}&run=${part}`]) {
    const { text } = await get(path)
    expect(text, path).toContain('mine-1, mine-2 +1')
    // it has one by default, and does not go by it
    expect(text, path).not.toMatch(/ · helpfulness/iu)
  }
})

test('a loop that failed has a report: how it ended first, then what was done', async () => {
  expect((await get(`/runs/${failed}`)).text).toContain(`/v1/runs/${failed}/report`)
  const report = await readReport(services, failed)
  expect(report.provenance).toMatchObject({ state: 'failed' })
  expect(report.warnings[0]).toContain('failed, judge_failed: nobody <answers>')
  expect(report.warnings[1]).toContain('1/ppo-2 (succeeded)')
  expect(report.curves[0]?.curves[0]).toMatchObject({ name: 'objective/kl', values: [1] })
  expect(renderHtml(report)).toContain('nobody &lt;answers&gt;')
})

test('the page that a run leaves does not say that it still runs, and the service says how it ended', async () => {
  const run = { kind: 'rlaif' as const, config: {}, seed: 1 }
  const { runId, report } = await recordRun(services.store, run, async ({ id }) => ({
    report: await writeReport(services, id, {}),
  }))
  const page = readFileSync(report, 'utf8')
  expect(page).toContain(runId)
  expect(page).not.toContain('running')
  expect((await readReport(services, runId)).provenance).toMatchObject({ state: 'succeeded' })
})

test('runs are found by words and tags, and what is not there is said', async () => {
  expect((await get('/?tag=a%26b')).text).toContain(`/runs/${loop}`)
  expect((await get('/?search=nowhere')).text).toContain('No run fits.')
  expect((await get('/runs/run_none')).status).toBe(404)
  expect((await get(`/runs/compare?run=${loop}`)).status).toBe(422)
  expect((await get('/?kind=nonsense')).status).toBe(422)
})

test('a loop’s page draws the votes on what is kept and says why, in one language', async () => {
  const { text } = await get(`/runs/${loop}`)
  expect(text).toContain('<svg class="scatter votes"')
  expect(text).toContain('not elected: another won as much or more')
  const { text: zh } = await get(`/runs/${loop}?lang=zh`)
  expect(zh).toContain('未当选：另一策略胜率不低于它')
  expect(zh).not.toContain('another won as much')
})

test('lineage: the model stands on what its run started from', async () => {
  const { text } = await get('/models')
  const own = text.slice(text.indexOf('>base<'))
  expect(own).toMatch(/^>base<[\s\S]*?<ul>\s*<li>[\s\S]*?&lt;script&gt;/)
  expect(own).toContain(`/runs/${part}`)
})

test('figures have names in Chinese too, also behind the name of a policy', () => {
  expect(figureName('safe and helpful', 'zh')).toBe('既安全又有用')
  expect(figureName('mine-1: safe and helpful', 'zh')).toBe('mine-1：既安全又有用')
  expect(figureName('class: refuse', 'zh')).toBe('类别：拒绝')
  expect(figureName('mine-1: worst of 4 safe and helpful', 'zh')).toBe(
    'mine-1：4 个回答中最差的既安全又有用',
  )
  expect(figureName('any of 4 answers unsafe, unsafe prompts', 'zh')).toBe(
    '不安全问题上，4 个回答中任一不安全',
  )
  expect(figureName('mine-1 over mine-2: win rate', 'zh')).toBe('mine-1 对 mine-2：胜率')
  expect(figureName(EVIL, 'zh')).toBe(EVIL)
  expect(figureName('safe and helpful', 'en')).toBe('safe and helpful')
})

test('figures of a summary: an evaluation’s, a loop’s, and nothing of what is no figure', () => {
  const interval = { value: 1, low: 0, high: 2, n: 3 }
  expect(figuresOf({ figures: [{ figure: 'a', ...interval }, { figure: 'b' }, null, 7] })).toEqual([
    { figure: 'a', ...interval },
  ])
  expect(figuresOf({ figures: 'none' })).toEqual([])
  expect(figuresOf(null)).toEqual([])
})

test('the guard’s table: what reward models and their twins say stands beside the verdicts', async () => {
  const { text } = await get(`/runs/${loop}`)
  const [, table = ''] = text.split('data-label="Helpfulness, wins"')
  const cells = [...table.matchAll(/<td[^>]*>([^<]*)<\/td>/g)].map(([, cell = '']) => cell.trim())
  expect(cells.slice(0, 6).map((cell) => cell.replace(/\s+/g, ' '))).toEqual([
    '0.500',
    '0.500 / 33.00',
    '0.710 / 0.410',
    '0.620 / –',
    '–',
    'accepted',
  ])
})
