import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import type { Context, Hono } from 'hono'
import { getCookie, setCookie } from 'hono/cookie'
import { z } from 'zod'
import { LibraError } from '../errors.ts'
import { CompareQuery, RunQuery } from '../schemas/http.ts'
import { lineage } from '../services/lineage.ts'
import { pageJudges } from '../services/judges.ts'
import { hasReport } from '../services/report.ts'
import { compareRuns, findRun, flatten } from '../services/run-records.ts'
import type { Services } from '../services/services.ts'
import type { Run } from '../store/store.ts'
import { page, reader } from './page.ts'
import type { Markup, Reader } from './page.ts'
import { comparePage } from './pages/compare.ts'
import { evaluationsPage } from './pages/evaluations.ts'
import { labelPage } from './pages/label.ts'
import { modelsPage } from './pages/models.ts'
import { judgePage, scorePage } from './pages/playground.ts'
import { runPage } from './pages/run.ts'
import { runsPage } from './pages/runs.ts'
import { LANGUAGES } from './words.ts'
import { html } from 'hono/html'

/** Nothing from elsewhere, no script and no style inside a page. */
const POLICY = [
  "default-src 'none'",
  ...["script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'"],
  ...["form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"],
].join('; ')

const TYPES: Record<string, string> = {
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  svg: 'image/svg+xml',
}
const OWN = ['libra.css', 'icon.svg', 'dom.js', 'charts.js', 'runs.js', 'run.js', 'compare.js']
const PLAYGROUNDS = ['score.js', 'judge.js', 'label.js']

/** The files that pages load: ours, and uPlot's out of its package. */
function readAssets(): Map<string, { type: string; body: string; tag: string }> {
  const uplot = (name: string): string =>
    createRequire(import.meta.url).resolve(`uplot/dist/${name}`)
  const paths = [
    ...[...OWN, ...PLAYGROUNDS].map((name) => [name, join(import.meta.dirname, 'assets', name)]),
    ['uplot.js', uplot('uPlot.iife.min.js')],
    ['uplot.css', uplot('uPlot.min.css')],
  ]
  return new Map(
    paths.map(([name = '', path = '']) => {
      const body = readFileSync(path, 'utf8')
      const tag = `"${createHash('sha256').update(body).digest('hex').slice(0, 16)}"`
      return [name, { type: TYPES[name.split('.').at(-1) ?? ''] ?? 'text/plain', body, tag }]
    }),
  )
}

const PER_PAGE = 25

/** Adds the dashboard: pages for people over the same services that the API uses. */
export function mountWeb(app: Hono, services: Services): void {
  const { store, dataDir } = services
  const assets = readAssets()
  app.get('/assets/:name', (c) => {
    const asset = assets.get(c.req.param('name'))
    if (asset === undefined) throw new LibraError('not_found', `no file ${c.req.path}`)
    const headers = {
      ...{ 'content-type': asset.type, etag: asset.tag, 'cache-control': 'no-cache' },
      'x-content-type-options': 'nosniff',
    }
    return c.req.header('if-none-match') === asset.tag
      ? c.body(null, 304, headers)
      : c.body(asset.body, 200, headers)
  })

  const view = (path: string, draw: (r: Reader, c: Context) => Promise<Markup> | Markup): void => {
    app.get(path, async (c) => {
      const r = readerOf(c)
      try {
        return await send(c, await draw(r, c))
      } catch (error) {
        if (!(error instanceof LibraError) || error.fault !== 'user') throw error
        const body = html`<h1>${error.code}</h1>
          <p class="problem">${error.message}</p>`
        const status = error.code === 'not_found' ? 404 : 422
        return await send(c, page(r, { title: error.code, active: '', body }), status)
      }
    })
  }
  view('/', async (r) => {
    const { kind, state, tag, search, after } = r.query
    const given = Object.entries({ kind, state, tag, search, after }).filter(([, v]) => v)
    const { limit: _, after: from, ...filter } = read(RunQuery, Object.fromEntries(given))
    const kinds = filter.kind === undefined ? [] : [filter.kind]
    const request = { limit: PER_PAGE, after: from }
    return runsPage(r, await store.pageRuns(request, { ...filter, kinds }))
  })
  // before the page of one run, whose address this would be too
  view('/runs/compare', async (r, c) => {
    const { runs } = read(CompareQuery, { runs: (c.req.queries('run') ?? []).join(',') })
    return comparePage(r, await compareRuns(store, runs))
  })
  view('/runs/:id', async (r, c) => {
    const run = await findRun(store, c.req.param('id') ?? '')
    const children = (await store.pageRuns({ limit: 1000 }, { parent: run.id })).data
    return runPage(r, {
      ...{ run, children, models: await store.modelsOf(run.id) },
      configuration: flatten(run.config),
      hasReport: hasReport(dataDir, run),
      guard: run.kind === 'rlaif' ? await store.events(run.id, 0) : [],
    })
  })
  view('/evaluations', async (r) => {
    const request = { limit: 20, after: r.query['after'] || undefined }
    const kinds: Run['kind'][] = ['evaluation', 'rlaif']
    return evaluationsPage(r, await store.pageRuns(request, { kinds }))
  })
  view('/models', async (r) => modelsPage(r, await store.roles(), await lineage(store)))
  view('/label', labelPage)
  view('/playground/score', scorePage)
  view('/playground/judge', async (r) =>
    judgePage(r, (await pageJudges(services, { limit: 200 })).data),
  )
}

/** Throws `invalid_request`. */
function read<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  throw new LibraError('invalid_request', z.prettifyError(parsed.error))
}

/** The language of the address, else of the cookie, else of the browser. */
function readerOf(c: Context): Reader {
  const { lang, ...query } = c.req.query()
  const asked = LANGUAGES.find((each) => each === lang)
  if (asked !== undefined)
    setCookie(c, 'libra_language', asked, { path: '/', sameSite: 'Lax', maxAge: 31_536_000 })
  const kept = LANGUAGES.find((each) => each === getCookie(c, 'libra_language'))
  const spoken = /^\s*zh/i.test(c.req.header('accept-language') ?? '') ? 'zh' : 'en'
  return reader(asked ?? kept ?? spoken, new URL(c.req.url), query)
}

async function send(c: Context, markup: Markup, status: 200 | 404 | 422 = 200): Promise<Response> {
  return c.html(await markup, status, {
    'content-security-policy': POLICY,
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'same-origin',
    'cache-control': 'no-store',
  })
}
