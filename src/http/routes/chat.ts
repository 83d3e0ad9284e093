import type { Context } from 'hono'
import { streamSSE } from 'hono/streaming'
import type { z } from 'zod'
import type { Completion, GenerateRequest } from '../../engine/engine.ts'
import { ChatReply, ChatRequest } from '../../schemas/openai.ts'
import { sampleBestOf } from '../../services/best-of.ts'
import { filesOf, findPolicy } from '../../services/catalog.ts'
import { newId } from '../../services/runs.ts'
import type { Services } from '../../services/services.ts'
import { route } from '../contract.ts'
import type { Route } from '../contract.ts'
import { seconds } from '../present.ts'

type Request = z.output<typeof ChatRequest>

export const chatRoutes = (services: Services): Route[] => [
  route(
    {
      method: 'post',
      path: '/v1/chat/completions',
      tag: 'sampling',
      summary: 'Sample a model, in OpenAI’s shape; the policy unless another is named',
      body: ChatRequest,
      reply: ChatReply,
    },
    async ({ c, body }) => {
      const request = await requestOf(services, body)
      const { signal } = c.req.raw
      const head = { id: newId('chatcmpl'), created: seconds(Date.now()), model: body.model }
      const whole = { ...head, object: 'chat.completion', system_fingerprint: null }
      const choiceOf = (completion: Completion, index: number) => ({
        index,
        message: { role: 'assistant', content: completion.text, refusal: null },
        finish_reason: completion.finish,
        logprobs: body.logprobs ? logprobsOf(completion) : null,
      })
      if (typeof body.best_of === 'number' && !body.stream) {
        const asked = { request: { ...request, n: body.best_of }, keep: body.n }
        const { best, sampled, distinct, klBound } = await sampleBestOf(services, asked, signal)
        return {
          ...whole,
          choices: best.map(({ completion, score: { index: _, ...score } }, index) => ({
            ...choiceOf(completion, index),
            score,
          })),
          best_of: { sampled: sampled.length, distinct, kl_bound: klBound },
          usage: usageOf(sampled),
        }
      }
      const [completions = []] = await services.admission.admit(body.n, () =>
        services.serving.generate(request, signal),
      )
      if (body.stream) return stream(c, head, completions, body)
      return { ...whole, choices: completions.map(choiceOf), usage: usageOf(completions) }
    },
  ),
]

async function requestOf({ store }: Services, body: Request): Promise<GenerateRequest> {
  const model = filesOf(await findPolicy(store, body.model, 'model'))
  const stop = typeof body.stop === 'string' ? [body.stop] : body.stop
  const maxTokens = body.max_completion_tokens ?? body.max_tokens
  const { temperature, top_p: topP, seed } = body
  const sampling = { maxTokens, temperature, topP, topK: 0, seed, stop }
  return { model, prompts: [body.messages], n: body.n, onTooLong: 'error', sampling }
}

const logprobsOf = ({ tokens, logprobs }: Completion) => ({
  content: tokens.map((token, i) => ({
    token,
    logprob: logprobs[i] ?? 0,
    bytes: [...new TextEncoder().encode(token)],
    top_logprobs: [],
  })),
  refusal: null,
})

function usageOf(completions: readonly Completion[]) {
  const asked = completions[0]?.promptTokens ?? 0
  const written = completions.reduce((n, { tokenIds }) => n + tokenIds.length, 0)
  return { prompt_tokens: asked, completion_tokens: written, total_tokens: asked + written }
}

/** OpenAI's chunks. Each answer goes out in one piece when it is whole: stop strings may still cut it before. */
function stream(
  c: Context,
  head: { id: string; created: number; model: string },
  completions: readonly Completion[],
  { stream_options: options, logprobs }: Request,
): Response {
  const base = { ...head, object: 'chat.completion.chunk', system_fingerprint: null }
  return streamSSE(c, async (out) => {
    const send = (rest: object) => out.writeSSE({ data: JSON.stringify({ ...base, ...rest }) })
    for (const [index, completion] of completions.entries()) {
      const chunk = (delta: object, finish: string | null, logs: object | null = null) =>
        send({ choices: [{ index, delta, logprobs: logs, finish_reason: finish }] })
      await chunk({ role: 'assistant', content: '', refusal: null }, null)
      await chunk({ content: completion.text }, null, logprobs ? logprobsOf(completion) : null)
      await chunk({}, completion.finish)
    }
    if (options?.include_usage) await send({ choices: [], usage: usageOf(completions) })
    await out.writeSSE({ data: '[DONE]' })
  })
}
