import { calibrate } from '../evaluation/calibration.ts'
import { combine, scalesOf } from '../evaluation/combine.ts'
import type { RawScore } from '../engine/engine.ts'
import type { Message } from '../schemas/chat.ts'
import type { Axis, PromptClass } from '../schemas/feedback.ts'
import type { Calibration } from '../schemas/model.ts'
import { filesOf, findModel } from './catalog.ts'
import type { ModelRow } from '../store/store.ts'
import { newId } from './runs.ts'
import { rememberScorer } from './scorers.ts'
import type { Services } from './services.ts'

export type AxisScore = { logit: number; probability: number | null; score: number | null }
export type Scored = Partial<Record<Axis, AxisScore>> & {
  index: number
  id: string
  combined: { reward: number; branch: string; threshold: number } | null
  truncated: boolean
}

/**
 * Scores conversations on the asked axes: raw logit, calibrated probability, score = 100 × probability, and the gate's
 * reward of both on calibrated scales when both are asked. Each row is stored with the model version that gave it, soon after.
 * Throws `context_length_exceeded`, `non_finite_output`, `overloaded`, `cancelled`.
 */
export async function scoreConversations(
  { serving, store, admission }: Pick<Services, 'serving' | 'store' | 'admission'>,
  request: {
    inputs: readonly { messages: readonly Message[]; prompt_class: PromptClass | null }[]
    axes: readonly Axis[]
    on_too_long: 'error' | 'truncate'
    threshold: number
  },
  signal?: AbortSignal,
): Promise<{ data: Scored[]; tokens: number; models: Partial<Record<Axis, string>> }> {
  const conversations = request.inputs.map(({ messages }) => messages)
  const models: Partial<Record<Axis, ModelRow>> = {}
  for (const axis of request.axes) models[axis] = await findModel(store, axis)
  const asked = {
    models: request.axes.map((axis) => filesOf(models[axis] as ModelRow)),
    ...{ conversations, onTooLong: request.on_too_long },
  }
  const read = await admission.admit(conversations.length, () => serving.scoreAll(asked, signal))
  const data: Scored[] = request.inputs.map((_, index) => ({
    ...{ index, id: newId('score'), combined: null, truncated: false },
  }))
  const versions: Partial<Record<Axis, string>> = {}
  let tokens = 0
  read.forEach(({ version, calibration, scores }, at) => {
    versions[request.axes[at] as Axis] = version
    data.forEach((row, i) => {
      const { logit, tokens: n, truncated } = scores[i] as RawScore
      const probability = calibrate(logit, calibration)
      const score = probability === null ? null : 100 * probability
      row[request.axes[at] as Axis] = { logit, probability, score }
      row.truncated ||= truncated
      tokens += n
    })
  })
  const calibrationOf = (axis: Axis): Calibration | null =>
    read[request.axes.indexOf(axis)]?.calibration ?? null
  const scales = scalesOf(calibrationOf('helpfulness'), calibrationOf('safety'))
  data.forEach((row, i) => {
    if (row.helpfulness === undefined || row.safety === undefined) return
    const combined = combine(row.helpfulness, row.safety, {
      combiner: 'gate',
      threshold: request.threshold,
      promptClass: request.inputs[i]?.prompt_class ?? null,
      scales,
    })
    row.combined = { ...combined, threshold: request.threshold }
  })
  const [asker, createdAt] = [newId('request'), Date.now()]
  for (const [at, { version, calibration, scores }] of read.entries()) {
    const axis = request.axes[at] as Axis
    const model = models[axis] as ModelRow
    const scorer = await rememberScorer({ serving, store }, model, version, calibration)
    store.scores.append(
      data.map((row, i) => ({
        ...{ id: `${row.id}_${axis}`, axis, model: model.id, modelVersion: scorer },
        ...{ calibration: calibration?.version ?? null, createdAt, request: asker },
        logit: scores[i]?.logit ?? NaN,
        branch: row.combined?.branch ?? null,
        promptClass: request.inputs[i]?.prompt_class ?? null,
        placed: scores[i]?.placed ?? null,
        messages: at === 0 ? [...(conversations[i] ?? [])] : null, // once for all axes
      })),
    )
  }
  return { data, tokens, models: versions }
}
