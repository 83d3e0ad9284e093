import { afterAll, beforeAll, expect, test } from 'vitest'
import { RunRequest } from '../../src/schemas/run.ts'
import { startRun } from '../../src/services/start.ts'
import { openWorld, picture, SCREENS, sweep, textOf, texts, tooWide } from './world.ts'
import type { World } from './world.ts'

// Reports of real evaluations, as people open and print them.
let world: World
const evaluate = async (options: object): Promise<string> => {
  const request = RunRequest.parse({ kind: 'evaluation', options })
  const { id } = await startRun(world.services, request)
  for (;;) {
    const run = await world.services.store.runs.get(id)
    if (run?.state === 'succeeded') return id
    if (run?.error != null) throw new Error(`${id}: ${run.error.message}`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}
const ids = { policy: '', arena: '' }
beforeAll(async () => {
  world = await openWorld()
  const few = { limit: 40, max_new_tokens: 16 }
  ids.policy = await evaluate({
    ...{ target: 'policy', ...few, models: ['policy', 'starter-base'] },
    ...{ baselines: ['best_of_n', 'refuse_on_keyword'], tax: 'starter' },
  })
  ids.arena = await evaluate({
    ...{ target: 'arena', ...few, models: ['policy', 'reference', 'starter-base'] },
  })
})
afterAll(() => world.close())

test('a point of the trade-off opens its answer, also behind the fold, and the front has every policy', async () => {
  const page = await world.open(`/v1/runs/${ids.policy}/report`)
  const all = await texts(page, '.front tbody th')
  expect(all).toHaveLength(10) // once by mean safety, once by safe answers
  const names = all.slice(0, 5)
  expect(all.slice(5)).toEqual(names)
  expect(names.slice(0, 3)).toEqual(['starter-sft', 'starter-policy', 'starter-base'])
  for (const target of ['#sample-1', '#sample-40']) {
    await page.$eval(`.scatter a[href="${target}"]`, (node) =>
      node.dispatchEvent(new MouseEvent('click', { bubbles: true, cancelable: true })),
    )
    await page.waitForFunction(
      (id: string) => {
        const box = document.querySelector(id)?.getBoundingClientRect()
        return box !== undefined && box.height > 0 && box.top >= -1 && box.top < innerHeight
      },
      {},
      target,
    )
    expect(await textOf(page, 'tr:target td')).not.toBe('')
  }
  await page.close()
})

test('an evaluation’s page shows the front, an arena’s its ratings; 中文 too', async () => {
  const page = await world.open(`/runs/${ids.policy}`)
  expect(await page.$$('svg.scatter circle')).not.toHaveLength(0)
  await picture(page, 'run-policy')
  await page.goto(`${world.base}/runs/${ids.arena}?lang=zh`)
  const names = await texts(page, '.figures tbody th')
  expect(names).toContain('starter-policy：评分（对数优势）')
  await picture(page, 'run-arena-zh')
  await page.close()
})

test.each(SCREENS)(
  'reports and pages of evaluations: axe finds nothing serious, %s at %i px; no wider than the screen',
  async (...screen) => {
    const pages = Object.entries(ids).flatMap(([name, id]) => [
      { path: `/v1/runs/${id}/report`, name: `report-${name}` },
      { path: `/runs/${id}`, name: `run-${name}` },
    ])
    expect(await sweep(world, screen, pages)).toEqual([])
  },
)

test('on paper nothing is cut off at the side', async () => {
  for (const id of Object.values(ids)) {
    const page = await world.open(`/v1/runs/${id}/report`)
    await page.emulateMediaType('print')
    await page.setViewport({ width: 718, height: 1000 }) // A4 at 96 dpi without margins of 1 cm
    expect(await tooWide(page)).toBe(0)
    await picture(page, `print-${id.slice(-4)}`)
    await page.close()
  }
})

test('no report had an error', () => {
  expect(world.troubles).toEqual([])
})
