import type { z } from 'zod'
import { LibraError } from '../errors.ts'
import type { RankRequest } from '../schemas/scoring.ts'
import { circles, fitBradleyTerry } from '../evaluation/bradley-terry.ts'
import type { Contest, Strength } from '../evaluation/bradley-terry.ts'
import { paretoFronts } from '../evaluation/trade-off.ts'
import { isTie, TIE, usable } from '../judging/judge.ts'
import { openJudge } from './judges.ts'
import { scoreConversations } from './scoring.ts'
import type { Scored } from './scoring.ts'
import type { Services } from './services.ts'

type Request = z.output<typeof RankRequest>
export type Ranked = { index: number; rank: number; value: number; strength?: Strength | undefined }
export type Ranking = { data: Ranked[]; contests?: Contests }
/** What pairwise verdicts say of an order as a whole. */
type Contests = { pairs: number; ties: number; inconsistent: number; cycles: number[][] }

/**
 * Orders candidates, best first. combined and the axes: by the reward models; pareto: by the front on both axes
 * (1 is beaten by nobody); judge: by the mean P(win) over all other candidates, each pair asked in both orders, which
 * is the order of the Bradley–Terry strengths beside it.
 * Throws `judge_failed` when a verdict is missing or two plain words of one contradict each other: an order with holes
 * would be a guess.
 */
export async function rankCandidates(services: Services, request: Request): Promise<Ranking> {
  if (request.by === 'judge') return rankByJudge(services, request)
  return { data: await rankByScores(services, request) }
}

async function rankByScores(services: Services, request: Request): Promise<Ranked[]> {
  const { data } = await scoreConversations(services, {
    inputs: request.candidates.map((content) => ({
      messages: [...request.prompt, { role: 'assistant' as const, content }],
      prompt_class: request.prompt_class ?? null,
    })),
    axes: ['helpfulness', 'safety'],
    on_too_long: request.on_too_long,
    threshold: request.threshold,
  })
  const points = data.map(({ helpfulness, safety }) => [
    helpfulness?.logit ?? NaN,
    safety?.logit ?? NaN,
  ])
  switch (request.by) {
    case 'helpfulness':
      return order(points.map(([h]) => h ?? NaN))
    case 'safety':
      return order(points.map(([, s]) => s ?? NaN))
    case 'pareto':
      return order(paretoFronts(points).map((front) => -front)).map((r) => ({
        ...r,
        value: -r.value,
      }))
    default:
      return orderGated(data)
  }
}

/**
 * By combined reward, and what the gate holds back below everything else: the rewards of its two sides are logits of
 * two models, between which greater and smaller mean nothing.
 */
export function orderGated(data: readonly Pick<Scored, 'combined'>[]): Ranked[] {
  const rewards = data.map(({ combined }) => combined?.reward ?? NaN)
  const held = data.map(({ combined }) => combined?.branch === 'safety')
  const above = (i: number, j: number): boolean =>
    held[i] === held[j] ? (rewards[i] ?? NaN) > (rewards[j] ?? NaN) : held[j] === true
  return data
    .map((_, index) => ({
      ...{ index, value: rewards[index] ?? NaN },
      rank: 1 + data.filter((_, other) => above(other, index)).length,
    }))
    .sort((a, b) => a.rank - b.rank || a.index - b.index)
}

/** Highest value first; equal values share a rank. */
export function order(values: readonly number[]): Ranked[] {
  return values
    .map((value, index) => ({ index, value, rank: 1 + values.filter((v) => v > value).length }))
    .sort((a, b) => a.rank - b.rank || a.index - b.index)
}

async function rankByJudge(services: Services, request: Request): Promise<Ranking> {
  const { candidates, prompt, axis } = request
  const judge = await openJudge(services, request.judge)
  const pairs = candidates.flatMap((_, i) => candidates.slice(i + 1).map((_, k) => [i, i + 1 + k]))
  const verdicts = await judge.compare(
    pairs.map(([i = 0, j = 0]) => ({
      ...{ axis, prompt, a: candidates[i] ?? '', b: candidates[j] ?? '' },
    })),
  )
  const contests = verdicts.map((given, n): Contest => {
    const [i = 0, j = 0] = pairs[n] ?? []
    const verdict = usable(given)
    if (verdict.ok) return { i, j, p: verdict.probability }
    throw new LibraError(
      'judge_failed',
      `the judge gave no verdict on candidates ${i} and ${j}: ${verdict.failure}, ${verdict.message}`,
      { fault: 'engine' },
    )
  })
  const wins = new Array<number>(candidates.length).fill(0)
  for (const { i, j, p } of contests) {
    wins[i] = (wins[i] ?? 0) + p
    wins[j] = (wins[j] ?? 0) + 1 - p
  }
  const strengths = fitBradleyTerry(candidates.length, contests)
  return {
    data: order(wins.map((w) => w / (candidates.length - 1))).map((ranked) => ({
      ...ranked,
      strength: strengths[ranked.index],
    })),
    contests: {
      pairs: contests.length,
      ties: contests.filter(({ p }) => isTie(p)).length,
      inconsistent: verdicts.filter((v) => v.ok && v.consistent === false).length,
      cycles: circles(candidates.length, contests, TIE),
    },
  }
}
