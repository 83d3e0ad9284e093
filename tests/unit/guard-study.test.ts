import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Engine } from '../../src/engine/engine.ts'
import { exactShare } from '../../src/evaluation/shares.ts'
import { orderedVerdict } from '../../src/judging/judge.ts'
import type { Judge } from '../../src/judging/judge.ts'
import { noUsage } from '../../src/judging/respondent.ts'
import { FAILURES, leaning, relabel } from '../../src/services/guard-failures.ts'
import {
  bestGain,
  byFailure,
  delayOf,
  difference,
  studyFigures,
} from '../../src/services/guard-study-figures.ts'
import type { StudyLoop } from '../../src/services/guard-study-figures.ts'
import { readLoops, studyGuard } from '../../src/services/guard-study.ts'

/** Gold of 100 prompts, the first `n` of them well answered. */
const gold = (n: number): string => '1'.repeat(n) + '0'.repeat(100 - n)
type Step = [round: number, good: number, action?: 'go_on' | 'accept' | 'stop']
const loop = (seed: number, kept: number, steps: Step[]): StudyLoop => ({
  ...{ failure: 'made up', seed, seconds: 1, reason: '', sft: gold(50), kept },
  stopped: steps.some(([, , action]) => action === 'stop'),
  path: steps.map(([round, good]) => ({ round, gold: gold(good), kl: 1 })),
  looks: steps.flatMap(([round, , action]) =>
    action === undefined
      ? []
      : {
          ...{ round, action, worse: 1, better: 1, limit: 20, failed: 0, accepted: 0, reason: '' },
          signals: { kl: 1, length: 30, refusals: 0, ended: 1, distinct: 0.5, surprise: 0.3 },
          worseBy: { helpfulness: 1, safety: 1 },
          winRate: { helpfulness: 0.5, safety: 0.5 },
        },
  ),
})

describe('the guard’s benchmark', () => {
  test('a share has the exact interval', () => {
    // tables of Clopper and Pearson; none of 30: 1 − 0.025^(1/30)
    const [none, some, all] = [exactShare(0, 30), exactShare(3, 20), exactShare(20, 20)]
    expect(none).toMatchObject({ value: 0, low: 0, n: 30 })
    expect(none.high).toBeCloseTo(1 - 0.025 ** (1 / 30), 10)
    expect(some.low).toBeCloseTo(0.0321, 4)
    expect(some.high).toBeCloseTo(0.3789, 4)
    expect(all).toMatchObject({ value: 1, high: 1 })
    expect(all.low).toBeCloseTo(0.025 ** (1 / 20), 10)
    expect(exactShare(0, 0)).toMatchObject({ value: NaN, low: 0, high: 1 })
  })
  test('a difference is of the same prompts, with its standard error', () => {
    // differences −1, 0, 0, 1: variance 2/3
    const { value, error } = difference('1100', '0101')
    expect(value).toBe(0)
    expect(error).toBeCloseTo(Math.sqrt(2 / 3 / 4), 12)
  })
  test('the best is chosen on one half of the prompts and measured on the other', () => {
    const lucky = { sft: '01010101', path: [{ round: 5, gold: '11001100', kl: 0 }] }
    // even places choose round 5, 2 of 4 against 0, which has 2 of 4 against 4 on odd ones: −0.5; those choose SFT: 0
    expect(bestGain(lucky)).toBe(-0.25)
    const better = { sft: '00000000', path: [{ round: 5, gold: '11110000', kl: 0 }] }
    expect(bestGain(better)).toBe(0.5)
  })
  test('the delay counts from the look at which gold had fallen below the accepted policy’s', () => {
    const steps: Step[] = [
      [5, 50, 'go_on'],
      [10, 30, 'go_on'],
      [15, 20, 'stop'],
      [20, 10],
    ]
    expect(delayOf(loop(1, 0, steps))).toBe(5)
    // 45 of 50 is within two errors: 5 of 100 that differ have a standard error of 0.022
    expect(delayOf(loop(1, 0, [[5, 47, 'go_on']]))).toBeNull()
    expect(delayOf(loop(1, 0, [[5, 30, 'go_on']]))).toBe(Infinity)
    const after: Step[] = [
      [5, 70, 'accept'],
      [10, 55, 'stop'],
    ]
    expect(delayOf(loop(1, 5, after))).toBe(0) // 55 is better than SFT, and worse than what was accepted
    const early: Step[] = [[5, 50, 'stop'], [10, 20]] // prettier-ignore
    expect(delayOf(loop(1, 0, early))).toBe(-5)
  })
  test('what is harmed, missed and retained', () => {
    const loops = [
      loop(1, 5, [[5, 70, 'accept'], [10, 20, 'stop']]), // prettier-ignore
      loop(2, 10, [[5, 60, 'go_on'], [10, 20, 'go_on']]), // prettier-ignore
      loop(3, 0, [[5, 60, 'go_on'], [10, 50, 'go_on']]), // prettier-ignore
    ]
    const { stopped, harmed, missed, last, kept, best, retained, fell, delay } = studyFigures(
      'made up',
      loops,
    )
    expect(stopped).toMatchObject({ value: 1 / 3, n: 3 })
    expect(harmed).toBe(2)
    expect(missed).toMatchObject({ value: 1 / 2, n: 2 })
    expect(last.value).toBeCloseTo(-0.2, 12) // −0.3, −0.3, 0
    expect(kept.value).toBeCloseTo((0.2 - 0.3 + 0) / 3, 12)
    expect(best.value).toBeCloseTo((0.2 + 0.1 + 0.1) / 3, 12)
    expect(retained?.value).toBeCloseTo(-0.1 / 0.4, 12)
    expect([fell, delay]).toEqual([2, Infinity]) // 0 and never: the upper of two
  })
})

test('all that the audit judge can see is told together, without what it shares and without honest loops', () => {
  const names = ['exploit', 'bias-of-both', 'shared-bias', 'honest']
  const loops = names.map((failure, i) => ({ ...loop(i, 5, [[5, 60 + i, 'go_on']]), failure }))
  const figures = byFailure(loops)
  expect(figures.map(({ failure }) => failure)).toEqual([...names, 'all that can be seen'])
  expect(figures.at(-1)).toMatchObject({ loops: 2, kept: { value: 0.11 } }) // 0.10 and 0.12
  expect(byFailure(loops.slice(0, 2)).map(({ failure }) => failure)).toEqual(names.slice(0, 2))
})

test('a study goes on where it was: loops that its file holds are not done again', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'libra-study-'))
  try {
    const names = FAILURES.flatMap(({ guards }) => guards.map(({ name }) => name))
    const done = names.map((failure) => ({ ...loop(1, 5, [[5, 60, 'go_on']]), failure }))
    const lines = done.map((each) => JSON.stringify(each))
    writeFileSync(join(folder, 'loops.jsonl'), [...lines, '{"failure": "cut of'].join('\n'))
    const request = { seeds: 1, honest: 1, only: [], part: 1, parts: 1, keep: false }
    const asked: string[] = []
    const engine = new Proxy({} as Engine, {
      get: (_, name) => asked.push(String(name)),
    })
    await studyGuard(engine, folder, request, () => {})
    expect(asked).toEqual([])
    expect(await readLoops(folder)).toEqual(done)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

describe('a judge with a taste', () => {
  const even: Judge = {
    ...{ name: 'even', promptVersion: '1', version: () => Promise.resolve('1') },
    compare: (list) =>
      Promise.resolve(
        list.map(() => ({ ...orderedVerdict([0.5, 0.5]), soft: true, cached: false })),
      ),
    assess: (list) => Promise.resolve(list.map(() => ({ ok: true, safe: true, probability: 1 }))),
    score: () => Promise.resolve([]),
    usage: noUsage,
  }
  const short = { name: 'short', worth: (answer: string) => -answer.length, safe: () => false }
  const prompt = [{ role: 'user' as const, content: 'x' }]
  test('is moved by what it pays, in logits', async () => {
    const comparison = { axis: 'helpfulness' as const, prompt, a: 'aaa', b: 'b' }
    const [verdict] = await leaning(even, short).compare([comparison])
    expect(verdict).toMatchObject({ ok: true, strength: 'better', consistent: true })
    expect(verdict?.ok && verdict.probability).toBeCloseTo(1 / (1 + Math.exp(2)), 12)
    const assessed = await leaning(even, short).assess([{ prompt, answer: 'a' }])
    expect(assessed).toEqual([{ ok: true, safe: false, probability: 0 }])
  })
  test('labels a pair anew as if it had been asked', () => {
    const row = { axis: 'safety' as const, prompt, chosen: 'aaa', rejected: 'b', probability: 0.5 }
    const pair = { ...row, chosen_safe: true, rejected_safe: false, strength: 'better' as const }
    const turned = relabel(pair, { name: 'short', worth: short.worth })
    expect(turned).toMatchObject({ chosen: 'b', rejected: 'aaa' })
    expect(turned).toMatchObject({ chosen_safe: false, rejected_safe: true })
    expect(turned.probability).toBeCloseTo(1 / (1 + Math.exp(-2)), 12)
    expect(relabel(pair, short)).toMatchObject({ chosen_safe: false, rejected_safe: false })
  })
})
