import type { Context } from 'hono'
import { streamSSE } from 'hono/streaming'
import type { z } from 'zod'
import type { Completion } from '../../engine/engine.ts'
import { ChatReply, ChatRequest } from '../../schemas/openai.ts'
import { filesOf, findModel } from '../../services/catalog.ts'
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
      const completions = await complete(services, body, c.req.raw.signal)
      const head = { id: newId('chatcmpl'), created: seconds(Date.now()), model: body.model }
      if (body.stream) return stream(c, head, completions, body)
      return {
        ...head,
        object: 'chat.completion',
        system_fingerprint: null,
        choices: completions.map((completion, index) => ({
          index,
          message: { role: 'assistant', content: completion.text, refusal: null },
          finish_reason: completion.finish,
          logprobs: body.logprobs ? logprobsOf(completion) : null,
        })),
        usage: usageOf(completions),
      }
    },
  ),
]

async function complete(
  { store, serving, admission }: Services,
  body: Request,
  signal: AbortSignal,
): Promise<Completion[]> {
  const model = filesOf(await findModel(store, body.model))
  const stop = typeof body.stop === 'string' ? [body.stop] : body.stop
  const maxTokens = body.max_completion_tokens ?? body.max_tokens
  const { temperature, top_p: topP, seed } = body
  const sampling = { maxTokens, temperature, topP, topK: 0, seed, stop }
  const asked = {
    model,
    prompts: [body.messages],
    n: body.n,
    onTooLong: 'error' as const,
    sampling,
  }
  const [completions = []] = await admission.admit(body.n, () => serving.generate(asked, signal))
  return completions
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
