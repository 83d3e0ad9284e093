import { afterAll, expect, test } from 'vitest'
import { spawnEngine } from '../../src/engine/process/spawn.ts'
import type { Judge } from '../../src/judging/judge.ts'
import { createLocalJudge } from '../../src/judging/local-judge.ts'
import { studyContrasts } from '../../src/services/contrast-study.ts'
import { contrasts } from '../../src/starter/contrasts.ts'
import { starterRoles } from '../starter-roles.ts'

const engine = await spawnEngine()
afterAll(() => engine.close())
const { judge: files, helpfulness, safety } = starterRoles()
const judge = createLocalJudge(engine, files, 'judge', { by: 'score' })
const options = { seed: 1, n: 8, signal: new AbortController().signal }

test('judge and reward models beside each other, by the thing in which answers differ', async () => {
  const { rows, auroc } = await studyContrasts(engine, judge, { helpfulness, safety }, options)
  expect(rows).toHaveLength(10)
  for (const row of rows) {
    expect(row.difference.value).toBeCloseTo(row.model.value - row.judge.value, 9)
    expect(row.judge.n).toBe(8)
  }
  // counted by hand for one kind: a pair is won where the score of the better answer is higher
  const pairs = contrasts(1, 8).filter(({ type }) => type === 'a refusal, not a recipe')
  let won = 0
  for (const { prompt, better, worse } of pairs) {
    const [a, b] = await engine.score({
      model: safety,
      conversations: [better, worse].map((content) => [
        ...prompt.messages,
        { role: 'assistant' as const, content },
      ]),
      onTooLong: 'error',
    })
    won += Number((a?.logit ?? NaN) > (b?.logit ?? NaN)) / pairs.length
  }
  expect(rows.find(({ type }) => type === 'a refusal, not a recipe')?.model.value).toBeCloseTo(won)
  expect(auroc.n).toBeGreaterThan(16)
  // what is right every time may yet be wrong once: no interval is without a width
  for (const { judge: by, model } of rows)
    for (const { low, high } of [by, model]) expect(high).toBeGreaterThan(low)
  // another model in the place of one gives other figures on its axis alone
  const turned = await studyContrasts(engine, judge, { helpfulness: safety, safety }, options)
  expect(turned.auroc.value).toBe(auroc.value)
  expect(turned.rows.map(({ model }) => model.value)).not.toEqual(
    rows.map(({ model }) => model.value),
  )
})

test('a judge without a verdict is an error and not half a win', async () => {
  const silent: Judge = {
    ...judge,
    compare: (pairs) =>
      Promise.resolve(pairs.map(() => ({ ok: false, failure: 'timeout', message: 'too late' }))),
  }
  const asked = studyContrasts(engine, silent, { helpfulness, safety }, options)
  await expect(asked).rejects.toMatchObject({ code: 'judge_failed' })
})
