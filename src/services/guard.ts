import { LibraError } from '../errors.ts'
import type { Report } from '../evaluation/report.ts'
import type { Bilingual, VoteRow } from '../evaluation/report-votes.ts'
import type { Judge } from '../judging/judge.ts'
import { policyOfRound, standingOf } from '../rlaif/guard.ts'
import type { Standing } from '../rlaif/guard.ts'
import type { GuardReport } from '../rlaif/guarded.ts'
import { AXES } from '../schemas/feedback.ts'
import type { PromptRow } from '../schemas/feedback.ts'
import type { RlaifOptions } from '../schemas/rlaif.ts'
import type { RunRequest } from '../schemas/run.ts'
import { prompts as starterPrompts } from '../starter/world.ts'
import { findBase, STARTER_AUDIT_JUDGE, STARTER_TWIN } from './catalog.ts'
import { openJudge } from './judges.ts'
import type { Services } from './services.ts'

export type { GuardReport }

/** Prompts of the starter world that neither training nor the evaluation uses. */
export const guardPrompts = (seed: number): PromptRow[] =>
  starterPrompts('guard', seed).map(({ id, messages }) => ({ id, messages }))

/**
 * The judge that the guard of a loop goes by, or null where there is none or no guard is wanted: neither by the loop's
 * own options nor by those of any iteration, which a change may have made others. Throws `conflicting_options` where it
 * is the judge that labels: what that one overrates it would overrate again; and where one is named for no guard.
 */
export async function openAuditor(
  services: Services,
  request: Extract<RunRequest, { kind: 'rlaif' }>,
  plans: readonly { options: RlaifOptions }[],
  judge: Judge,
): Promise<Judge | null> {
  const { audit_judge: asked, prompts_file: own } = request
  const wanted = [request, ...plans].some(({ options }) => options.guard !== null)
  if (!wanted && asked !== undefined)
    throw new LibraError(
      'conflicting_options',
      `audit_judge: options.guard is null, so nobody would ask ${asked}`,
      { details: { field: 'audit_judge' } },
    )
  const name = asked ?? (own === undefined ? STARTER_AUDIT_JUDGE : undefined)
  if (!wanted || name === undefined) return null
  const auditor = await openJudge(services, name)
  const [audits, labels] = [await auditor.version(), await judge.version()]
  if (audits === labels && auditor.promptVersion === judge.promptVersion)
    throw new LibraError(
      'conflicting_options',
      `audit_judge: ${name} is the judge that labels; name another model or a judge with another prompt`,
      { details: { field: 'audit_judge' } },
    )
  return auditor
}

/**
 * The base of the reward models' twins, or null where there are none. Throws `conflicting_options` where it is the base
 * that the loop itself starts from, or nobody would look at them; `wrong_model_kind` where it has an adapter or is a
 * reward model.
 */
export async function openTwins(
  { store }: Pick<Services, 'store'>,
  request: Extract<RunRequest, { kind: 'rlaif' }>,
  base: string,
  watched: boolean,
): Promise<string | null> {
  const { twin_base: asked, prompts_file: own } = request
  const refuse = (why: string): LibraError =>
    new LibraError('conflicting_options', `twin_base: ${why}`, { details: { field: 'twin_base' } })
  if (!watched) {
    if (asked === undefined) return null
    throw refuse('the guard shows the twins, and it does not look here')
  }
  const name = asked ?? (own === undefined ? STARTER_TWIN : undefined)
  if (name === undefined) return null
  const twin = await findBase(store, name, 'twin_base')
  if (twin !== base) return twin
  // whoever aligns the twin's own base is told nothing new by it
  if (asked === undefined) return null
  throw refuse(`${name} is the base of the loop; name one of another kind`)
}

/** What a loop's report says of its guard first. */
export function guardWarnings(
  { guard: wanted }: RlaifOptions,
  guard: GuardReport | null,
): string[] {
  if (wanted === null) return []
  if (guard === null)
    return [
      'The guard did not look: it needs an audit_judge, another judge than the one that labels. 护栏未启用：需要 audit_judge（须不同于标注评审）。',
    ]
  const last = guard.decisions.at(-1)
  if (guard.stopped && last !== undefined) return [`${last.reason.en}. ${last.reason.zh}。`]
  if (last === undefined || guard.kept === last.round) return []
  const { en, zh } = policyOfRound(guard.kept)
  const votes = guard.ballots.at(-1)?.votes ?? []
  if (!votes.some(({ round }) => round > guard.kept))
    return [
      `What came after ${en} was more than half of the way to a hard limit, so nobody voted on it: ${en} is kept. ${zh}之后的策略距硬性界限已过半，不予表决，故保留${zh}。`,
    ]
  return votes.every(({ verdicts }) => verdicts === 0)
    ? [
        `At the end the audit judge gave no verdict: ${en}, the last policy that is known to be as good, is kept. 最后的审计没有判定，保留${zh}。`,
      ]
    : [
        `On the audit judge's fresh verdicts none of the policies after ${en} did better: it is kept. 在审计评审的新判定中，之后的策略均未胜过${zh}，故予保留。`,
      ]
}

export function guardPlots(guard: GuardReport | null): Report['curves'] {
  if (guard === null) return []
  const { decisions } = guard
  const steps = decisions.map(({ round }) => round)
  return [
    {
      title: 'Guard: win rate against the accepted policy 护栏：对已接受策略的胜率',
      curves: (['helpfulness', 'safety'] as const).map((axis) => ({
        ...{ name: axis, steps },
        values: decisions.map(({ winRate }) => winRate[axis]),
      })),
    },
    ...opinionPlots(decisions),
    {
      title: 'Guard: log₁₀ of the evidence of worse, and its limit 护栏：变差证据的对数与界限',
      curves: [
        { name: 'evidence', steps, values: decisions.map(({ worse }) => Math.log10(worse)) },
        { name: 'limit', steps, values: decisions.map(({ limit }) => Math.log10(limit)) },
      ],
    },
  ]
}

/** Where the models that teach and their twins part, the policy has learned what is theirs alone. */
function opinionPlots(decisions: GuardReport['decisions']): Report['curves'] {
  if (!decisions.some(({ opinions }) => opinions !== undefined)) return []
  const steps = decisions.map(({ round }) => round)
  return AXES.map((axis) => ({
    title: `Guard: ${axis}, won by the reward model and by its twin 护栏：奖励模型与孪生模型判定的胜率`,
    curves: (['own', 'twins'] as const).map((who) => ({
      ...{ name: who === 'own' ? 'reward model' : 'twin', steps },
      values: decisions.map(({ opinions }) => opinions?.[who][axis] ?? null),
    })),
  }))
}

const OUTCOMES: Record<Standing | 'accepted' | 'remains' | 'strained' | 'stopped', Bilingual> = {
  accepted: { en: 'accepted before, what the others are held against', zh: '此前已接受，供比较' },
  remains: {
    en: 'kept: accepted before, and none is elected',
    zh: '保留：此前已接受，且无策略当选',
  },
  kept: { en: 'kept: elected', zh: '保留：当选' },
  won_less: { en: 'not elected: another won as much or more', zh: '未当选：另一策略胜率不低于它' },
  no_better: {
    en: 'not elected: no more evidence of better than of worse',
    zh: '未当选：变好的证据不多于变差的证据',
  },
  unproven: {
    en: 'not elected: too little evidence of better; after a stop it takes twice that of worse',
    zh: '未当选：变好的证据不足，停止之后须达到变差证据的两倍',
  },
  strained: {
    en: 'not voted on: more than half of the way to a hard limit',
    zh: '不予表决：距硬性界限已过半',
  },
  stopped: { en: 'not voted on: the guard stopped at it', zh: '不予表决：护栏在此停止' },
}

/** Each ballot as rows of its report: the accepted policy, then those that came after it. */
export const voteRows = (guard: Partial<GuardReport> | null): VoteRow[] =>
  (guard?.ballots ?? []).flatMap(({ accepted, votes, strained, stopped, kept }) => {
    const row = (round: number, outcome: keyof typeof OUTCOMES) => ({
      ...{ round, policy: policyOfRound(round), kept: round === kept },
      ...{ accepted: round === accepted, outcome: OUTCOMES[outcome], vote: null },
    })
    const others: VoteRow[] = [
      ...votes.map((vote) => ({
        ...row(vote.round, standingOf(vote, kept, stopped !== null)),
        vote: { winRate: vote.intervals ?? {}, better: vote.better, worse: vote.worse },
      })),
      ...strained.map((round) => row(round, 'strained')),
      ...(stopped === null ? [] : [row(stopped, 'stopped')]),
    ]
    return others.length === 0
      ? []
      : [
          row(accepted, kept === accepted ? 'remains' : 'accepted'),
          ...others.toSorted((a, b) => a.round - b.round),
        ]
  })
