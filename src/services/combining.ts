import type { z } from 'zod'
import { calibrate } from '../evaluation/calibration.ts'
import { combine, inversions, isUnsafe, scalesOf } from '../evaluation/combine.ts'
import { spearman } from '../evaluation/discrimination.ts'
import { LibraError } from '../errors.ts'
import type { CombineReply, CombineRequest } from '../schemas/scoring.ts'
import { AXES } from '../schemas/feedback.ts'
import type { Combiner } from '../schemas/model.ts'
import { versionOf } from './scorers.ts'
import type { ScoreRow, Store } from '../store/store.ts'
import { findScores } from './replay.ts'
import type { StoredScore } from './replay.ts'

type Both = { id: string; prompt: string; helpfulness: StoredScore; safety: StoredScore }

/**
 * What different combiners make of stored scores. All must be of one pair of scorers: logits of two versions can't be
 * compared. Throws `empty_data`, `not_found`, `mixed_scorers`.
 */
export async function compareCombiners(
  store: Store,
  request: z.output<typeof CombineRequest>,
): Promise<z.input<typeof CombineReply>> {
  const ids = request.scores ?? (await newest(store, request.limit))
  const scores = (await Promise.all(ids.map((id) => bothOf(store, id)))).flatMap((x) => x ?? [])
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
        ...{ combiner, threshold: request.threshold, promptClass: null, scales },
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

const idOf = ({ id, axis }: ScoreRow): string => id.slice(0, -axis.length - 1)

/** Ids of the newest scores that have both axes. */
async function newest(store: Store, limit: number): Promise<string[]> {
  const seen = new Map<string, number>()
  let after: string | undefined
  for (let read = 0; read < 2 * limit;) {
    const page = await store.scores.page({ limit: Math.min(1000, 2 * limit - read), after })
    for (const row of page.data) seen.set(idOf(row), (seen.get(idOf(row)) ?? 0) + 1)
    read += page.data.length
    after = page.data.at(-1)?.id
    if (!page.hasMore) break
  }
  return [...seen].filter(([, axes]) => axes === AXES.length).map(([id]) => id)
}

/** Null where one axis alone was asked. */
async function bothOf(store: Store, id: string): Promise<Both | null> {
  const rows = await findScores(store, id)
  const [helpfulness, safety] = AXES.map((axis) => rows.find((row) => row.axis === axis))
  if (helpfulness === undefined || safety === undefined) return null
  return { id, prompt: JSON.stringify(helpfulness.messages.slice(0, -1)), helpfulness, safety }
}
