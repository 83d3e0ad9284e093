import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { commitFolder, verifyFolder } from '../../src/weights/atomic.ts'
import { writeCard } from '../../src/weights/folder.ts'
import { writeMean } from '../../src/weights/mean.ts'
import { openWeights, writeWeights } from '../../src/weights/shards.ts'

const root = await mkdtemp(join(tmpdir(), 'libra-mean-'))
afterAll(() => rm(root, { recursive: true }))

async function checkpoint(name: string, weights: Record<string, number[]>): Promise<string> {
  const folder = join(root, name)
  await commitFolder(folder, async (at) => {
    const tensors = Object.entries(weights).map(([key, data]) => [
      key,
      { shape: [data.length], data: Float32Array.from(data) },
    ])
    await writeWeights(at, Object.fromEntries(tensors))
    await writeCard(at, { format: 1, kind: 'base', role: 'judge' })
  })
  return folder
}

test('every weight is the mean, by hand; the rest is the last one’s, and the folder is whole', async () => {
  const first = await checkpoint('first', { a: [1, 2], b: [-4] })
  const second = await checkpoint('second', { b: [2], a: [3, 6] })
  const mean = join(root, 'mean')
  await writeMean(mean, [first, second], 'F32')
  const { tensors, close } = await openWeights(mean)
  expect([...(tensors.get('a')?.data() ?? [])]).toEqual([2, 4])
  expect([...(tensors.get('b')?.data() ?? [])]).toEqual([-1])
  close()
  expect(JSON.parse(await readFile(join(mean, 'libra.json'), 'utf8'))).toMatchObject({
    role: 'judge',
  })
  await verifyFolder(mean)
})

test('a checkpoint of another shape, or without a tensor, is refused by name and leaves nothing', async () => {
  const whole = await checkpoint('whole', { a: [1, 2], b: [3] })
  const short = await checkpoint('short', { a: [1], b: [3] })
  const less = await checkpoint('less', { a: [1, 2] })
  for (const [i, other] of [short, less].entries())
    await expect(writeMean(join(root, `bad-${i}`), [other, whole], 'F32')).rejects.toMatchObject({
      code: 'damaged_checkpoint',
      message: expect.stringContaining(i === 0 ? 'a is [1], not [2]' : 'b is [missing]') as string,
    })
  await expect(readFile(join(root, 'bad-0', 'libra.json'))).rejects.toThrow()
})
