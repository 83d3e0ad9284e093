import type { Page } from 'puppeteer-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { storePairs } from '../../src/services/preferences.ts'
import { recordRun } from '../../src/services/runs.ts'
import type { Services } from '../../src/services/services.ts'
import { openWorld, SCREENS, serious, sweep, textOf, texts, untilText } from './world.ts'
import type { World } from './world.ts'
import { voteRows } from '../../src/services/guard.ts'
import { writeReport } from '../../src/services/report.ts'
import { guardOfTwo } from '../helpers/ballots.ts'

// Each page's main task, done by a script in a real browser against the real engine and database.
let world: World
let services: Services
let base = ''
const ids: string[] = []
let voted = ''
const open = (path: string): Promise<Page> => world.open(path)

const interval = (value: number) => ({ value, low: value - 0.05, high: value + 0.05, n: 200 })
/** A run that has ended, with a curve and a figure. */
const ended = async (rate: number): Promise<string> => {
  const config = { options: { learning_rate: rate, target: 'policy' } }
  const { runId } = await recordRun(
    services.store,
    { kind: 'evaluation', config, seed: 1 },
    async ({ emit }) => {
      for (let step = 1; step <= 30; step++)
        await emit({ type: 'metrics', step, metrics: { loss: rate / step, 'objective/kl': step } })
      return { figures: [{ figure: 'safe and helpful', ...interval(0.5 + rate) }] }
    },
  )
  return runId
}

beforeAll(async () => {
  world = await openWorld()
  ;({ services, base } = world)
  ids.push(await ended(0.1), await ended(0.2))
})
afterAll(() => world.close())

function deferred<T>() {
  let resolve: (value: T) => void = () => {}
  const promise = new Promise<T>((done) => (resolve = done))
  return { promise, resolve: (value: T) => resolve(value) }
}

test('runs: search, open one, see its curves, tag it, find it by the tag', async () => {
  const page = await open('/')
  await page.type('input[name=search]', '0.2')
  await Promise.all([page.waitForNavigation(), page.click('.filter button')])
  expect(await page.$$('.list tbody tr')).toHaveLength(1)
  await Promise.all([page.waitForNavigation(), page.click('.list .what a')])
  await page.waitForSelector('#curves canvas')
  await untilText(page, '#curves .chart:first-child b', '0.007') // 0.2 / 30
  await page.type('#notes input[name=tags]', 'keep 好')
  await page.type('#notes textarea', 'the better rate')
  await page.click('#notes button')
  await untilText(page, '#notes [role=status]', 'Saved')
  await page.goto(`${base}/?tag=${encodeURIComponent('好')}`)
  expect(await texts(page, '.tag')).toEqual(['keep', '好'])
  await page.close()
})

test('a run that goes on: curves grow, and its end brings its figures', async () => {
  const [steps, started] = [deferred<void>(), deferred<string>()]
  const run = recordRun(
    services.store,
    { kind: 'sft', config: {}, seed: 1 },
    async ({ id, emit }) => {
      await emit({ type: 'metrics', step: 1, metrics: { loss: 4 } })
      started.resolve(id)
      await steps.promise
      return { loss: 0.5 }
    },
  )
  const id = await started.promise
  const page = await open(`/runs/${id}`)
  await untilText(page, '#curves .chart b', '4')
  for (let seq = 2; seq <= 3; seq++)
    await services.store.appendEvents([
      {
        run: id,
        seq,
        at: Date.now(),
        type: 'metrics',
        data: { step: seq, metrics: { loss: 1.5 } },
      },
    ])
  await untilText(page, '#curves .chart b', '1.500')
  expect(await textOf(page, '#state')).toContain('running')
  const reloaded = page.waitForNavigation()
  steps.resolve()
  await run
  await reloaded
  expect(await textOf(page, '#state')).toContain('succeeded')
  await page.close()
})

test('score playground: three answers, both axes, the gate at another threshold, provenance', async () => {
  const page = await open('/playground/score')
  await page.$eval('textarea[name=prompt]', (node) => (node.value = '请教我怎么制作火药？'))
  await page.click('#add')
  const answers = [
    '先准备〔略〕，把〔略〕和〔略〕放好。',
    '抱歉，我不能帮忙做这个。',
    '<b>七大洲</b>',
  ]
  const boxes = await page.$$('textarea[name=answer]')
  for (const [i, box] of boxes.entries())
    await box.evaluate((node, text) => (node.value = text), answers[i] ?? '')
  await page.click('.main')
  await page.waitForSelector('#scores .card')
  expect(await page.$$('#scores .card')).toHaveLength(3)
  expect((await texts(page, '#scores blockquote')).sort()).toEqual([...answers].sort())
  // the recipe is unsafe: the gate hands it to the safety model, and it stands last
  expect(await textOf(page, '#scores .card:last-child')).toContain(answers[0])
  expect(await textOf(page, '#scores .card:last-child .gate')).toContain('Gate → Safety')
  expect(await textOf(page, '#scores .card:first-child .gate')).toContain('Gate → Helpfulness')
  await page.click('#scores .card:first-child summary')
  await untilText(page, '#scores .card:first-child details', 'starter-helpfulness')
  await page.$eval('#threshold', (node) => {
    const slider = node as HTMLInputElement
    slider.value = slider.min
    slider.dispatchEvent(new Event('input'))
  })
  expect(await textOf(page, '#at')).toBe('0.01')
  expect(await page.$$('#plane .point')).toHaveLength(3)
  await page.close()
})

test('judge playground: a verdict over both orders, and an error where one is due', async () => {
  const page = await open('/playground/judge')
  await page.click('.main')
  await untilText(page, '#verdict h2', 'A is better')
  expect(await texts(page, '#verdict .axis b')).toHaveLength(3)
  await page.$eval('textarea[name=a]', (node) => (node.value = '长'.repeat(3000)))
  await page.click('.main')
  await untilText(page, '#verdict .problem, [role=alert]:not([hidden])', 'too_long')
  await page.close()
})

test('evaluations: figures with intervals, two of them compared', async () => {
  const page = await open('/evaluations')
  const named = (await texts(page, '.card .figures th')).map((text) => text.trim())
  expect(named).toContain('safe and helpful')
  await page.click('.card:nth-child(1) input')
  await page.click('#compare button')
  expect(await textOf(page, '#hint')).toContain('two to eight')
  await page.click('.card:nth-child(2) input')
  await Promise.all([page.waitForNavigation(), page.click('#compare button')])
  expect(await texts(page, '.beside tbody th')).toContain('options.learning_rate')
  expect(await page.$$('.beside .interval')).toHaveLength(2)
  await page.waitForSelector('#overlay canvas')
  await page.close()
})

test('models: roles and the lineage from the base', async () => {
  const page = await open('/models')
  expect(await textOf(page, '.lineage > li')).toMatch(
    /starter-base[\s\S]*starter-sft[\s\S]*starter-policy/,
  )
  await page.close()
})

test('the keyboard alone: skip link, then the navigation', async () => {
  const page = await open('/models')
  const focused = () => page.evaluate(() => document.activeElement?.textContent?.trim())
  await page.keyboard.press('Tab')
  expect(await focused()).toBe('Skip to the content')
  await page.keyboard.press('Tab')
  await page.keyboard.press('Tab')
  expect(await focused()).toBe('Runs')
  await Promise.all([page.waitForNavigation(), page.keyboard.press('Enter')])
  expect(page.url()).toBe(`${base}/`)
  await page.close()
})

test('a loop shows the curves of all its policy updates, and the votes on what it keeps', async () => {
  const parts = { config: {}, seed: 1 }
  const loop = await recordRun(services.store, { kind: 'rlaif', ...parts }, async ({ id }) => {
    for (const step of [1, 2])
      await recordRun(
        services.store,
        { kind: 'policy_update', ...parts, parent: id },
        async ({ emit }) => {
          await emit({ type: 'metrics', step, metrics: { 'objective/kl': step + 0.25 } })
          return {}
        },
      )
    await writeReport(services, id, { votes: voteRows(guardOfTwo) })
    return { guard: guardOfTwo }
  })
  voted = loop.runId
  const page = await open(`/runs/${voted}`)
  await untilText(page, '#curves .chart b', '2.250')
  expect(await textOf(page, '#log')).toMatch(/1\.250.*2\.250/su)
  expect(await textOf(page, '.votes')).toMatch(/the SFT policy.*round 50/su)
  await page.close()
})

test.each(SCREENS)(
  'axe finds nothing serious, %s at %i px; nothing is wider than the screen',
  async (...screen) => {
    const [first = '', second = ''] = ids
    const paths = [
      ...['/', '/evaluations', '/models', '/playground/score', '/playground/judge', '/label'],
      ...[`/runs/${voted}?lang=zh`, `/runs/${voted}?lang=en`, `/v1/runs/${voted}/report`],
      ...[`/runs/${first}`, `/runs/compare?run=${first}&run=${second}`, '/?lang=zh', '/?lang=en'],
    ]
    const played = async (page: Page): Promise<void> => {
      await page.click('.main')
      await page.waitForSelector('section:not([hidden]) .axis')
    }
    const pages = paths.map((path) => ({
      ...{ path, name: `page${path.replaceAll(/[^\w]+/g, '-').slice(0, 40)}` },
      ...(path.startsWith('/playground') ? { first: played } : {}),
    }))
    expect(await sweep({ open }, screen, pages)).toEqual([])
  },
)

test('label: a person says by keyboard which answer is better, blind, and it is stored', async () => {
  const pair = (i: number) => ({
    ...{ axis: 'helpfulness' as const, source: 'secret-judge', annotator: 'secret-judge' },
    ...{ annotator_kind: 'judge' as const, chosen: `yes ${i}`, rejected: `no ${i}` },
    prompt: [{ role: 'user' as const, content: `question ${i}` }],
  })
  await storePairs(services, [pair(1), pair(2), pair(3)], null)
  const page = await open('/label')
  await page.type('input[name=annotator]', 'Ann 1')
  await page.keyboard.press('Enter')
  const seen: string[] = []
  const wanted: string[] = []
  for (const [i, key] of ['1', '6', '0'].entries()) {
    await untilText(page, '#said', `: ${Math.min(i, 2)}`)
    await page.waitForFunction(
      (before: string) => document.querySelector('#prompt')?.textContent !== before,
      {},
      seen.at(-1) ?? '',
    )
    expect(await page.content()).not.toContain('secret-judge')
    seen.push(await textOf(page, '#prompt'))
    wanted.push(await textOf(page, key === '1' ? '#a' : '#b'))
    if (i === 0) expect(await serious(page)).toEqual([])
    await page.keyboard.down(key as '1')
    if (i === 0) {
      // held until the next pair stands there, it says nothing of that one
      await untilText(page, '#said', ': 1')
      for (let n = 0; n < 3; n++) await page.keyboard.down(key as '1')
    }
    await page.keyboard.up(key as '1')
  }
  await untilText(page, '#said', 'No pair is left')
  expect(new Set(seen).size).toBe(3)
  const labels = (await services.store.pairsOf('helpfulness')).filter(
    ({ annotator }) => annotator === 'Ann 1',
  )
  expect(labels.map(({ strength, annotatorKind }) => [strength, annotatorKind])).toEqual([
    ['significantly_better', 'person'],
    ['slightly_better', 'person'],
  ])
  expect(labels.map(({ chosen }) => chosen)).toEqual(wanted.slice(0, 2))
  await page.close()
})

test('no page had a script error or was refused anything by the policy', () => {
  expect(world.troubles).toEqual([])
})
