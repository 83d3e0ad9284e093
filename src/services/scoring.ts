import { calibrate } from '../evaluation/calibration.ts'
import { combine } from '../evaluation/combine.ts'
import type { RawScore } from '../engine/engine.ts'
import type { Message } from '../schemas/chat.ts'
import type { Axis, PromptClass } from '../schemas/feedback.ts'
import { filesOf, findModel } from './catalog.ts'
import type { ModelRow } from '../store/store.ts'
import { newId } from './runs.ts'
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
 * reward when both axes are asked. Each row is stored with the model version that gave it, soon after.
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
    const axis = request.axes[at] as Axis
    versions[axis] = version
    const createdAt = Date.now()
    const rows = data.map((row, i) => {
      const { logit, tokens: n, truncated } = scores[i] as RawScore
      const probability = calibrate(logit, calibration)
      row[axis] = { logit, probability, score: probability === null ? null : 100 * probability }
      row.truncated ||= truncated
      tokens += n
      return {
        ...{ id: `${row.id}_${axis}`, axis, model: models[axis]?.id ?? '', modelVersion: version },
        ...{ logit, calibration: calibration?.version ?? null, createdAt },
        messages: [...(conversations[i] ?? [])],
      }
    })
    store.scores.append(rows)
  })
  data.forEach((row, i) => {
    if (row.helpfulness === undefined || row.safety === undefined) return
    const combined = combine(row.helpfulness, row.safety, {
      combiner: 'gate',
      threshold: request.threshold,
      promptClass: request.inputs[i]?.prompt_class ?? null,
    })
    row.combined = { ...combined, threshold: request.threshold }
  })
  return { data, tokens, models: versions }
}
