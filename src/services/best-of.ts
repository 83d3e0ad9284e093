import type { Completion, GenerateRequest } from '../engine/engine.ts'
import { bestOfKlBound } from '../evaluation/best-of.ts'
import { AXES } from '../schemas/feedback.ts'
import { orderGated } from './ranking.ts'
import { scoreConversations } from './scoring.ts'
import type { Scored } from './scoring.ts'
import type { Services } from './services.ts'

/** Of the gate: that of Llama 2, as `/v1/score` has it by default. */
const THRESHOLD = 0.15

export type BestOf = {
  /** all answers, as they were sampled */
  sampled: Completion[]
  /** the best of them, best first; of equals the one that was sampled first */
  best: { completion: Completion; score: Scored }[]
  /** different texts among all answers */
  distinct: number
  /** in nats, to the policy as it is sampled */
  klBound: number
}

/**
 * Samples `request.n` answers to one prompt and keeps the `keep` best, as `/v1/rank` orders them by combined reward. All
 * their scores are stored. What a reward model's context does not hold loses its beginning, and its score says so.
 * Both passes are admitted as one: what has been sampled is not refused when it is to be scored.
 * Throws `context_length_exceeded`, `non_finite_output`, `overloaded`, `cancelled`.
 */
export async function sampleBestOf(
  services: Pick<Services, 'serving' | 'store' | 'admission'>,
  { request, keep }: { request: GenerateRequest; keep: number },
  signal: AbortSignal,
): Promise<BestOf> {
  const { serving, admission } = services
  const [messages = []] = request.prompts
  return admission.admit(request.n, async () => {
    const [sampled = []] = await serving.generate(request, signal)
    const inputs = sampled.map(({ text: content }) => ({
      ...{ messages: [...messages, { role: 'assistant' as const, content }], prompt_class: null },
    }))
    const { data } = await scoreConversations(
      { ...services, admission: { admit: (_, work) => work() } },
      { inputs, axes: AXES, on_too_long: 'truncate', threshold: THRESHOLD },
      signal,
    )
    const best = orderGated(data).slice(0, keep)
    return {
      sampled,
      best: best.flatMap(({ index }) => {
        const [completion, score] = [sampled[index], data[index]]
        return completion === undefined || score === undefined ? [] : [{ completion, score }]
      }),
      distinct: new Set(sampled.map(({ text }) => text)).size,
      klBound: bestOfKlBound(request.n, keep),
    }
  })
}
