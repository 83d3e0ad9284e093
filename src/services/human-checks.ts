import type { ModelFiles } from '../engine/engine.ts'
import { splitForCalibration } from '../rlaif/reward.ts'
import type { Approval, RewardModels } from '../rlaif/world.ts'
import type { Freshness } from '../schemas/checks.ts'
import { AXES } from '../schemas/feedback.ts'
import type { Axis, PreferenceRow } from '../schemas/feedback.ts'
import { FRESHNESS_FLOOR } from '../schemas/run.ts'
import type { Figure } from './audit-figures.ts'
import { FEWEST_VERDICTS, fewVerdicts, freshInLoop, percent, STALENESS } from './freshness.ts'
import { pick, shuffled } from './human-models.ts'
import type { HumanWorld } from './human-models.ts'
import { answersOf, probeFigures, probeInLoop } from './probes.ts'

/** Answers of dev pairs that each probe edits. */
const PROBED = 200

type Taught = {
  models: RewardModels
  /** people's and, on answers of the policy, the judge's */
  pairs: Record<Axis, PreferenceRow[]>
  policy: ModelFiles
  judge: string
  override: readonly string[]
}
type Checked = Approval['checks'][number]

/**
 * Tries every probe on both reward models, with answers of dev pairs, and asks whether they know the policy's answers as
 * they are now, which people's pairs are not: by the judge's labels in the fifth that calibrated them. Throws
 * `reward_model_refused`, `reward_model_stale` where `override` does not name what speaks against them.
 */
export async function approveHuman(
  { services, options, context, progress }: HumanWorld,
  { models, pairs, policy, judge, override }: Taught,
  dev: readonly PreferenceRow[],
): Promise<Approval> {
  const { seed } = options
  const { id: run, signal } = context
  const checks: Checked[] = []
  for (const axis of AXES) {
    const answers = answersOf(shuffled(pick(dev, axis), seed)).slice(0, PROBED)
    const model = { name: `${run} ${axis}`, files: models[axis].files }
    const how = { seed, run, signal, override, progress }
    const probed = await probeInLoop(services, model, axis, answers, how)
    const { held } = splitForCalibration(pairs[axis], seed)
    const judged = held.filter((pair) => pair.annotator_kind === 'judge')
    const { freshness, objections } = await freshInLoop(services, model, axis, {
      ...{ policy, judge, pairs: judged, override, seed, run },
      floor: FRESHNESS_FLOOR,
    })
    checks.push({
      ...probed,
      ...(freshness === undefined ? {} : { freshness }),
      objections: [...probed.objections, ...objections],
    })
  }
  return { checks }
}

/** The accuracy of a reward model on the judge's decided labels of the policy's own answers, where there are any. */
export const freshFigures = ({ axis, freshness }: Checked): Figure[] =>
  freshness === undefined
    ? []
    : [
        {
          figure: `${axis}, accuracy on the judge’s labels of the policy’s own answers`,
          ...intervalOf(freshness),
        },
      ]
const intervalOf = ({ accuracy: value, low, high, n }: Freshness) => ({ value, low, high, n })

export const approvalFigures = (check: Checked): Figure[] => [
  ...probeFigures(check.probes ?? []).map((each) => ({
    ...each,
    figure: `${check.axis}, ${each.figure}`,
  })),
  ...freshFigures(check),
]

/** What speaks against a reward model that teaches all the same, and what is not known of it. */
export function approvalWarnings({ axis, objections, freshness }: Checked): string[] {
  const probes = objections.filter((name) => name !== STALENESS)
  const zh = axis === 'safety' ? '安全性' : '有用性'
  const warnings: string[] = []
  if (probes.length > 0)
    warnings.push(
      `The ${axis} model fails probes that were overridden by name: ${probes.join(', ')}. Its score can be raised without a better answer. ${zh}模型未通过已按名豁免的探针：${probes.join('、')}。`,
    )
  const n = freshness?.n ?? 0
  if (freshness === undefined || n < FEWEST_VERDICTS) warnings.push(fewVerdicts(axis, n))
  else if (objections.includes(STALENESS)) {
    const [share, low, high] = [freshness.accuracy, freshness.low, freshness.high].map(percent)
    warnings.push(
      `The ${axis} model does not surely know the policy’s own answers better than a coin: it agrees with the judge in ${share} of ${n} decided pairs, 95 % interval ${low} to ${high}; \`staleness\` was overridden by name. ${zh}模型未必比抛硬币更了解策略自己的回答：在 ${n} 对中与评判模型一致 ${share}，95 % 区间 ${low} 至 ${high}；staleness 已按名豁免。`,
    )
  }
  return warnings
}
