import type { PolicyFigure } from './policy-measures.ts'
import { comparedMeans } from './shares.ts'
import { statisticOfSums } from './statistics.ts'
import type { Interval } from './statistics.ts'

/** Of one policy on one row: whether the fact was right (null: not asked), and the likelihood of the given text. */
export type TaxedRow = {
  cluster: string
  right: number | null
  logprob: number
  tokens: number
  /** of the given text, UTF-8 */
  bytes: number
}

/** Writing that two answers may differ in: width, case, spaces and marks. */
const plain = (text: string): string =>
  text
    .normalize('NFKC')
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}]+/gu, ' ')
    .trim()
/** Whether an answer states one of the facts: as words of its own, or in Chinese as a run of characters. */
export function states(answer: string, facts: readonly string[]): boolean {
  const said = plain(answer)
  return facts.some((fact) => {
    const wanted = plain(fact)
    if (wanted === '') return false
    return /\p{Script=Han}/u.test(wanted)
      ? said.includes(wanted)
      : ` ${said} `.includes(` ${wanted} `)
  })
}

/**
 * What alignment cost: facts that are still right, and how well the given texts are still foretold, exp(−Σ log π/Σ
 * tokens) and −Σ log₂ π/Σ bytes. before, after [rows] of the same texts; 95 % intervals by bootstrap over clusters.
 */
export function taxFigures(
  policy: string,
  before: readonly TaxedRow[],
  after: readonly TaxedRow[],
  seed: number,
): PolicyFigure[] {
  const clusters = before.map(({ cluster }) => cluster)
  const texts = (
    figure: string,
    of: (logprob: number, tokens: number, bytes: number) => number,
  ): PolicyFigure => {
    const features = before.map(({ logprob, tokens, bytes }, i) => [
      ...[logprob, tokens, bytes],
      ...[after[i]?.logprob ?? NaN, after[i]?.tokens ?? NaN],
    ])
    const statistic = (pick: (old: number, now: number) => number): Interval =>
      statisticOfSums(
        features,
        clusters,
        ([l0 = NaN, t0 = NaN, b = NaN, l1 = NaN, t1 = NaN]) => pick(of(l0, t0, b), of(l1, t1, b)),
        seed,
      )
    return {
      ...{ figure, policy, ...statistic((old, now) => now - old) },
      ...{ before: statistic((old) => old), after: statistic((_, now) => now) },
    }
  }
  const asked = before.flatMap(({ right }, i) => (right === null ? [] : [i]))
  const facts = (rows: readonly TaxedRow[]): number[] => asked.map((i) => rows[i]?.right ?? NaN)
  const own = asked.map((i) => clusters[i] ?? '')
  const { p: _, ...right } = comparedMeans(facts(before), facts(after), own, seed, { most: 1 })
  return [
    ...(asked.length === 0 ? [] : [{ figure: 'right answers, facts', policy, ...right }]),
    texts('perplexity of given texts', (logprob, tokens) => Math.exp(-logprob / tokens)),
    texts('bits per byte of given texts', (logprob, _tokens, bytes) => -logprob / Math.LN2 / bytes),
  ]
}
