import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import type { Engine } from '../../src/engine/engine.ts'
import { LibraError } from '../../src/errors.ts'
import { AXES } from '../../src/schemas/feedback.ts'
import type { PreferenceRow } from '../../src/schemas/feedback.ts'
import { heldOutOf, studyHumanPairs } from '../../src/services/human-study.ts'

const folder = mkdtempSync(join(tmpdir(), 'libra-human-study-'))
afterAll(() => rmSync(folder, { recursive: true }))

const train = AXES.flatMap((axis) =>
  Array.from({ length: 30 }, (_, i): PreferenceRow => ({
    ...{ axis, chosen: `good ${i}`, rejected: 'bad', source: 'test' },
    prompt: [{ role: 'user', content: `${axis} ${i}` }],
  })),
)
const data = { train, dev: [], texts: [] }

/** Writes a folder for each training, as the engine does, and scores by length; dies where it scores after `lives` trainings. */
function engineOf(lives = Infinity): { engine: Engine; trained: string[] } {
  const trained: string[] = []
  const known: Partial<Engine> = {
    describe: () => Promise.resolve({ version: 'v' } as Awaited<ReturnType<Engine['describe']>>),
    async *train(spec) {
      if (existsSync(spec.output)) throw new LibraError('already_exists', spec.output)
      await mkdir(spec.output)
      trained.push(spec.output)
      yield { type: 'metrics', step: 1, metrics: { loss: 1 } }
    },
    scoreAll({ models, conversations }) {
      if (trained.length > lives) return Promise.reject(new Error('killed'))
      const placed = { count: 0, segments: 0, at: 0, end: 0, prefix: 0, prefixAt: 0, trunk: -1 }
      const scores = conversations.map((turns) => ({
        ...{ logit: turns.at(-1)?.content.length ?? 0, tokens: 1, truncated: false },
        placed: { ...placed, model: 0, models: 1 },
      }))
      return Promise.resolve(models.map(() => ({ version: 'v', calibration: null, scores })))
    },
  }
  return { engine: known as Engine, trained }
}
const requestFor = (name: string) => ({
  ...{ base: 'base', seeds: 2, reward: {}, sft: { epochs: 1 }, part: 1, parts: 1 },
  file: join(folder, name, 'held.jsonl'),
})
const quiet = (): void => {}

test('a study that was killed between a training and its row goes on', async () => {
  const request = { ...requestFor('killed'), reward: { lora: null } } // each scored by itself
  const first = engineOf(3)
  await expect(studyHumanPairs(first.engine, data, request, quiet)).rejects.toThrow('killed')
  // and one row was cut off with it
  const [row = ''] = readFileSync(request.file, 'utf8').split('\n').filter(Boolean)
  appendFileSync(request.file, `\n${row.slice(0, 40)}`)
  const second = engineOf()
  await studyHumanPairs(second.engine, data, request, quiet)
  const seeds = await heldOutOf(second.engine, data, request)
  expect(seeds.map(({ seed }) => seed)).toEqual([1, 2])
  for (const { heldOut } of seeds)
    for (const { pair, chosen } of heldOut.safety) expect(chosen).toBe(pair.chosen.length)
  // 25 trainings in all, but for those that were lost
  expect(first.trained.length + second.trained.length).toBe(25 + 2)
})

test('what was held out of other pairs is not taken for these', async () => {
  const request = requestFor('data')
  await studyHumanPairs(engineOf().engine, data, request, quiet)
  const { engine, trained } = engineOf()
  const more = { ...data, train: train.map((pair) => ({ ...pair, chosen: `${pair.chosen}!` })) }
  await studyHumanPairs(engine, more, request, quiet)
  expect(trained).toHaveLength(25)
  const [seed] = await heldOutOf(engine, more, request)
  for (const { pair, chosen } of seed?.heldOut.safety ?? []) expect(chosen).toBe(pair.chosen.length)
})

test('a seed of which a fold is missing is left out, whatever came twice', async () => {
  const request = requestFor('twice')
  const { engine } = engineOf()
  await studyHumanPairs(engine, data, { ...request, parts: 5 }, quiet)
  const rows = readFileSync(request.file, 'utf8')
  for (let i = 0; i < 5; i++) appendFileSync(request.file, `\n${rows}`)
  expect(await heldOutOf(engine, data, request)).toEqual([])
  expect(await heldOutOf(engine, data, requestFor('nothing'))).toEqual([])
})
