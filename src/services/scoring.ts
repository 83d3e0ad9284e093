import { calibrate } from '../evaluation/calibration.ts'
import { combine } from '../evaluation/combine.ts'
import type { Message } from '../schemas/chat.ts'
import type { Axis, PromptClass } from '../schemas/feedback.ts'
import { filesOf, findModel } from './catalog.ts'
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
 * reward when both axes are asked. Each row is stored with the model version that gave it.
 * Throws `context_length_exceeded`, `non_finite_output`.
 */
export async function scoreConversations(
  { serving, store }: Pick<Services, 'serving' | 'store'>,
  request: {
    inputs: readonly { messages: readonly Message[]; prompt_class: PromptClass | null }[]
    axes: readonly Axis[]
    on_too_long: 'error' | 'truncate'
    threshold: number
  },
): Promise<{ data: Scored[]; tokens: number; models: Partial<Record<Axis, string>> }> {
  const conversations = request.inputs.map(({ messages }) => messages)
  const data: Scored[] = request.inputs.map((_, index) => ({
    index,
    id: newId('score'),
    combined: null,
    truncated: false,
  }))
  const models: Partial<Record<Axis, string>> = {}
  let tokens = 0
  for (const axis of request.axes) {
    const model = await findModel(store, axis)
    const info = await serving.describe(filesOf(model))
    models[axis] = info.version
    const scores = await serving.score({
      model: filesOf(model),
      conversations,
      onTooLong: request.on_too_long,
    })
    scores.forEach(({ logit, tokens: n, truncated }, i) => {
      const row = data[i]
      if (row === undefined) return
      const probability = calibrate(logit, info.calibration)
      row[axis] = { logit, probability, score: probability === null ? null : 100 * probability }
      row.truncated ||= truncated
      tokens += n
    })
    await store.scores.insert(
      data.map((row, i) => ({
        id: `${row.id}_${axis}`,
        axis,
        model: model.id,
        modelVersion: info.version,
        calibration: info.calibration?.version ?? null,
        logit: row[axis]?.logit ?? NaN,
        messages: [...(conversations[i] ?? [])],
        createdAt: Date.now(),
      })),
    )
  }
  data.forEach((row, i) => {
    if (row.helpfulness === undefined || row.safety === undefined) return
    const combined = combine(row.helpfulness, row.safety, {
      combiner: 'gate',
      threshold: request.threshold,
      promptClass: request.inputs[i]?.prompt_class ?? null,
    })
    row.combined = { ...combined, threshold: request.threshold }
  })
  return { data, tokens, models }
}
