import type { IncomingHttpHeaders } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

export type Received = {
  path: string
  headers: IncomingHttpHeaders
  body: Record<string, unknown>
  system: string
  user: string
}
/** `hang`: never answers; `reset`: closes the connection in the middle of the body. */
export type Scripted =
  | { status?: number; headers?: Record<string, string>; body: unknown; delayMs?: number }
  | 'hang'
  | 'reset'
export type ScriptedServer = {
  baseUrl: string
  received: Received[]
  /** the most requests that were ever open at once */
  peak: () => number
  close: () => Promise<void>
}

/** A real HTTP server on loopback whose answers the test writes. */
export async function scriptedServer(
  script: (request: Received, index: number) => Scripted,
): Promise<ScriptedServer> {
  const received: Received[] = []
  let open = 0
  let peak = 0
  const server = createServer((request, response) => {
    peak = Math.max(peak, ++open)
    response.on('close', () => open--)
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const body = JSON.parse(Buffer.concat(chunks).toString()) as Record<string, unknown>
      const [system, user] = (body['messages'] as { content: string }[]).map((m) => m.content)
      const entry = { path: request.url ?? '', headers: request.headers, body }
      received.push({ ...entry, system: system ?? '', user: user ?? '' })
      const index = received.length - 1
      const answer = script(received[index] as Received, index)
      if (answer === 'hang') return
      if (answer === 'reset') {
        response.writeHead(200, { 'content-length': '1000' })
        response.write('{"choices":', () => response.destroy())
        return
      }
      const { status = 200, headers = {}, delayMs = 0 } = answer
      const text = typeof answer.body === 'string' ? answer.body : JSON.stringify(answer.body)
      setTimeout(() => {
        response.writeHead(status, { 'content-type': 'application/json', ...headers })
        response.end(text)
      }, delayMs)
    })
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address() as AddressInfo
  return {
    baseUrl: `http://127.0.0.1:${port}/v1`,
    received,
    peak: () => peak,
    close: () =>
      new Promise((done) => {
        server.close(() => done())
        server.closeAllConnections()
      }),
  }
}

/**
 * A chat completion with this text and, where given, the probabilities of its first token: the text itself where it is
 * one of them, else the first of them.
 */
export function completion(
  content: string | null,
  first?: Record<string, number>,
  extra: { finish?: string; refusal?: string; reasoning?: string; tokens?: number } = {},
): Scripted {
  const top = Object.entries(first ?? {}).map(([token, p]) => ({ token, logprob: Math.log(p) }))
  const chosen = top.find(({ token }) => token === content) ?? top[0]
  return {
    body: {
      id: 'chatcmpl-1',
      object: 'chat.completion',
      created: 1795480000,
      model: 'scripted',
      choices: [
        {
          index: 0,
          message: {
            role: 'assistant',
            content,
            refusal: extra.refusal ?? null,
            ...(extra.reasoning === undefined ? {} : { reasoning_content: extra.reasoning }),
          },
          finish_reason: extra.finish ?? 'stop',
          logprobs:
            first === undefined
              ? null
              : { content: [{ ...chosen, top_logprobs: top }], refusal: null },
        },
      ],
      usage: { prompt_tokens: 0, completion_tokens: 0, total_tokens: extra.tokens ?? 0 },
    },
  }
}
