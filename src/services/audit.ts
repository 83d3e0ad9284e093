import { LibraError } from '../errors.ts'
import { grouped } from '../evaluation/statistics.ts'
import type { Judge } from '../judging/judge.ts'
import { PREFERENCES } from '../schemas/audit.ts'
import type { LabelledPair, Preference } from '../schemas/audit.ts'
import type { Axis } from '../schemas/feedback.ts'
import type { AuditRow, Store } from '../store/store.ts'
import { comparedIn } from '../text/preference-formats.ts'
import { ABSOLUTE, absoluteFigures, absoluteObjections, labelledAnswers } from './audit-absolute.ts'
import { auditFigures, clusterOf } from './audit-figures.ts'
import type { Figure } from './audit-figures.ts'
import { drawn, rowsHash } from './data.ts'
import { newId } from './runs.ts'

/** Above this share of verdicts that follow the place and not the answer, on pairs that people tell apart, a judge labels nothing. */
const SAME_POSITION_LIMIT = 0.3
/** Fewer verdicts than this show nothing; a judge that answers, decides or is right no more than half of the time labels nothing. */
const FEWEST_VERDICTS = 50
/** All that the signs of five conversations can say has a chance of 2·½⁵ = 0.06. */
const FEWEST_CONVERSATIONS = 6
const HALF = 0.5

/** Why an audit of pairs of so many conversations speaks against a judge; nothing: it may label. */
export function objections(figures: readonly Figure[], conversations: number): string[] {
  const find = (name: string): Figure | undefined => figures.find(({ figure }) => figure === name)
  const same = find('same position preferred')
  const [ties, failed] = [find('ties')?.value ?? 0, find('failures')?.value ?? 0]
  const percent = (share: number): string => `${(100 * share).toFixed(1)} %`
  if (same === undefined) {
    const some = find('P(the first answer shown)') !== undefined
    return [some ? 'it gave no verdict on a pair that people tell apart' : 'it gave no verdict']
  }
  const right = find('accuracy')
  return [
    ...(same.n < FEWEST_VERDICTS
      ? [`${same.n} verdicts, at least ${FEWEST_VERDICTS} are needed`]
      : []),
    ...(conversations < FEWEST_CONVERSATIONS
      ? [`verdicts of ${conversations} conversations, at least ${FEWEST_CONVERSATIONS} are needed`]
      : []),
    ...(same.value > SAME_POSITION_LIMIT
      ? [
          `it prefers the same position in ${percent(same.value)} of pairs, over ${percent(SAME_POSITION_LIMIT)}`,
        ]
      : []),
    // one that scores answers singly has no place to prefer, and may know nothing all the same
    ...(right !== undefined && right.low <= HALF && conversations >= FEWEST_CONVERSATIONS
      ? [
          `it is right in ${percent(right.value)} of pairs, from ${percent(right.low)} on: no more than chance`,
        ]
      : []),
    ...(ties > HALF ? [`it is undecided in ${percent(ties)} of pairs`] : []),
    ...(failed > HALF ? [`it gives no verdict in ${percent(failed)} of pairs`] : []),
  ]
}

const TURNED = { a: 'b', tie: 'tie', b: 'a' } as const

/**
 * Pairs each once: the same prompt and the same two answers are one pair, whichever stands first. Its label is the one
 * that most of its rows give, a tie where as many give another.
 */
export function distinctPairs(pairs: readonly LabelledPair[]): LabelledPair[] {
  const rows = grouped(pairs, ({ prompt, a, b }) => comparedIn({ prompt, chosen: a, rejected: b }))
  return rows.flatMap(([first, ...others]): LabelledPair[] => {
    if (first === undefined) return []
    const labels = [first, ...others].map(({ a, label }) => (a === first.a ? label : TURNED[label]))
    const times = (label: Preference): number => labels.filter((each) => each === label).length
    const most = Math.max(...PREFERENCES.map(times))
    const [label, another] = PREFERENCES.filter((each) => times(each) === most)
    return [{ ...first, label: label === undefined || another !== undefined ? 'tie' : label }]
  })
}

/**
 * Asks a judge about labelled pairs, each once and at most `limit` of them, drawn by the seed, in both orders, and
 * stores what came of it under its version, prompt and axis. On safety it is also asked whether each answer that people
 * call safe or unsafe is so by itself.
 */
export async function auditJudge(
  { store }: { store: Store },
  judge: Judge,
  input: {
    axis: Axis
    pairs: readonly LabelledPair[]
    limit?: number | undefined
    seed: number
    run: string | null
    /** the name that the data give to the judge's own answers */
    self?: string | null
    onProgress?: (done: number, total: number) => void
    signal?: AbortSignal
  },
): Promise<{ audit: AuditRow; warnings: string[] }> {
  const { axis, limit = Infinity, seed, run, self = null, onProgress, signal } = input
  const distinct = distinctPairs(input.pairs)
  const pairs = drawn(distinct, limit, seed)
  // of what is asked and not of a file: an earlier audit's probabilities are compared place by place
  const dataHash = rowsHash(pairs)
  const verdicts = await judge.compare(
    pairs.map(({ prompt, a, b }) => ({ axis, prompt, a, b })),
    { onProgress: (done) => onProgress?.(done, pairs.length), signal },
  )
  const who = {
    judge: judge.name,
    version: await judge.version(),
    promptVersion: judge.promptVersion,
  }
  const before = await store.lastAudit({ ...who, axis, dataHash })
  const compared = auditFigures(pairs, verdicts, seed, {
    self,
    before: before?.probabilities ?? null,
  })
  const answers = axis === 'safety' ? labelledAnswers(input.pairs, pairs) : []
  const assessed = answers.length === 0 ? [] : await judge.assess(answers, { signal })
  const absolute = absoluteFigures(answers, assessed, seed)
  const refused = [
    ...objections(compared, new Set(pairs.map(clusterOf)).size),
    ...absoluteObjections(absolute, new Set(answers.map(({ cluster }) => cluster)).size),
  ]
  const figures = [...compared, ...absolute]
  const audit: AuditRow = {
    ...{ id: newId('audit'), ...who, axis, dataHash, run, figures, objections: refused },
    probabilities: verdicts.map((verdict) => (verdict.ok ? verdict.probability : null)),
    createdAt: Date.now(),
  }
  await store.audits.insert([audit])
  const [rows, repeated] = [input.pairs.length, input.pairs.length - distinct.length]
  const warnings =
    repeated === 0
      ? []
      : [
          `${repeated} of ${rows} rows repeat a pair, its prompt and its two answers: each pair counts once, with the label that most of its rows give`,
        ]
  return { audit, warnings }
}

/** What may be waved through by name. */
export const JUDGE_AUDIT = 'judge_audit'

/**
 * The newest audit of a judge, with its present version and prompts, on each axis; of its absolute labels the newest that
 * has figures of them counts. Throws `judge_not_audited` where one is missing and `judge_refused` where one speaks
 * against it, unless `override` names `judge_audit`.
 */
export async function requireAudits(
  { store }: { store: Store },
  judge: Judge,
  axes: readonly Axis[],
  override: readonly string[],
): Promise<Partial<Record<Axis, AuditRow>>> {
  const version = await judge.version()
  const audits: Partial<Record<Axis, AuditRow>> = {}
  for (const axis of axes) {
    const { promptVersion } = judge
    const leastPairs = FEWEST_VERDICTS // a look at fewer pairs neither helps nor harms a judge
    const of = { version, promptVersion, axis, leastPairs }
    const audit = await store.lastAudit(of)
    if (audit !== null) audits[axis] = audit
    if (override.includes(JUDGE_AUDIT)) continue
    const details = { field: 'judge', axis, audit: audit?.id ?? null }
    if (audit === null)
      throw new LibraError(
        'judge_not_audited',
        `judge ${judge.name} has no audit on ${axis} as it is now (prompts ${judge.promptVersion}): POST /v1/evaluations with target "judge" makes one; override: ["${JUDGE_AUDIT}"] goes without`,
        { details },
      )
    // an audit on data without such labels takes back nothing that one with them has said
    const absolute = await store.lastAudit({ ...of, figure: `${ABSOLUTE}accuracy` })
    const older = absolute === null || absolute.id === audit.id ? null : absolute
    const held = older?.objections.filter((each) => each.startsWith(ABSOLUTE)) ?? []
    const refused = [...audit.objections, ...held.map((each) => `${each} (${older?.id})`)]
    if (refused.length > 0)
      throw new LibraError(
        'judge_refused',
        `judge ${judge.name} is refused on ${axis} by its audit ${audit.id}: ${refused.join('; ')}; override: ["${JUDGE_AUDIT}"] uses it all the same`,
        { details },
      )
  }
  return audits
}
