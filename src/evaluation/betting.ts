/**
 * Testing by betting: is the new policy worse than the accepted one? Each fresh verdict is bet on; where the null holds
 * ("at least as good", a mean outcome of ½ or more whatever came before) nobody gets rich, so wealth is evidence that
 * may be looked at after every verdict (Waudby-Smith & Ramdas 2024; Ville's inequality).
 */

/** λ of the bets that are held side by side; a mixture needs no tuning. All are below 2, so no verdict ruins a bet. */
const STAKES = [0.1, 0.2, 0.4, 0.7, 1, 1.4]

/** The logarithm of the wealth of each stake, for each time at which betting has begun. */
export type Bets = number[][]

/** From here on it is bet anew as well: a policy that got better first and worse later is seen by the late bets. */
export const beginBets = (bets: Bets): Bets => [...bets, STAKES.map(() => 0)]

/** Bets on outcomes w in [0, 1], 1 where the new one won: each wealth is multiplied by 1 + λ(½ − w). */
export const placeBets = (bets: Bets, outcomes: readonly number[]): Bets =>
  bets.map((logs) =>
    logs.map((log, k) =>
      outcomes.reduce((sum, w) => sum + Math.log1p((STAKES[k] ?? 0) * (0.5 - w)), log),
    ),
  )

/**
 * The e-value: mean wealth over the stakes and over `planned` times to begin, those not yet begun counting 1. Under the
 * null it reaches 1/α with probability at most α, however often it is looked at.
 */
export function evidence(bets: Bets, planned: number): number {
  const begun = bets.reduce(
    (sum, logs) =>
      sum + logs.reduce((part, log) => part + Math.exp(Math.min(log, 600)), 0) / logs.length,
    0,
  )
  return (begun + Math.max(0, planned - bets.length)) / Math.max(planned, bets.length)
}

/** The level of the j-th accepted policy, j from 1: 6α/(π²j²), which sums to α over all of them. */
export const levelOf = (alpha: number, j: number): number => (6 * alpha) / (Math.PI * j) ** 2
