import { createAdaptorServer } from '@hono/node-server'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { createApp } from '../../src/http/app.ts'
import { service } from '../helpers/service.ts'

const { services, folder } = await service()
const server = createAdaptorServer({
  fetch: createApp(services, join(folder, 'models')).fetch,
})
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
const { port } = server.address() as AddressInfo
afterAll(() => server.close())

const post = (inputs: object[], signal?: AbortSignal): Promise<Response> =>
  fetch(`http://127.0.0.1:${port}/v1/score`, {
    ...{ method: 'POST', headers: { 'content-type': 'application/json' } },
    body: JSON.stringify({ inputs }),
    ...(signal === undefined ? {} : { signal }),
  })
const inputs = (n: number, answer: string) =>
  Array.from({ length: n }, (_, i) => ({ prompt: `世界上有几大洲？${i}`, response: answer }))
const idOf = async (response: Response): Promise<string> =>
  ((await response.json()) as { data: { id: string }[] }).data[0]?.id ?? ''
const newest = async (limit: number): Promise<string[]> => {
  const page = await fetch(`http://127.0.0.1:${port}/v1/scores?limit=${limit}`)
  return ((await page.json()) as { data: { id: string }[] }).data.map(({ id }) =>
    id.replace(/_(helpfulness|safety)$/, ''),
  )
}

test('too many at once: some are told when to come again, all are answered, and then there is room', async () => {
  const answers = await Promise.all(Array.from({ length: 8 }, () => post(inputs(256, '七大洲'))))
  const refused = answers.filter(({ status }) => status === 503)
  expect(answers.filter(({ status }) => status === 200)).toHaveLength(4)
  expect(refused).toHaveLength(4)
  for (const response of refused) {
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
    expect(await response.json()).toMatchObject({ code: 'overloaded' })
  }
  expect((await post(inputs(1, '七大洲'))).status).toBe(200)
})

test('a client that goes frees its place', async () => {
  const before = await idOf(await post(inputs(1, '七大洲')))
  const gone = new AbortController()
  const left = Array.from({ length: 4 }, () => post(inputs(256, '五'.repeat(100)), gone.signal))
  const full = (): Promise<boolean> =>
    services.admission
      .admit(1, () => Promise.resolve())
      .then(
        () => false,
        () => true,
      )
  while (!(await full())) await new Promise((resolve) => setTimeout(resolve, 1))
  gone.abort()
  await Promise.allSettled(left)
  while (await full()) await new Promise((resolve) => setTimeout(resolve, 5))
  // what was left is not scored: nothing is stored between the score before it and the one after it
  const after = await idOf(await post(inputs(1, '七大洲')))
  await expect.poll(async () => (await newest(4)).slice(0, 2)).toEqual([after, after])
  expect((await newest(4)).slice(2)).toEqual([before, before])
})

test('one bad request among many fails alone; scores are found as soon as they are answered', async () => {
  const good = Array.from({ length: 6 }, () => post(inputs(2, '七大洲')))
  const bad = await post(inputs(1, '七大洲'.repeat(500)))
  expect(bad.status).toBe(422)
  for (const response of await Promise.all(good)) {
    expect(response.status).toBe(200)
    const id = await idOf(response)
    const { data } = (await (await fetch(`http://127.0.0.1:${port}/v1/scores/${id}`)).json()) as {
      data: { axis: string }[]
    }
    expect(data.map(({ axis }) => axis).sort()).toEqual(['helpfulness', 'safety'])
  }
})
