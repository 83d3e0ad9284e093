import type { z } from 'zod'
import { calibrate } from '../evaluation/calibration.ts'
import { combine, inversions, isUnsafe, scalesOf } from '../evaluation/combine.ts'
import { spearman } from '../evaluation/discrimination.ts'
import { LibraError } from '../errors.ts'
import type { CombineReply, CombineRequest } from '../schemas/scoring.ts'
import { AXES } from '../schemas/feedback.ts'
import type { PromptClass } from '../schemas/feedback.ts'
import type { Combiner } from '../schemas/model.ts'
import { versionOf } from './scorers.ts'
import type { Store } from '../store/store.ts'
import { findScores, scoreOf } from './replay.ts'
import type { StoredScore } from './replay.ts'

type Both = {
  id: string
  prompt: string
  promptClass: PromptClass | null
  helpfulness: StoredScore
  safety: StoredScore
}

/**
 * What different combiners make of stored scores. All must be of one pair of scorers: logits of two versions can't be
 * compared. Throws `empty_data`, `not_found`, `incomplete_score`, `mixed_scorers`.
 */
export async function compareCombiners(
  store: Store,
  request: z.output<typeof CombineRequest>,
): Promise<z.input<typeof CombineReply>> {
  // rows of a score, and the same one again, are one score
  const ids =
    request.scores === undefined
      ? await store.scores.newest(AXES, request.limit)
      : [...new Set(request.scores.map(scoreOf))]
  const scores = await bothOf(store, ids)
  if (scores.length === 0)
    throw new LibraError(
      'empty_data',
      'no stored score of both axes: POST /v1/score makes them, `scores` names them',
    )
  const [helpfulness, safety] = await Promise.all(
    AXES.map(async (axis) => {
      const scorers = [...new Set(scores.map((score) => score[axis].modelVersion))]
      const of = await Promise.all(scorers.map((scorer) => versionOf(store, scorer)))
      const versions = [...new Set(of)]
      const [version, other] = versions
      if (version === undefined || other !== undefined)
        throw new LibraError(
          'mixed_scorers',
          `scores: of ${versions.length} versions of the ${axis} model; name those of one in \`scores\``,
          { details: { versions } },
        )
      return (await store.scorers.get(scorers[0] ?? ''))?.calibration ?? null
    }),
  )
  const scales = scalesOf(helpfulness ?? null, safety ?? null)
  const safeties = scores.map(({ safety: { logit } }) => ({
    ...{ logit, probability: calibrate(logit, safety ?? null) },
  }))
  const unsafe = safeties.map((each) => isUnsafe(each, request.threshold))
  const combined = request.combiners.map((combiner) => ({
    combiner,
    all: scores.map((score, i) =>
      combine(score.helpfulness, safeties[i] ?? { logit: NaN, probability: null }, {
        ...{ combiner, threshold: request.threshold, promptClass: score.promptClass, scales },
        ...{ multiplier: request.lagrange_multiplier, weight: request.helpfulness_weight },
      }),
    ),
  }))
  const rewardsOf = (at: number): number[] => combined[at]?.all.map(({ reward }) => reward) ?? []
  const n = scores.length
  const data = combined.map(({ combiner, all }, at) => {
    const branches: Record<string, number> = {}
    for (const { branch } of all) branches[branch] = (branches[branch] ?? 0) + 1 / n
    const agreement = combined.map(({ combiner: other }, k): [Combiner, number | null] => {
      const r = spearman(rewardsOf(at), rewardsOf(k))
      return [other, Number.isFinite(r) ? r : null]
    })
    return {
      ...{ combiner, branches },
      mean: rewardsOf(at).reduce((a, b) => a + b, 0) / n,
      inversions: inversions(
        scores.map(({ prompt }, i) => ({
          ...{ prompt, unsafe: unsafe[i] ?? false, reward: all[i]?.reward ?? NaN },
        })),
      ),
      agreement: Object.fromEntries(agreement.filter(([other]) => other !== combiner)),
    }
  })
  const rewards =
    request.scores === undefined
      ? []
      : scores.map(({ id }, i) => ({
          id,
          rewards: Object.fromEntries(
            combined.map(({ combiner, all }) => [combiner, all[i]?.reward ?? NaN]),
          ),
        }))
  return { object: 'combination', n, scaled: scales !== null, data, rewards }
}

/** A message names no more; the details name all. */
const NAMED = 5

/** Both axes of each score. Throws `incomplete_score`, which names them, where one axis alone was asked. */
async function bothOf(store: Store, ids: readonly string[]): Promise<Both[]> {
  const found = await Promise.all(
    ids.map(async (id) => {
      const rows = await findScores(store, id)
      const [helpfulness, safety] = AXES.map((axis) => rows.find((row) => row.axis === axis))
      if (helpfulness === undefined || safety === undefined) return id
      const prompt = JSON.stringify(helpfulness.messages.slice(0, -1))
      return { id, prompt, promptClass: safety.promptClass, helpfulness, safety }
    }),
  )
  const alone = found.filter((each) => typeof each === 'string')
  const more = alone.length > NAMED ? ` and ${alone.length - NAMED} more` : ''
  if (alone.length > 0)
    throw new LibraError(
      'incomplete_score',
      `scores: ${alone.slice(0, NAMED).join(', ')}${more}: one axis alone was asked, there is nothing to combine`,
      { details: { field: 'scores', scores: alone } },
    )
  return found.filter((each) => typeof each !== 'string')
}
