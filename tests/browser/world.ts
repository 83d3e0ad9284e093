import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createAdaptorServer } from '@hono/node-server'
import puppeteer from 'puppeteer-core'
import type { Page } from 'puppeteer-core'
import { spawnEngine } from '../../src/engine/process/spawn.ts'
import { createApp } from '../../src/http/app.ts'
import { createServices } from '../../src/services/services.ts'
import type { Services } from '../../src/services/services.ts'
import { openStore } from '../../src/store/store.ts'

const CHROMIUM = [
  process.env['CHROMIUM'] ?? '',
  ...['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'],
].find((path) => path !== '' && existsSync(path))
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

export type World = {
  services: Services
  base: string
  /** what a page said went wrong */
  troubles: string[]
  open(path: string): Promise<Page>
  close(): Promise<void>
}

/** A service with the real engine and database, and a real browser before it. */
export async function openWorld(): Promise<World> {
  if (CHROMIUM === undefined)
    throw new Error('no Chromium: apt-get install chromium, or set CHROMIUM to its path')
  const folder = mkdtempSync(join(tmpdir(), 'libra-browser-'))
  const store = await openStore(folder)
  const serving = await spawnEngine()
  const startTraining = () => spawnEngine({ training: true })
  const services = await createServices({ store, serving, startTraining, dataDir: folder })
  const app = createApp(services, folder)
  const server = createAdaptorServer({ fetch: app.fetch })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const browser = await puppeteer.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] })
  const troubles: string[] = []
  return {
    ...{ services, base, troubles },
    async open(path) {
      const page = await browser.newPage()
      await page.setViewport({ width: 1200, height: 900 })
      page.on('console', (said) => {
        if (said.type() === 'error') troubles.push(`${path}: ${said.text()}`)
      })
      page.on('pageerror', (error) => troubles.push(`${path}: ${String(error)}`))
      await page.goto(base + path, { waitUntil: 'load' })
      return page
    },
    async close() {
      await browser.close()
      server.close()
      await services.runner.close()
      await services.serving.close()
      await services.store.close()
      rmSync(folder, { recursive: true })
    },
  }
}

export const textOf = (page: Page, selector: string): Promise<string> =>
  page.$eval(selector, (node) => node.textContent ?? '')
export const texts = (page: Page, selector: string): Promise<string[]> =>
  page.$$eval(selector, (nodes) => nodes.map((node) => node.textContent ?? ''))
export const untilText = (page: Page, selector: string, wanted: string): Promise<unknown> =>
  page.waitForFunction(
    (s: string, w: string) => document.querySelector(s)?.textContent?.includes(w),
    {},
    selector,
    wanted,
  )

/** What axe finds serious or critical. */
export async function serious(page: Page): Promise<string[]> {
  const session = await page.createCDPSession()
  await session.send('Runtime.evaluate', { expression: axe })
  const violations = await page.evaluate(async () => {
    type Result = { violations: { impact: string; id: string; nodes: { target: unknown }[] }[] }
    const { axe } = window as unknown as { axe: { run(): Promise<Result> } }
    return (await axe.run()).violations.map(
      ({ impact, id, nodes }) => `${impact} ${id} ${JSON.stringify(nodes.map((n) => n.target))}`,
    )
  })
  return violations.filter((v) => /^(serious|critical)/.test(v))
}

/** Pixels by which a page is wider than the screen. */
export const tooWide = (page: Page): Promise<number> =>
  page.evaluate(() => Math.max(0, document.documentElement.scrollWidth - innerWidth))

/** Where screenshots go, if anybody wants to look at them: the folder in LIBRA_SCREENSHOTS. */
export async function picture(page: Page, name: string): Promise<void> {
  const folder = process.env['LIBRA_SCREENSHOTS']
  if (folder !== undefined)
    await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true })
}

export const SCREENS = [
  ['light', 1200],
  ['dark', 1200],
  ['light', 390],
] as const

/** Opens pages on a screen, does what a page needs first, takes its picture, and says what is wrong with it. */
export async function sweep(
  { open }: Pick<World, 'open'>,
  [scheme, width]: readonly ['light' | 'dark', number],
  pages: readonly { path: string; name: string; first?: (page: Page) => Promise<unknown> }[],
): Promise<string[]> {
  const found: string[] = []
  for (const { path, name, first } of pages) {
    const page = await open(path)
    await page.setViewport({ width, height: 844 })
    await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }])
    await first?.(page)
    found.push(...(await serious(page)).map((v) => `${name}: ${v}`))
    const wider = await tooWide(page)
    if (wider > 0) found.push(`${name}: ${wider} px wider than the screen`)
    await picture(page, `${scheme}-${width}-${name}`)
    await page.close()
  }
  return found
}
