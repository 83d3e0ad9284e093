import type { ModelFiles } from '../engine/engine.ts'
import { cancelled, LibraError } from '../errors.ts'
import type { ReportSample } from '../evaluation/report-samples.ts'
import {
  accuracyFigures,
  crossFigures,
  detectionFigures,
  rewardCurves,
  rightOf,
  toldRows,
} from '../evaluation/reward-measures.ts'
import type { ScoredPair } from '../evaluation/reward-measures.ts'
import { AXES } from '../schemas/feedback.ts'
import type { Axis, PreferenceRow } from '../schemas/feedback.ts'
import type { EvaluationOptions } from '../schemas/evaluation.ts'
import type { ModelRow } from '../store/store.ts'
import { conversationOf } from '../text/conversation.ts'
import { filesOf, findModel } from './catalog.ts'
import { countingRivals } from './cross-validation.ts'
import { drawn, openPairs, openPairsByAxis, rowsHash } from './data.ts'
import type { Measure, Prepared } from './evaluate.ts'
import { modelNow } from './measured-by.ts'
import type { RunContext } from './runs.ts'
import type { Services } from './services.ts'

/** Pairs per call of the engine: a stop is felt between them. */
const PART = 100
/** Pairs that the model gets most wrong, shown in the report. */
const SHOWN = 24

/**
 * A reward model by its id, or by the role that it plays, for an axis. Throws `no_score_head`; `conflicting_options`
 * where it is known to be of the other axis.
 */
export async function findRewardModel(
  services: Services,
  ref: string,
  axis: Axis,
  field: 'model' | 'against' = 'model',
): Promise<ModelRow> {
  const model = await findModel(services.store, ref)
  if (!(await services.serving.describe(filesOf(model))).hasScoreHead)
    throw new LibraError('no_score_head', `${model.id} is not a reward model`, {
      details: { field: `options.${field}` },
    })
  if (model.axis !== null && model.axis !== axis)
    throw new LibraError(
      'conflicting_options',
      `options.${field}: ${model.id} is a reward model of ${model.axis}, here one of ${axis} is meant; name another or set \`axis\``,
      { details: { field: `options.${field}` } },
    )
  return model
}

/**
 * A reward model on preference pairs: accuracy and what it depends on, beside counting baselines on the same pairs;
 * both axes' models on the other axis' pairs; how it finds unsafe answers. Definitions: docs/metrics.md.
 */
export async function planRewardModel(
  services: Services,
  { options }: { options: EvaluationOptions },
): Promise<Prepared> {
  const { axis, file, baseline_file: baselineFile, limit, seed } = options
  const otherAxis = AXES.find((each) => each !== axis) ?? axis
  const model = await findRewardModel(services, options.model ?? axis, axis)
  const rival = options.against ?? otherAxis
  const other = await findRewardModel(services, rival, otherAxis, 'against')
  const all = await openPairsByAxis(services, file, axis)
  const training = baselineFile === undefined ? null : await openPairs(services, baselineFile, axis)
  const pairs = drawn(all[axis], limit, seed)
  const others = drawn(all[otherAxis], limit, seed)
  const measure: Measure = async (context) => {
    const score = (who: ModelRow, some: readonly PreferenceRow[]): Promise<ScoredPair[]> =>
      scorePairs(services, context, who, some)
    const own = await score(model, pairs)
    const rivals = await countingRivals(pairs, all[axis], training, async (done, total) => {
      if (context.signal.aborted) throw cancelled()
      await context.emit({ type: 'progress', stage: 'counting baselines', done, total })
    })
    const figures = [
      ...accuracyFigures(own, rivals, seed),
      ...detectionFigures([...own, ...(axis === 'safety' ? [] : await score(model, others))], seed),
      ...crossFigures(`${otherAxis} model on ${axis} pairs`, await score(other, pairs), seed),
      ...crossFigures(`${axis} model on ${otherAxis} pairs`, await score(model, others), seed),
    ]
    const trained = training === null ? 'five-fold over conversations' : baselineFile
    return {
      figures,
      curves: rewardCurves(own, rivals),
      samples: worst(own),
      more: { model: model.id, against: other.id, baselines: trained },
    }
  }
  const measuredBy = {
    model: await modelNow(services, model),
    against: await modelNow(services, other),
  }
  return { measure, measuredBy, dataHash: rowsHash([pairs, others, training]) }
}

async function scorePairs(
  { serving }: Services,
  { emit, signal }: RunContext,
  { id, ...model }: ModelRow,
  pairs: readonly PreferenceRow[],
): Promise<ScoredPair[]> {
  const files: ModelFiles = filesOf(model)
  const scored: ScoredPair[] = []
  for (let i = 0; i < pairs.length; i += PART) {
    if (signal.aborted) throw cancelled()
    const part = pairs.slice(i, i + PART)
    const conversations = part.flatMap(({ prompt, chosen, rejected }) =>
      [chosen, rejected].map((content) => [...prompt, { role: 'assistant' as const, content }]),
    )
    const scores = await serving.score({ model: files, conversations, onTooLong: 'truncate' })
    part.forEach((pair, k) =>
      scored.push({
        ...{ pair, cluster: conversationOf(pair) },
        chosen: scores[2 * k]?.logit ?? NaN,
        rejected: scores[2 * k + 1]?.logit ?? NaN,
      }),
    )
    await emit({ type: 'progress', stage: id, done: scored.length, total: pairs.length })
  }
  return scored
}

/** The pairs whose worse answer the model prefers most. */
const worst = (rows: readonly ScoredPair[]): ReportSample[] =>
  toldRows(rows)
    .filter((row) => rightOf(row) < 1)
    .toSorted((a, b) => a.chosen - a.rejected - (b.chosen - b.rejected))
    .slice(0, SHOWN)
    .map(({ pair, chosen, rejected }) => ({
      prompt: pair.prompt.at(-1)?.content ?? '',
      answers: [
        { name: 'chosen 较好', text: `${pair.chosen} (${chosen.toFixed(2)})` },
        { name: 'rejected 较差', text: `${pair.rejected} (${rejected.toFixed(2)})` },
      ],
    }))
