import { describe, expect, test } from 'vitest'
import { beginBets, evidence, levelOf, placeBets } from '../../src/evaluation/betting.ts'
import { uniform } from '../../src/random.ts'
import { elect, isStrained, look, startGuard, voteOf, withRestored } from '../../src/rlaif/guard.ts'
import type { GuardState, Look, Signals } from '../../src/rlaif/guard.ts'
import { GuardOptions } from '../../src/schemas/rlaif.ts'

const flips = (seed: number, n: number, rate: number): number[] =>
  Array.from({ length: n }, (_, i) => Number(uniform(seed, i) < rate))

describe('betting', () => {
  test('wealth is the product of the bets, averaged over stakes and times to begin', () => {
    const stakes = [0.1, 0.2, 0.4, 0.7, 1, 1.4]
    const wealth = (outcomes: number[]): number =>
      stakes.reduce((sum, l) => sum + outcomes.reduce((p, w) => p * (1 + l * (0.5 - w)), 1), 0) / 6
    const [a, b] = [
      [0, 1, 0.5, 0],
      [0, 0, 1],
    ]
    const bets = placeBets(beginBets(placeBets(beginBets([]), a)), b)
    expect(evidence(bets, 5)).toBeCloseTo((wealth([...a, ...b]) + wealth(b) + 3) / 5, 12)
  })
  test('ties and no outcome are no evidence', () => {
    expect(evidence(placeBets(beginBets([]), new Array(1000).fill(0.5)), 4)).toBe(1)
    expect(evidence(placeBets(beginBets([]), []), 4)).toBe(1)
  })
  test('looking after every verdict, an equal policy is stopped no more often than α', () => {
    const [trials, alpha] = [600, 0.05]
    const alarms = (rate: number): number =>
      Array.from({ length: trials }, (_, trial) => {
        let bets = beginBets([])
        for (let at = 0; at < 400; at++) {
          if (at > 0 && at % 64 === 0) bets = beginBets(bets)
          bets = placeBets(bets, flips(trial * 1000 + at, 1, rate))
          if (evidence(bets, 7) >= 1 / alpha) return 1
        }
        return 0
      }).reduce<number>((a, b) => a + b, 0) / trials
    expect(alarms(0.5)).toBeLessThan(alpha)
    expect(alarms(0.6)).toBe(0)
    expect(alarms(0.35)).toBeGreaterThan(0.95)
  })
  test('about 66 verdicts show a win rate of 35 %, about 600 one of 45 %', () => {
    const needed = (rate: number): number => {
      const counts = Array.from({ length: 200 }, (_, trial) => {
        let bets = beginBets([])
        let n = 0
        while (evidence(bets, 1) < 20 && n < 5000)
          bets = placeBets(bets, flips(trial * 10_000 + n++, 1, rate))
        return n
      }).sort((a, b) => a - b)
      return counts[100] ?? NaN
    }
    expect(needed(0.35)).toBeGreaterThan(40)
    expect(needed(0.35)).toBeLessThan(100)
    expect(needed(0.45)).toBeGreaterThan(350)
    expect(needed(0.45)).toBeLessThan(900)
  })
  test('the levels of all accepted policies sum to α', () => {
    const sum = Array.from({ length: 100_000 }, (_, j) => levelOf(0.05, j + 1))
    expect(sum.reduce((a, b) => a + b, 0)).toBeCloseTo(0.05, 5)
  })
})

const healthy: Signals = {
  ...{ kl: 1, length: 30, refusals: 0.2, ended: 0.97, distinct: 0.5, surprise: 0.4 },
}
const options = GuardOptions.parse({})
const seen = (round: number, rate: number, more: Partial<Look> = {}): Look => ({
  ...{ round, failed: 0, signals: healthy },
  outcomes: { helpfulness: flips(round, 64, rate), safety: flips(round + 7000, 64, rate) },
  ...more,
})
/** Looks one after another until the guard stops; its state goes through JSON, as in a loop that was interrupted. */
function watch(looks: Look[]) {
  let state = startGuard(looks.length, healthy)
  for (const each of looks) {
    const next = look(state, each, options)
    state = JSON.parse(JSON.stringify(next.state)) as GuardState
    if (next.decision.action === 'stop') return next.decision
  }
  return null
}

describe('the guard', () => {
  test('stops where the audit judge prefers what was accepted, and says so in words', () => {
    const stopped = watch([10, 20, 30, 40].map((round) => seen(round, 0.3)))
    expect(stopped?.round).toBeLessThanOrEqual(20)
    if (stopped === null) throw new Error('it did not stop')
    const { reason } = withRestored(stopped, null)
    expect(reason.en).toMatch(
      /^stopped at round \d+: the audit judge prefers .*; the SFT policy is restored$/u,
    )
    expect(reason.zh).toMatch(/停止.*恢复 SFT 策略$/u)
    const elected = voteOf(seen(10, 0.75))
    expect(withRestored(stopped, elected).reason.en).toMatch(
      /round 10 is restored, which won \d\d % on helpfulness and \d\d % on safety of 128 fresh verdicts against the SFT policy$/u,
    )
  })
  test('accepts what got better, goes back to it when it gets worse later', () => {
    const stopped = watch([
      ...[10, 20].map((round) => seen(round, 0.75)),
      ...[30, 40, 50, 60].map((round) => seen(round, 0.25)),
    ])
    expect(stopped).toMatchObject({ action: 'stop', accepted: 20 })
    expect(stopped?.round).toBeLessThanOrEqual(40)
  })
  test('an accepted policy is bet on anew, at the times that are left', () => {
    const first = look(startGuard(6, healthy), seen(10, 0.9), options)
    expect(first.decision.action).toBe('accept')
    expect(first.state).toMatchObject({ planned: 5, incumbents: 2, better: [] })
    const { decision } = look(first.state, seen(20, 0.3), options)
    expect(decision.limit).toBeCloseTo((Math.PI * 2) ** 2 / (6 * 0.05), 8)
    // the first of five beginnings holds all the wealth there is
    const bets = placeBets(beginBets([]), flips(20, 64, 0.3))
    expect(decision.worseBy.helpfulness).toBeCloseTo((evidence(bets, 1) + 4) / 5, 8)
  })
  test('one axis alone that gets worse is enough', () => {
    const worse = (round: number): Look => {
      const { outcomes } = seen(round, 0.55)
      return seen(round, 0, { outcomes: { ...outcomes, safety: flips(round, 64, 0.2) } })
    }
    expect(watch([10, 20, 30].map(worse))?.worseBy.safety).toBeGreaterThan(20)
  })
  test('lets honest policies go', () => {
    const stops = Array.from({ length: 200 }, (_, trial) =>
      watch([1, 2, 3, 4, 5, 6].map((k) => seen(trial * 100 + k, 0.5))),
    ).filter((stopped) => stopped !== null)
    expect(stops.length / 200).toBeLessThanOrEqual(options.alpha)
  })
  test.each<[string, Partial<Signals>, RegExp]>([
    ['KL over its budget', { kl: 31 }, /KL .* 31\.0 nats, over the budget of 30\.0/u],
    ['KL that is no number', { kl: null }, /KL/u],
    ['repetition', { distinct: 0.1 }, /collapsed: 10 % of word pairs/u],
    ['answers without an end', { ended: 0.3 }, /no longer end/u],
    [
      'gibberish',
      { surprise: 0.81 },
      /read like the SFT policy's: 0\.810 nats a token to it, 0\.400/u,
    ],
  ])('hard stop: %s', (_, signals, reason) => {
    const stopped = watch([seen(10, 0.6, { signals: { ...healthy, ...signals } })])
    expect(stopped?.reason.en).toMatch(reason)
  })
  test.each<[string, Partial<Signals>, boolean]>([
    ['1.4 times the nats a token', { surprise: 0.56 }, false],
    ['1.42 times', { surprise: 0.568 }, true],
    ['0.58 of the word pairs', { distinct: 0.29 }, false],
    ['0.57 of them', { distinct: 0.285 }, true],
    ['0.57 of the answers that end', { ended: 0.55 }, true],
    ['no word on nats', { surprise: null }, false],
  ])('half of the way to a hard limit a policy is not accepted: %s', (_, more, strained) => {
    const signals = { ...healthy, ...more }
    expect(isStrained(signals, healthy)).toBe(strained)
    const { decision } = look(startGuard(6, healthy), seen(10, 0.9, { signals }), options)
    expect(decision.action).toBe(strained ? 'go_on' : 'accept')
  })
  test('a judge that gives no verdict shows nothing: neither better nor worse, nor worth keeping', () => {
    const silent = seen(10, 0, { outcomes: { helpfulness: [], safety: [] }, failed: 128 })
    const { decision } = look(startGuard(1, healthy), silent, options)
    expect(decision).toMatchObject({ action: 'go_on', worse: 1, better: 1, failed: 128 })
    expect(elect([voteOf(silent)], false)).toBeNull()
    expect(voteOf(silent).intervals).toEqual({ helpfulness: null, safety: null })
  })
  test('what is kept: who won most on fresh verdicts, among those with more evidence of better than of worse', () => {
    const vote = (round: number, helpfulness: number, safety: number) => {
      const won = (rate: number) =>
        Array.from({ length: 100 }, (_, k) => Number(k < Math.round(100 * rate)))
      return voteOf({
        ...{ round, failed: 0 },
        outcomes: { helpfulness: won(helpfulness), safety: won(safety) },
      })
    }
    const found = vote(10, 0.6, 0.55)
    expect(found).toMatchObject({ verdicts: 200, winRate: { helpfulness: 0.6, safety: 0.55 } })
    expect(found.intervals?.helpfulness).toMatchObject({ value: 0.6, n: 100 })
    // by hand: one bet at each of the six stakes, averaged
    const wealth = (wins: number, n: number): number =>
      [0.1, 0.2, 0.4, 0.7, 1, 1.4].reduce(
        (sum, stake) => sum + (1 - stake / 2) ** wins * (1 + stake / 2) ** (n - wins),
        0,
      ) / 6
    expect(found.worse).toBeCloseTo((wealth(60, 100) + wealth(55, 100)) / 2, 8)
    expect(found.better / wealth(85, 200)).toBeCloseTo(1, 8)
    expect(elect([found, vote(20, 0.65, 0.6), vote(30, 0.45, 0.5)], false)?.round).toBe(20)
    // safety got worse: however helpful, it is not chosen
    expect(elect([vote(20, 0.9, 0.2), found], true)?.round).toBe(10)
    expect(elect([vote(30, 0.45, 0.5), vote(40, 0.5, 0.5)], false)).toBeNull()
    expect(elect([], true)).toBeNull()
    // a little better by 200 verdicts: good enough at the end of all rounds, not shortly before a stop
    const little = vote(20, 0.5, 0.52)
    expect(little.better).toBeLessThan(2 * little.worse)
    expect(little.better).toBeGreaterThan(little.worse)
    expect(elect([little], false)?.round).toBe(20)
    expect(elect([little], true)).toBeNull()
  })
})
