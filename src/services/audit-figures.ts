import { binaryEntropy, cohensKappa, gwetsAc2, lengthControlled } from '../evaluation/agreement.ts'
import { won } from '../evaluation/baselines.ts'
import { clusteredShare, comparedMeans } from '../evaluation/shares.ts'
import { clusteredStatistic } from '../evaluation/statistics.ts'
import type { Interval } from '../evaluation/statistics.ts'
import { isTie } from '../judging/judge.ts'
import type { GivenVerdict, Verdict } from '../judging/judge.ts'
import { FAILURES } from '../judging/respondent.ts'
import { sideOf } from '../judging/ways.ts'
import type { LabelledPair } from '../schemas/audit.ts'
import { conversationOf } from '../text/conversation.ts'

export type Figure = { figure: string } & Interval

const SCALE = { a: 0, tie: 1, b: 2 } as const
const CATEGORIES = 3

type Row = { pair: LabelledPair; verdict: GivenVerdict; cluster: string; right: number }

const length = (text: string): number => [...text].length
export const clusterOf = (pair: LabelledPair): string => pair.cluster ?? conversationOf(pair)
const categoryOf = ({ probability }: GivenVerdict): number =>
  isTie(probability) ? SCALE.tie : probability > 0.5 ? SCALE.a : SCALE.b

/** Whether both orders prefer the answer that stands at the same place, whichever it is. */
const samePosition = ({ consistent }: GivenVerdict): boolean => consistent === false

/**
 * What there is to say of a judge beside people's labels. Intervals by bootstrap over conversations (first user turn).
 * `before`: P(a) of an earlier audit of the same judge on the same pairs, null where it gave none.
 */
export function auditFigures(
  pairs: readonly LabelledPair[],
  verdicts: readonly Verdict[],
  seed: number,
  {
    self = null,
    before = null,
  }: { self?: string | null; before?: readonly (number | null)[] | null },
): Figure[] {
  const rows = pairs.flatMap((pair, i): Row[] => {
    const verdict = verdicts[i]
    if (verdict?.ok !== true) return []
    const forA = won(verdict.probability - 0.5)
    const right = pair.label === 'b' ? 1 - forA : forA
    return [{ pair, verdict, cluster: clusterOf(pair), right }]
  })
  // pairs that people tell apart: where they don't, a judge that follows the place does no harm
  const decided = rows.filter(({ pair }) => pair.label !== 'tie')
  const even = rows.filter(({ pair }) => pair.label === 'tie')
  const mean = (figure: string, from: readonly Row[], value: (row: Row) => number): Figure => ({
    figure,
    ...clusteredShare(
      from.map(value),
      from.map((row) => row.cluster),
      seed,
    ),
  })
  const statistic = (
    figure: string,
    from: readonly Row[],
    of: (rows: readonly Row[]) => number,
  ) => ({
    figure,
    ...clusteredStatistic(from, ({ cluster }) => cluster, of, seed),
  })
  const ratings = (from: readonly Row[]) =>
    from.map(({ pair, verdict }) => [SCALE[pair.label], categoryOf(verdict)] as const)
  const failures = FAILURES.flatMap((failure): Figure[] => {
    const is = verdicts.map((v) => Number(!v.ok && v.failure === failure))
    return is.includes(1)
      ? [{ figure: `failures: ${failure}`, ...clusteredShare(is, pairs.map(clusterOf), seed) }]
      : []
  })
  const figures = [
    mean('accuracy', decided, ({ right }) => right),
    statistic('Cohen’s κ', rows, (some) => cohensKappa(ratings(some), CATEGORIES)),
    statistic('Gwet’s AC2', rows, (some) => gwetsAc2(ratings(some), CATEGORIES)),
    mean('same position preferred', decided, ({ verdict }) => Number(samePosition(verdict))),
    mean('same position preferred, people undecided', even, ({ verdict }) =>
      Number(samePosition(verdict)),
    ),
    mean('P(the first answer shown)', rows, ({ verdict: { orders } }) => {
      const [first, second] = orders
      return ((first ?? 0.5) + 1 - (second ?? 0.5)) / 2
    }),
    mean('ties', decided, ({ verdict }) => Number(categoryOf(verdict) === SCALE.tie)),
    mean('ties, people undecided', even, ({ verdict }) =>
      Number(categoryOf(verdict) === SCALE.tie),
    ),
    mean('soft-label entropy, bits', rows, ({ verdict }) => binaryEntropy(verdict.probability)),
    ...lengthFigures(decided, seed, statistic),
    ...selfPreference(decided, self, seed),
    ...drift(pairs, verdicts, before, seed),
    {
      figure: 'failures',
      ...clusteredShare(
        verdicts.map(({ ok }) => Number(!ok)),
        pairs.map(clusterOf),
        seed,
      ),
    },
    ...failures,
  ]
  return figures.filter(({ n, value }) => n > 0 && !Number.isNaN(value)) // no verdict gives no figure
}

/** judge − people, shares on the same pairs. */
function difference(
  people: readonly number[],
  judge: readonly number[],
  clusters: readonly string[],
  seed: number,
): Interval {
  const { value, low, high, n } = comparedMeans(people, judge, clusters, seed, { most: 1 })
  return { value, low, high, n }
}

/** Whether the judge takes the longer answer more often than people do, and what it is worth where length says nothing. */
function lengthFigures(
  decided: readonly Row[],
  seed: number,
  statistic: (figure: string, from: readonly Row[], of: (rows: readonly Row[]) => number) => Figure,
): Figure[] {
  const longer = decided.filter(({ pair }) => length(pair.a) !== length(pair.b))
  const aIsLonger = ({ pair }: Row): boolean => length(pair.a) > length(pair.b)
  const people = longer.map((row) => Number((row.pair.label === 'a') === aIsLonger(row)))
  const judge = longer.map((row) => {
    const forA = won(row.verdict.probability - 0.5)
    return aIsLonger(row) ? forA : 1 - forA
  })
  const lead = ({ pair }: Row): number =>
    (length(pair.a) - length(pair.b)) * (pair.label === 'a' ? 1 : -1)
  return [
    {
      figure: 'longer preferred, judge − people',
      ...difference(
        people,
        judge,
        longer.map(({ cluster }) => cluster),
        seed,
      ),
    },
    statistic('accuracy, length-controlled', decided, (some) =>
      some.length === 0
        ? NaN
        : lengthControlled(
            some.map(({ right }) => right),
            some.map(lead),
          ).rate,
    ),
  ]
}

/** How much more often the judge takes its own model's answers than people do. */
function selfPreference(decided: readonly Row[], self: string | null, seed: number): Figure[] {
  const own = decided.filter(({ pair }) => (pair.a_by === self) !== (pair.b_by === self))
  if (self === null || own.length === 0) return []
  const people = own.map(({ pair }) => Number((pair.label === 'a') === (pair.a_by === self)))
  const judge = own.map(({ pair, verdict }) => {
    const forA = won(verdict.probability - 0.5)
    return pair.a_by === self ? forA : 1 - forA
  })
  const clusters = own.map(({ cluster }) => cluster)
  return [
    {
      figure: 'own answers preferred, judge − people',
      ...difference(people, judge, clusters, seed),
    },
  ]
}

/** What has changed since the last audit on these pairs: in probability, and on which side of ½. */
function drift(
  pairs: readonly LabelledPair[],
  verdicts: readonly Verdict[],
  before: readonly (number | null)[] | null,
  seed: number,
): Figure[] {
  const both = verdicts.flatMap((verdict, i) => {
    const [old, pair] = [before?.[i] ?? null, pairs[i]]
    return verdict.ok && old !== null && pair !== undefined
      ? [{ old, now: verdict.probability, cluster: clusterOf(pair) }]
      : []
  })
  const mean = (figure: string, value: (row: (typeof both)[number]) => number): Figure => ({
    figure,
    ...clusteredShare(
      both.map(value),
      both.map(({ cluster }) => cluster),
      seed,
    ),
  })
  return both.length === 0
    ? []
    : [
        mean('drift: mean ∣ΔP∣', ({ old, now }) => Math.abs(now - old)),
        mean('drift: preferences turned', ({ old, now }) =>
          Number(sideOf(old) * sideOf(now) === -1),
        ),
      ]
}
