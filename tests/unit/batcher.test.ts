import { expect, test } from 'vitest'
import { createBatcher } from '../../src/engine/batcher.ts'
import { createAdmission } from '../../src/services/admission.ts'

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))
const rowsOf = (n: number, mark: number) => Array.from({ length: n }, () => [mark, 0, 0, 0])

/** A group that notes the marks of each pass and answers each row with its mark. */
function noted(key = 'model') {
  const passes: number[][] = []
  const run = (rows: (readonly number[])[]): number[] => {
    const marks = rows.map(([mark = NaN]) => mark)
    passes.push(marks)
    if (rows.length > 1 && marks.includes(-1)) throw new Error('a bad row')
    if (marks.includes(-1)) throw new Error('its own error')
    return marks
  }
  return { group: { key, run }, passes }
}

test('requests that arrive together share passes within the budget, each gets its own values in order', async () => {
  const batcher = createBatcher(16)
  const { group, passes } = noted()
  const asked = [1, 2, 3, 4, 5, 6].map((mark) => batcher.submit(group, rowsOf(1, mark)))
  expect(await Promise.all(asked)).toEqual([[1], [2], [3], [4], [5], [6]])
  expect(passes.map(({ length }) => length)).toEqual([4, 2])
})

test('a big request does not hold up a small one, and is not starved', async () => {
  const batcher = createBatcher(16)
  const { group, passes } = noted()
  const order: string[] = []
  const big = batcher.submit(group, rowsOf(40, 1)).then(() => order.push('big'))
  await turn()
  const small = batcher.submit(group, rowsOf(1, 2)).then(() => order.push('small'))
  await Promise.all([big, small])
  expect(order).toEqual(['small', 'big'])
  expect(passes.flat()).toHaveLength(41)
})

test('one bad request fails alone', async () => {
  const batcher = createBatcher(64)
  const { group } = noted()
  const [one, bad, two] = [1, -1, 2].map((mark) => batcher.submit(group, rowsOf(2, mark)))
  await expect(bad).rejects.toThrow('a bad row')
  expect([await one, await two]).toEqual([
    [1, 1],
    [2, 2],
  ])
})

test('an aborted request leaves the queue and its rows are never run', async () => {
  const batcher = createBatcher(4)
  const { group, passes } = noted()
  const gone = new AbortController()
  const first = batcher.submit(group, rowsOf(1, 1))
  const second = batcher.submit(group, rowsOf(3, 2), gone.signal)
  gone.abort()
  await expect(second).rejects.toMatchObject({ code: 'cancelled' })
  expect(await first).toEqual([1])
  expect(passes).toEqual([[1]])
})

test('between two steps of other work exactly one pass goes first, and steps go on under a stream of rows', async () => {
  const batcher = createBatcher(4)
  const log: string[] = []
  const group = { key: 'm', run: (rows: unknown[]) => (log.push('pass'), rows.map(() => 0)) }
  const scores = batcher.submit(group, rowsOf(3, 0))
  for (let step = 0; step < 5; step++) {
    await batcher.between()
    log.push('step')
  }
  await scores
  // the first pass had started before the first step asked
  expect(log).toEqual(['pass', 'pass', 'step', 'pass', 'step', 'step', 'step', 'step'])
})

test('what is too much is refused at once, what is alone is let in, and places come back', async () => {
  const admission = createAdmission(4)
  let end = (): void => {}
  const big = admission.admit(9, () => new Promise<void>((resolve) => (end = resolve)))
  const refused = admission.admit(1, () => Promise.resolve())
  await expect(refused).rejects.toMatchObject({ code: 'overloaded', details: { retry_after: 1 } })
  end()
  await big
  expect(await admission.admit(1, () => Promise.resolve('in'))).toBe('in')
})
