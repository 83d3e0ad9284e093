import { expect, test } from 'vitest'
import type { Ballot, GuardReport } from '../../src/rlaif/guarded.ts'
import { RlaifOptions } from '../../src/schemas/rlaif.ts'
import { guardWarnings, voteRows } from '../../src/services/guard.ts'
import { ballotOf, guardOfTwo } from '../helpers/ballots.ts'

const options = RlaifOptions.parse({ guard: {} })
/** Looked at after rounds 5 and 10; the one of round 5 was accepted. */
const report = (votes: readonly { round: number; verdicts: number }[]): GuardReport => ({
  decisions: [5, 10].map((round) => ({ round }) as GuardReport['decisions'][number]),
  ballots: [
    {
      ...ballotOf([], { accepted: 5, kept: 5 }),
      votes: votes.map((vote) => vote as Ballot['votes'][number]),
    },
  ],
  ...{ stopped: false, kept: 5 },
})

test('why an earlier policy is kept: none beat it, none could be voted on, or nobody said anything', () => {
  const said = (guard: GuardReport): string => guardWarnings(options, guard).join()
  expect(said(report([{ round: 10, verdicts: 40 }]))).toMatch(/fresh verdicts none .* did better/)
  expect(said(report([{ round: 10, verdicts: 0 }]))).toMatch(/gave no verdict/)
  expect(said(report([]))).toMatch(/half of the way to a hard limit, so nobody voted/)
  expect(guardWarnings(options, { ...report([]), kept: 10 })).toEqual([])
})

test('every policy of a ballot has its row, and why it is kept or not', () => {
  const told = (guard: Parameters<typeof voteRows>[0]) =>
    voteRows(guard).map(({ policy, kept, outcome }) => [policy.en, kept, outcome.en.split(';')[0]])
  expect(told(guardOfTwo)).toEqual([
    ['the SFT policy', false, 'accepted before, what the others are held against'],
    ['round 10', false, 'not elected: another won as much or more'],
    ['round 20', true, 'kept: elected'],
    ['round 30', false, 'not voted on: more than half of the way to a hard limit'],
    ['round 40', false, 'not elected: no more evidence of better than of worse'],
    ['round 20', true, 'kept: accepted before, and none is elected'],
    ['round 50', false, 'not elected: too little evidence of better'],
    ['round 60', false, 'not voted on: the guard stopped at it'],
  ])
  // one that was just accepted stands alone; a loop without a guard, and one of before, has no ballots
  expect(voteRows({ ballots: [ballotOf([], { accepted: 5, kept: 5 })] })).toEqual([])
  expect([voteRows(null), voteRows({})]).toEqual([[], []])
})
