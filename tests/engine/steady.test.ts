import { afterAll, expect, test } from 'vitest'
import { steadyEngine } from '../../src/engine/process/steady.ts'
import { starterRoles } from '../starter-roles.ts'

const engine = await steadyEngine()
afterAll(() => engine.close())

test('an engine whose process dies fails what it was doing and answers again', async () => {
  const { pid } = await engine.status()
  const messages = [{ role: 'user' as const, content: '世界上有几大洲？' }]
  const long = engine.generate({
    ...{ model: starterRoles().policy, prompts: Array.from({ length: 64 }, () => messages), n: 4 },
    onTooLong: 'error',
    sampling: { maxTokens: 200, temperature: 5, topP: 1, topK: 0, seed: 1, stop: [] },
  })
  const lost = expect(long).rejects.toMatchObject({ code: 'engine_lost' })
  await new Promise((resolve) => setTimeout(resolve, 300))
  process.kill(pid, 'SIGKILL')
  await lost
  const after = await engine.status()
  expect(after.pid).not.toBe(pid)
  expect((await engine.describe(starterRoles().safety)).hasScoreHead).toBe(true)
})
