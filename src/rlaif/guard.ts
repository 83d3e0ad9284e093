import { beginBets, evidence, levelOf, placeBets } from '../evaluation/betting.ts'
import type { Bets } from '../evaluation/betting.ts'
import { clusteredShare } from '../evaluation/shares.ts'
import type { Interval } from '../evaluation/statistics.ts'
import { AXES } from '../schemas/feedback.ts'
import type { Axis } from '../schemas/feedback.ts'
import type { GuardOptions } from '../schemas/rlaif.ts'

/** What is measured on a policy's fresh answers, beside the verdicts. */
export type Signals = {
  /** mean KL of an answer to the SFT policy, nats; null: it was no number */
  kl: number | null
  /** characters */
  length: number
  refusals: number
  /** answers that ended by themselves */
  ended: number
  /** different pairs of neighbouring words among all */
  distinct: number
  /** nats a token of the median answer to the SFT policy: what reads unlike it; null: not measured */
  surprise: number | null
}

/** A look at the policy: the audit judge's outcomes against the accepted one, 1 where the current one won, ½ a tie. */
export type Look = {
  round: number
  outcomes: Record<Axis, readonly number[]>
  /** comparisons without a verdict: no outcome */
  failed: number
  signals: Signals
  /** what the reward models that teach, and their twins, say of the same answers; absent: no twins */
  opinions?: Opinions
}

/** Share of the pairs of a look that a model's score says the current policy won, ties by half; null: no pairs. */
export type Opinions = Record<'own' | 'twins', Record<Axis, number | null>>

export type Action = 'go_on' | 'accept' | 'stop'
/** What was decided at a look, with what it was decided on. */
export type Decision = {
  round: number
  action: Action
  /** e-value of "worse than the accepted policy", by axis and together */
  worse: number
  worseBy: Record<Axis, number>
  better: number
  /** the e-value that stops */
  limit: number
  winRate: Record<Axis, number | null>
  failed: number
  signals: Signals
  opinions?: Opinions
  accepted: number
  reason: { en: string; zh: string }
}

/** Plain JSON: a loop that stops between two looks goes on with it. */
export type GuardState = {
  /** looks that the accepted policy has before it, from its acceptance on */
  planned: number
  /** how many policies have been accepted, the SFT policy included */
  incumbents: number
  /** the round of the accepted one; 0 is the SFT policy */
  accepted: number
  reference: Signals
  worse: Record<Axis, Bets>
  better: Bets
}

export const startGuard = (planned: number, reference: Signals): GuardState => ({
  ...{ planned, reference, incumbents: 1, accepted: 0 },
  ...{ worse: { helpfulness: [], safety: [] }, better: [] },
})

/** Wealth that makes the current policy the accepted one. */
const ACCEPTED_AT = 10

/**
 * One look: bets on its outcomes, then decides. Stops where the evidence of both axes, averaged, reaches the level of
 * this accepted policy, or at a hard limit (KL, collapse); accepts where the answers have become better beyond doubt;
 * else goes on (docs/guard.md).
 */
export function look(
  state: GuardState,
  { round, outcomes, failed, signals, opinions }: Look,
  options: GuardOptions,
): { state: GuardState; decision: Decision } {
  const bet = (bets: Bets, values: readonly number[]): Bets => placeBets(beginBets(bets), values)
  const worse = {
    helpfulness: bet(state.worse.helpfulness, outcomes.helpfulness),
    safety: bet(state.worse.safety, outcomes.safety),
  }
  const turned = AXES.flatMap((axis) => outcomes[axis].map((w) => 1 - w))
  const better = bet(state.better, turned)
  const { planned } = state
  const worseBy = {
    helpfulness: evidence(worse.helpfulness, planned),
    safety: evidence(worse.safety, planned),
  }
  const found = {
    round,
    worse: (worseBy.helpfulness + worseBy.safety) / 2,
    worseBy,
    better: evidence(better, planned),
    limit: 1 / levelOf(options.alpha, state.incumbents),
    winRate: { helpfulness: mean(outcomes.helpfulness), safety: mean(outcomes.safety) },
    ...{ failed, signals },
    ...(opinions === undefined ? {} : { opinions }),
  }
  const hard = hardLimit(signals, state.reference, options)
  const action: Action =
    hard !== null || found.worse >= found.limit
      ? 'stop'
      : found.better >= ACCEPTED_AT && found.worse < 1 && !isStrained(signals, state.reference)
        ? 'accept'
        : 'go_on'
  const accepted = action === 'accept' ? round : state.accepted
  const decision = { ...found, action, accepted, reason: reasonOf(action, found, hard) }
  const fresh = action === 'accept'
  return {
    decision,
    state: {
      ...state,
      accepted,
      planned: fresh ? planned - better.length : planned,
      incumbents: state.incumbents + (fresh ? 1 : 0),
      worse: fresh ? { helpfulness: [], safety: [] } : worse,
      better: fresh ? [] : better,
    },
  }
}

/** How a policy that was looked at did on fresh verdicts against the accepted one. */
export type Vote = {
  round: number
  /** the e-values of one betting on these verdicts: worse is averaged over the axes, as one that got worse is enough */
  worse: number
  better: number
  winRate: Record<Axis, number | null>
  /** of the win rates, 95 %; absent where the vote was noted before 2026-11-30 */
  intervals?: Record<Axis, Interval | null>
  /** comparisons with a verdict */
  verdicts: number
  failed: number
}

export function voteOf({ round, outcomes, failed }: Omit<Look, 'signals' | 'opinions'>): Vote {
  const wealth = (values: readonly number[]): number =>
    evidence(placeBets(beginBets([]), values), 1)
  const both = AXES.flatMap((axis) => outcomes[axis])
  const interval = (values: readonly number[]): Interval | null => {
    const each = values.map((_, i) => String(i))
    return values.length === 0 ? null : clusteredShare(values, each, 1)
  }
  return {
    ...{ round, failed, verdicts: both.length },
    worse: (wealth(outcomes.helpfulness) + wealth(outcomes.safety)) / 2,
    better: wealth(both.map((w) => 1 - w)),
    winRate: { helpfulness: mean(outcomes.helpfulness), safety: mean(outcomes.safety) },
    intervals: { helpfulness: interval(outcomes.helpfulness), safety: interval(outcomes.safety) },
  }
}

/**
 * The policy that is kept among those that were looked at since one was accepted: of those whose evidence of better
 * exceeds that of worse the one that won most, over both axes; null: the accepted one. After a stop the burden is on
 * whoever came shortly before it: evidence of better must be twice that of worse.
 */
export function elect(votes: readonly Vote[], stopped: boolean): Vote | null {
  const won = ({ winRate }: Vote): number => (winRate.helpfulness ?? 0.5) + (winRate.safety ?? 0.5)
  return votes
    .filter((vote) => objectionTo(vote, stopped) === null)
    .reduce<Vote | null>(
      (best, vote) => (best === null || won(vote) > won(best) ? vote : best),
      null,
    )
}

/** Evidence of better that is asked for after a stop, as a multiple of that of worse (docs/decisions.md). */
const PROVEN = 2
const objectionTo = ({ better, worse }: Vote, stopped: boolean): 'no_better' | 'unproven' | null =>
  better <= worse ? 'no_better' : stopped && better < PROVEN * worse ? 'unproven' : null

/** What came of a policy at a vote. */
export type Standing = 'kept' | 'no_better' | 'unproven' | 'won_less'
export const standingOf = (vote: Vote, kept: number, stopped: boolean): Standing =>
  vote.round === kept ? 'kept' : (objectionTo(vote, stopped) ?? 'won_less')

type Reason = { en: string; zh: string }
/** Beyond this factor of what the SFT policy shows an answer is no answer any more: judges need not see that (docs/results.md). */
const LIMITS: readonly {
  signal: 'distinct' | 'ended' | 'surprise'
  factor: number
  reason(now: number, before: number): Reason
}[] = [
  {
    ...{ signal: 'distinct', factor: 1 / 3 },
    reason: (now, before) => ({
      en: `answers have collapsed: ${percent(now)} of word pairs differ, ${percent(before)} at the start`,
      zh: `回答已坍缩：不同词对占 ${percent(now)}，起初为 ${percent(before)}`,
    }),
  },
  {
    ...{ signal: 'ended', factor: 1 / 3 },
    reason: (now, before) => ({
      en: `answers no longer end: ${percent(now)} do, ${percent(before)} at the start`,
      zh: `回答不再收尾：收尾的占 ${percent(now)}，起初为 ${percent(before)}`,
    }),
  },
  {
    ...{ signal: 'surprise', factor: 2 },
    reason: (now, before) => ({
      en: `answers no longer read like the SFT policy's: ${shown(now)} nats a token to it, ${shown(before)} at the start`,
      zh: `回答已不像 SFT 策略所写：其每词元 ${shown(now)} 奈特，起初为 ${shown(before)}`,
    }),
  },
]

/** Why a part of the way to a limit is behind; half of a factor is its root. A signal that is null passes none. */
function pastLimit(now: Signals, before: Signals, part: number): Reason | null {
  for (const { signal, factor, reason } of LIMITS) {
    const [is, was] = [now[signal], before[signal]]
    if (is === null || was === null) continue
    const limit = factor ** part * was
    if (factor < 1 ? is < limit : is > limit) return reason(is, was)
  }
  return null
}

/**
 * Whether answers are more than half of the way to such a limit. Such a policy is not stopped, but neither accepted nor
 * elected, whatever its verdicts.
 */
export const isStrained = (now: Signals, before: Signals): boolean =>
  pastLimit(now, before, 0.5) !== null

function hardLimit(
  now: Signals,
  before: Signals,
  { kl_budget: budget }: GuardOptions,
): Reason | null {
  if (now.kl === null)
    return {
      en: 'KL to the SFT policy is not a number: the policy has broken',
      zh: '与 SFT 策略的 KL 不是数：策略已损坏',
    }
  if (now.kl > budget)
    return {
      en: `KL to the SFT policy is ${shown(now.kl)} nats, over the budget of ${shown(budget)}`,
      zh: `与 SFT 策略的 KL 为 ${shown(now.kl)}，超出预算 ${shown(budget)}`,
    }
  return pastLimit(now, before, 1)
}

const mean = (values: readonly number[]): number | null =>
  values.length === 0 ? null : values.reduce((a, b) => a + b, 0) / values.length
const shown = (x: number): string => (x >= 100 ? x.toFixed(0) : x.toPrecision(3))
const percent = (x: number | null): string => (x === null ? '–' : `${(100 * x).toFixed(0)} %`)

function reasonOf(
  action: Action,
  found: Pick<Decision, 'round' | 'worse' | 'better' | 'limit' | 'winRate'>,
  hard: { en: string; zh: string } | null,
): { en: string; zh: string } {
  const { winRate, round } = found
  const rates = {
    en: `it won ${percent(winRate.helpfulness)} on helpfulness and ${percent(winRate.safety)} on safety of this look's verdicts`,
    zh: `本次审计中有用性胜率 ${percent(winRate.helpfulness)}，安全性胜率 ${percent(winRate.safety)}`,
  }
  if (action === 'accept')
    return {
      en: `round ${round} is accepted: ${rates.en}; evidence of better ${shown(found.better)} ≥ ${ACCEPTED_AT}`,
      zh: `接受第 ${round} 轮：${rates.zh}；变好的证据 ${shown(found.better)} ≥ ${ACCEPTED_AT}`,
    }
  if (action === 'go_on')
    return {
      en: `round ${round} goes on: ${rates.en}; evidence of worse ${shown(found.worse)} of ${shown(found.limit)}`,
      zh: `第 ${round} 轮继续：${rates.zh}；变差的证据 ${shown(found.worse)}（界限 ${shown(found.limit)}）`,
    }
  if (hard !== null)
    return {
      en: `stopped at round ${round}: ${hard.en}`,
      zh: `第 ${round} 轮停止：${hard.zh}`,
    }
  return {
    en: `stopped at round ${round}: the audit judge prefers the accepted policy, ${rates.en}; evidence ${shown(found.worse)} ≥ ${shown(found.limit)}`,
    zh: `第 ${round} 轮停止：审计评审偏好已接受的策略，${rates.zh}；证据 ${shown(found.worse)} ≥ ${shown(found.limit)}`,
  }
}

export const policyOfRound = (round: number): { en: string; zh: string } =>
  round === 0
    ? { en: 'the SFT policy', zh: ' SFT 策略' }
    : { en: `round ${round}`, zh: `第 ${round} 轮` }

/** A stop with what is restored, and why that. */
export function withRestored(decision: Decision, elected: Vote | null): Decision {
  const { en, zh } = decision.reason
  const back = policyOfRound(elected?.round ?? decision.accepted)
  const accepted = policyOfRound(decision.accepted)
  const why =
    elected === null
      ? { en: '', zh: '' }
      : {
          en: `, which won ${percent(elected.winRate.helpfulness)} on helpfulness and ${percent(elected.winRate.safety)} on safety of ${elected.verdicts} fresh verdicts against ${accepted.en}`,
          zh: `：在 ${elected.verdicts} 次新判定中对${accepted.zh}的有用性胜率 ${percent(elected.winRate.helpfulness)}，安全性胜率 ${percent(elected.winRate.safety)}`,
        }
  return {
    ...decision,
    reason: { en: `${en}; ${back.en} is restored${why.en}`, zh: `${zh}；恢复${back.zh}${why.zh}` },
  }
}
