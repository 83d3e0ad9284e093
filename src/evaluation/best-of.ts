/**
 * An upper bound, in nats, of the KL of best-of-n: of the `kept` best of `sampled` independent answers, as a set, to as
 * many answers sampled without choice: ln C(N, n) − (N − n)·Σ_{k = N − n + 1}^{N} 1/k, for one answer the well-known
 * ln N − (N − 1)/N, and 0 where all are kept.
 *
 * It is reached where no answer comes twice and no two are equally good: then the set's density is C(N, n)·F^(N − n)
 * times that of plain samples, with F the chance of an answer to be no better than the worst kept, and ln F is
 * −Σ 1/k in the mean. Duplicates and ties make the KL smaller, since choosing among equals at random moves nothing
 * (Beirami et al. 2024). One answer picked at random from the kept ones is at most bound/n away; the best alone is not:
 * that is the bound of one.
 */
export function bestOfKlBound(sampled: number, kept = 1): number {
  let [choices, worst] = [0, 0]
  for (let i = 0; i < kept; i++) {
    choices += Math.log((sampled - i) / (kept - i))
    worst += (sampled - kept) / (sampled - i)
  }
  return choices - worst
}
