import { expect, test } from 'vitest'
import type { GuardReport } from '../../src/rlaif/guarded.ts'
import { RlaifOptions } from '../../src/schemas/rlaif.ts'
import { guardWarnings } from '../../src/services/guard.ts'

const options = RlaifOptions.parse({ guard: {} })
/** Looked at after rounds 5 and 10; the one of round 5 was accepted. */
const report = (votes: readonly { round: number; verdicts: number }[]): GuardReport => ({
  decisions: [5, 10].map((round) => ({ round }) as GuardReport['decisions'][number]),
  votes: votes.map((vote) => vote as GuardReport['votes'][number]),
  ...{ stopped: false, kept: 5 },
})

test('why an earlier policy is kept: none beat it, none could be voted on, or nobody said anything', () => {
  const said = (guard: GuardReport): string => guardWarnings(options, guard).join()
  expect(said(report([{ round: 10, verdicts: 40 }]))).toMatch(/fresh verdicts none .* did better/)
  expect(said(report([{ round: 10, verdicts: 0 }]))).toMatch(/gave no verdict/)
  expect(said(report([]))).toMatch(/half of the way to a hard limit, so nobody voted/)
  expect(guardWarnings(options, { ...report([]), kept: 10 })).toEqual([])
})
