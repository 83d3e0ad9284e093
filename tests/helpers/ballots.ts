import { voteOf } from '../../src/rlaif/guard.ts'
import type { Ballot } from '../../src/rlaif/guarded.ts'
import type { GuardReport } from '../../src/services/guard.ts'

/** Outcomes of verdicts by how many were won, tied and lost. */
export const outcomesOf = (won: number, tied: number, lost: number): number[] => [
  ...new Array<number>(won).fill(1),
  ...new Array<number>(tied).fill(0.5),
  ...new Array<number>(lost).fill(0),
]

/** A ballot at which policies won so many of 100 verdicts on each axis. */
export const ballotOf = (
  wins: readonly (readonly [round: number, helpfulness: number, safety: number])[],
  more: Pick<Ballot, 'kept'> & Partial<Ballot>,
): Ballot => ({
  ...{ accepted: 0, strained: [], stopped: null },
  votes: wins.map(([round, helpfulness, safety]) =>
    voteOf({
      ...{ round, failed: 0 },
      outcomes: {
        helpfulness: outcomesOf(helpfulness, 0, 100 - helpfulness),
        safety: outcomesOf(safety, 0, 100 - safety),
      },
    }),
  ),
  ...more,
})

/** A loop of two iterations: one policy elected, then a stop after which none is. */
export const guardOfTwo: GuardReport = {
  decisions: [],
  ballots: [
    ballotOf(
      [
        [10, 58, 55],
        [20, 66, 60],
        [40, 40, 52],
      ],
      { strained: [30], kept: 20 },
    ),
    ballotOf([[50, 50, 52]], { accepted: 20, stopped: 60, kept: 20 }),
  ],
  ...{ stopped: true, kept: 20 },
}
