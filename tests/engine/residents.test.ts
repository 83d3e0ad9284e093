import { afterAll, expect, test } from 'vitest'
import { createResidents } from '../../src/engine/residents.ts'
import { cachedConstants, tf } from '../../src/tensor/backend.ts'
import { starterRoles } from '../starter-roles.ts'

const roles = starterRoles()
const idle = () => Promise.resolve()
const live = (): number => tf.memory().numTensors - cachedConstants()
const BASE = 8e6 // bytes; a starter base has 6.6 MB

const residents = createResidents(1.5 * BASE)
afterAll(() => residents.close())

test('models that were used longest ago leave, what is in use stays, and one that can never fit is refused', async () => {
  const before = live()
  await residents.use(roles.safety, idle)
  await residents.use(roles.helpfulness, idle)
  expect(residents.count()).toBe(2) // one base under both
  const withBoth = live()
  await residents.use(roles.judge, idle) // another base
  expect(residents.count()).toBe(1)
  expect(live()).toBeLessThan(withBoth)
  await residents.use(roles.safety, async ({ model }) => {
    await residents.use(roles.judge, idle)
    expect([...model.weights.values()].some(({ isDisposed }) => isDisposed)).toBe(false)
  })
  await residents.close()
  expect(live()).toBe(before)
  const tiny = createResidents(1000)
  await expect(tiny.use(roles.judge, idle)).rejects.toMatchObject({ code: 'model_too_large' })
})
