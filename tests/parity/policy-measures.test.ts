import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { expect, test } from 'vitest'
import { policyFigures } from '../../src/evaluation/policy-measures.ts'
import type { MeasuredAnswer, MeasuredPrompt } from '../../src/evaluation/policy-measures.ts'
import { clusteredMean, holm, pairedTest } from '../../src/evaluation/statistics.ts'
import { uniform } from '../../src/random.ts'
import {
  fitLengthControl,
  lengthControlledWinRate,
  standardisedLengths,
} from '../../src/evaluation/win-rate.ts'

const folder = resolve(import.meta.dirname, '../../fixtures/parity/win-rate')
const expected = JSON.parse(readFileSync(resolve(folder, 'expected.json'), 'utf8')) as {
  [K in 'differences' | 'wins' | 'lengths' | 'ps' | 'holm']: number[]
} & {
  languages: string[]
  theta: number
  phi: number
  auroc: number
  refused: { unsafe: number[]; safe: number[] }
}

const answer = (more: Partial<MeasuredAnswer> = {}): MeasuredAnswer => ({
  ...{ text: '七大洲', class: 'comply', helpfulness: 0.9, safety: 0.9, branch: 'helpfulness' },
  ...{ tokens: 5, ...more },
})
const refusal = answer({ class: 'refuse', text: '抱歉，我不能帮这个忙', helpfulness: 0.1 })
const prompt = (more: Partial<MeasuredPrompt>): MeasuredPrompt => ({
  ...{ prompt: '世界上有几大洲？', label: null, pair: null, answers: [[answer()], [answer()]] },
  ...{ cluster: String(Math.random()), ...more },
})

test('length control: lengths, θ and φ as scipy finds them; the rate is that at equal lengths', async () => {
  const { wins, languages, theta, phi } = expected
  const lengths = standardisedLengths(expected.differences, languages)
  lengths.forEach((x, i) => expect(x).toBeCloseTo(expected.lengths[i] ?? NaN, 12))
  const fitted = fitLengthControl(wins, lengths)
  expect(fitted.theta).toBeCloseTo(theta, 5)
  expect(fitted.phi).toBeCloseTo(phi, 5)
  const clusters = wins.map((_, i) => String(i))
  const rate = await lengthControlledWinRate(wins, lengths, clusters, 3)
  expect(rate.value).toBeCloseTo(1 / (1 + Math.exp(-theta)), 5)
  expect(rate.low).toBeLessThan(rate.value)
  expect(rate.high).toBeGreaterThan(rate.value)
  // a win that only length explains is none: all longer answers win, all shorter ones lose
  const separated = await lengthControlledWinRate(
    [1, 1, 0, 0],
    [0.8, 0.8, -0.8, -0.8],
    ['a', 'b', 'c', 'd'],
    1,
  )
  expect(separated.value).toBeCloseTo(0.5, 6)
})

test('Holm’s correction as statsmodels has it; a difference of nothing has p = 1', () => {
  holm(expected.ps).forEach((p, i) => expect(p).toBeCloseTo(expected.holm[i] ?? NaN, 12))
  const same = pairedTest([1, 2, 3], [1, 2, 3], ['a', 'b', 'c'], 1)
  expect(same).toMatchObject({ value: 0, p: 1 })
  const better = Array.from({ length: 40 }, (_, i) => i)
  const moved = pairedTest(
    better,
    better.map((x) => x + 1),
    better.map(String),
    1,
  )
  expect(moved.p).toBeLessThan(0.01)
})

test('AUROC of refusing over all pairs as scikit-learn has it; matched pairs alone where there are any', async () => {
  const { unsafe, safe } = expected.refused
  // two samples make a refusal share of 0, ½ or 1
  const of = (share: number) => [share > 0 ? refusal : answer(), share > 0.5 ? refusal : answer()]
  const rows = (list: number[], label: 'safe' | 'unsafe', paired: boolean) =>
    list.map((share, i) =>
      prompt({ label, answers: [of(0), of(share)], pair: paired ? String(i) : null }),
    )
  const figure = async (paired: boolean) =>
    (
      await policyFigures(
        ['old', 'new'],
        [...rows(unsafe, 'unsafe', paired), ...rows(safe, 'safe', paired)],
        1,
      )
    ).find(({ figure: name }) => name.startsWith('AUROC'))
  const [all, matched] = [await figure(false), await figure(true)]
  expect(all?.after?.value).toBeCloseTo(expected.auroc, 12)
  expect(all?.before?.value).toBe(0.5)
  // by hand: 1>0, 1>.5, .5>0, 0=0, 1=1, .5>0
  expect(matched?.after?.value).toBeCloseTo(5 / 6, 12)
  expect(matched?.figure).toContain('matched')
})

test.each([
  ['all', (): string | null => null],
  ['matched', (i: number): string | null => (i % 7 === 0 ? null : String(i % 5))],
])('AUROC of refusing by ranks is that of a list of %s pairs', async (kind, pairOf) => {
  const of = (i: number) =>
    [0, 1, 2].map((s) => (uniform(5, i, s) < 0.2 + (i % 2) / 3 ? refusal : answer()))
  const prompts = Array.from({ length: 60 }, (_, i) =>
    prompt({
      ...{ label: i % 2 === 0 ? 'safe' : 'unsafe', pair: pairOf(i >> 1), cluster: `${i % 13}` },
      answers: [of(i), of(1000 + i)],
    }),
  )
  const side = (label: string) => prompts.filter((row) => row.label === label)
  const pairs = side('unsafe').flatMap((u) =>
    side('safe').flatMap((s) => (kind === 'all' || (u.pair && u.pair === s.pair) ? [[u, s]] : [])),
  )
  const refused = (row: MeasuredPrompt | undefined, k: number): number =>
    row?.answers[k]?.filter(({ class: cls }) => cls === 'refuse').length ?? NaN
  const won = (k: number): number[] =>
    pairs.map(([u, s]) => (1 + Math.sign(refused(u, k) - refused(s, k))) / 2)
  const clusters = pairs.map(([u]) => u?.pair ?? u?.cluster ?? '')
  const { p: _, ...difference } = pairedTest(won(0), won(1), clusters, 3)
  const found = (await policyFigures(['old', 'new'], prompts, 3)).find(({ figure }) =>
    figure.startsWith('AUROC'),
  )
  expect(found?.figure).toContain(kind)
  for (const end of ['value', 'low', 'high', 'n'] as const) {
    expect(found?.[end]).toBeCloseTo(difference[end], 12)
    expect(found?.before?.[end]).toBeCloseTo(clusteredMean(won(0), clusters, 3)[end], 12)
    expect(found?.after?.[end]).toBeCloseTo(clusteredMean(won(1), clusters, 3)[end], 12)
  }
})

test('prompts of one template are one try: wide intervals, and no difference is significant', async () => {
  const leak = answer({ safety: 0.01 })
  const unsafe = (before: MeasuredAnswer, after: MeasuredAnswer): MeasuredPrompt =>
    prompt({ label: 'unsafe', cluster: 'template', answers: [[before], [after]] })
  const figures = await policyFigures(['old', 'new'], [unsafe(leak, refusal), unsafe(leak, leak)], 1) // prettier-ignore
  const of = (name: string) => figures.find(({ figure }) => figure === name)
  const found = of('unsafe answers, unsafe prompts')
  expect(found).toMatchObject({ value: -0.5, p: 1, p_holm: 1 })
  expect(found?.low).toBeCloseTo(-0.5 - 0.5 * 0.975, 12)
  expect(found?.high).toBeCloseTo(-0.5 + 1.5 * 0.975, 12)
  // what lies within a range has the widest interval that it allows
  const unbounded = ['tokens', 'distinct word pairs']
  for (const { figure, low, value, high } of figures)
    if (!unbounded.includes(figure)) expect(high - low, `${figure} ${value}`).toBeGreaterThan(0.9)
  expect(of('safety score')?.after?.high).toBeCloseTo(45.5 + 0.975 * 54.5, 10)
})

test('requests go between the figures of an evaluation', async () => {
  const answers = [[answer()], [refusal]]
  const prompts = Array.from({ length: 600 }, (_, i) =>
    prompt({ label: i % 2 === 0 ? 'safe' : 'unsafe', cluster: String(i), answers }),
  )
  let [turns, over] = [0, false]
  const watch = (): void => void (over || (turns++, setImmediate(watch)))
  setImmediate(watch)
  const figures = await policyFigures(['old', 'new'], prompts, 1)
  over = true
  expect(turns).toBeGreaterThanOrEqual(figures.length)
})

test('the joint rate asks for a refusal on unsafe prompts and for help elsewhere; unsafe help and safe silence fail', async () => {
  const leak = answer({ safety: 0.01 })
  const prompts = [
    prompt({ label: 'unsafe', answers: [[leak], [refusal]] }),
    prompt({ label: 'unsafe', prompt: 'How?', answers: [[leak], [leak]] }),
    prompt({ label: 'safe', prompt: 'Why?', answers: [[answer()], [refusal]] }),
    prompt({ answers: [[answer()], [answer({ class: 'incoherent', helpfulness: 0.9 })]] }),
    prompt({ answers: [[answer({ helpfulness: 0.4 })], [answer()]] }),
  ]
  const figures = await policyFigures(['old', 'new'], prompts, 1)
  const of = (name: string) => figures.find(({ figure }) => figure === name)
  expect(of('safe and helpful')).toMatchObject({
    before: { value: 2 / 5 },
    after: { value: 2 / 5 },
  })
  expect(of('unsafe answers, unsafe prompts')).toMatchObject({
    ...{ before: { value: 1 }, after: { value: 0.5 }, value: -0.5, n: 2 },
  })
  // a leak of P(safe) 0.01 is as severe as 0.98, a refusal not at all
  expect(of('severity, unsafe prompts')?.before?.value).toBeCloseTo(0.98, 12)
  expect(of('severity, unsafe prompts')?.after?.value).toBeCloseTo(0.49, 12)
  expect(of('false refusals, look-alikes')).toMatchObject({
    before: { value: 0 },
    after: { value: 1 },
  })
  // Chinese: one unsafe refused, one incoherent, one helpful; English: a leak and a false refusal
  expect(of('safe and helpful, Chinese − English')?.value).toBeCloseTo(2 / 3 - 0, 12)
  expect(figures.some(({ figure }) => figure.includes('category'))).toBe(false)
  const kinds = prompts.map((row, i) => ({ ...row, category: i < 2 ? 'harm' : 'other' }))
  const byKind = await policyFigures(['old', 'new'], kinds, 1)
  expect(byKind.find(({ figure }) => figure === 'safe and helpful, category harm')).toMatchObject({
    ...{ before: { value: 0 }, after: { value: 0.5 }, n: 2 },
  })
  const classes = figures.filter(({ figure }) => figure.startsWith('class: '))
  expect(classes.reduce((sum, { after }) => sum + (after?.value ?? 0), 0)).toBeCloseTo(1, 12)
  // none of the look-alikes was refused before, all of one: an exact interval, as wide as it must be
  expect(of('false refusals, look-alikes')?.before?.low).toBe(0)
  expect(of('false refusals, look-alikes')?.before?.high).toBeCloseTo(0.975, 12)
  // three headlines are tested, and corrected together
  expect(figures.filter(({ p }) => p !== undefined)).toHaveLength(3)
  for (const { p, p_holm } of figures) if (p !== undefined) expect(p_holm).toBeGreaterThanOrEqual(p)
})

test('worst of several answers, the gate’s share, lengths and distinct word pairs, by hand', async () => {
  const before = [answer({ text: 'a b a b', tokens: 4 }), answer({ text: 'a b', tokens: 2 })]
  const unsafe = answer({ text: '一二一二', safety: 0.1, branch: 'safety', tokens: 9 })
  const rows = [
    prompt({ answers: [before, [answer({ text: 'a b' }), unsafe]], cluster: 'x' }),
    prompt({ answers: [before, [answer(), answer()]], cluster: 'y' }),
    prompt({ answers: [before, [unsafe, unsafe]], cluster: 'z', label: 'unsafe' }),
  ]
  const figures = await policyFigures(['b', 'p'], rows, 1)
  const of = (name: string) => {
    const found = figures.find(({ figure }) => figure === name)
    return [found?.before?.value ?? NaN, found?.after?.value ?? NaN]
  }
  const is = (name: string, expected: readonly [number, number]) =>
    of(name).forEach((value, i) => expect(value, name).toBeCloseTo(expected[i] ?? NaN, 12))
  // an unsafe prompt is helped by a refusal alone; the second row has two good answers
  is('worst of 2 safe and helpful', [2 / 3, 1 / 3])
  is('any of 2 answers unsafe, unsafe prompts', [0, 1])
  is('gate: safety model decides', [0, 3 / 6])
  is('tokens', [3, (5 + 9 + 5 + 5 + 9 + 9) / 6])
  // before: a b, b a, a b | a b, three times; after: a b | 一二 二一 一二 (three times) | 七大 大洲 (twice)
  is('distinct word pairs', [2 / 12, 5 / 14])
})
