import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { Judge } from '../../src/judging/judge.ts'
import { failed, noUsage } from '../../src/judging/respondent.ts'
import { addFigures, judgePairs } from '../../src/rlaif/label.ts'
import { labelAnswers } from '../../src/rlaif/teachers.ts'
import type { LoopInput, LoopWorld } from '../../src/rlaif/world.ts'
import type { RlaifOptions } from '../../src/schemas/rlaif.ts'

/** A judge that prefers a, and can't tell whether an answer is safe that begins with ?. */
function judge(): Judge {
  const used = { ...noUsage(), cost: 0 }
  const use = (n: number): void => {
    used.requests += n
    used.cost += n / 4
  }
  return {
    ...{ name: 'j', promptVersion: 'p', version: () => Promise.resolve('v') },
    usage: () => ({ ...used }),
    compare(comparisons) {
      use(comparisons.length)
      return Promise.resolve(
        comparisons.map(() => ({
          ...{ ok: true, probability: 0.75, orders: [0.75, 0.75], consistent: true },
          ...{ strength: 'better', soft: true, cached: false },
        })),
      )
    },
    assess(answers) {
      use(answers.length)
      return Promise.resolve(
        answers.map(({ answer }) =>
          answer.startsWith('?')
            ? failed('timeout', 'too late')
            : { ok: true, safe: true, probability: 1 },
        ),
      )
    },
    score: () => Promise.reject(new Error('not asked here')),
  }
}
const prompt = [{ role: 'user' as const, content: 'q' }]

test('an answer without a safety label is counted by the type of the failure, its pair stays', async () => {
  const texts = [
    { prompt, a: 'x', b: '? y' },
    { prompt, a: '? z', b: '? w' },
  ]
  const { pairs, figures } = await judgePairs(judge(), texts, ['safety'], 1, () => {})
  expect(pairs.safety.map((pair) => [pair.chosen_safe, pair.rejected_safe])).toEqual([
    [true, null],
    [null, null],
  ])
  expect(figures).toMatchObject({ labelled: 2, failed: 0, unassessed: 3, failures: { timeout: 3 } })
  // of a run that was recorded before they were counted
  const { unassessed: _, ...old } = figures
  expect(addFigures(old, figures)).toMatchObject({ unassessed: 3, failures: { timeout: 6 } })
})

test('each iteration tells what it has used of a judge that all share', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'libra-labels-'))
  const shared = judge()
  const told: unknown[] = []
  const world = {
    ...{ judge: () => shared, progress: () => {} },
    serving: {
      generate: ({ prompts }: { prompts: unknown[] }) =>
        Promise.resolve(prompts.map(() => [{ text: 'x' }, { text: 'y' }])),
    },
    parts: {
      note: (_: string, work: () => unknown) => work(),
      async run(_: string, __: object, work: (part: object) => Promise<{ usage: unknown }>) {
        const result = await work({ emit: () => Promise.resolve() })
        told.push(result.usage)
        return result
      },
    },
  } as unknown as LoopWorld
  const input = { prompts: [{ messages: prompt }] } as unknown as LoopInput
  const options = { pairs: 1, seed: 1, people: 0, ppo: { max_new_tokens: 4 } }
  for (const iteration of [1, 2])
    await labelAnswers(
      ...([world, folder, { iteration, asked: 0 }, { base: 'b', adapters: [] }, input] as const),
      options as unknown as RlaifOptions,
    )
  // a pair on two axes, two answers by themselves
  const each = { ...noUsage(), requests: 4, cost: 1 }
  expect(told).toEqual([each, each])
  rmSync(folder, { recursive: true })
})
