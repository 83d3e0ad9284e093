import { Hono } from 'hono'
import { streamSSE } from 'hono/streaming'
import type { Engine } from '../engine/engine.ts'
import { LibraError } from '../errors.ts'
import { createLocalJudge } from '../judging/local-judge.ts'
import { ChatRequest, JudgeRequest, ScoreRequest } from '../schemas/http.ts'
import { scoreConversations } from '../services/scoring.ts'
import type { Roles } from '../services/scoring.ts'
import { newId } from '../services/runs.ts'
import type { Store } from '../store/store.ts'
import { problem, readBody } from './problem.ts'

export type Services = { engine: Engine; store: Store; roles: Roles }

/** The HTTP API over its services. It never listens by itself. */
export function createApp(services: Services): Hono {
  const { engine, store, roles } = services
  const app = new Hono()
  app.onError((error, c) => problem(c, error))
  app.notFound((c) =>
    problem(c, new LibraError('not_found', `no route ${c.req.method} ${c.req.path}`)),
  )

  app.get('/healthz', (c) => c.json({ status: 'ok' }))

  // ready means: the engine has just answered
  app.get('/readyz', async (c) => c.json({ status: 'ready', engine: await engine.status() }))

  app.get('/v1/roles', async (c) => {
    const described = await Promise.all(
      Object.entries(roles).map(
        async ([role, files]) => [role, await engine.describe(files)] as const,
      ),
    )
    return c.json(Object.fromEntries(described))
  })

  app.post('/v1/score', async (c) => {
    const { data, tokens, models } = await scoreConversations(
      services,
      await readBody(c, ScoreRequest),
    )
    return c.json({
      object: 'list',
      model: models,
      data,
      usage: { prompt_tokens: tokens, total_tokens: tokens },
    })
  })

  app.get('/v1/scores/:id', async (c) => {
    const score = await store.score(c.req.param('id'))
    if (score === null) throw new LibraError('not_found', `no score ${c.req.param('id')}`)
    return c.json(score)
  })

  app.post('/v1/judge', async (c) => {
    const { comparisons } = await readBody(c, JudgeRequest)
    const judge = createLocalJudge(engine, roles.judge, 'judge')
    const verdicts = await judge.compare(comparisons)
    return c.json({
      object: 'list',
      prompt_version: judge.promptVersion,
      data: verdicts.map((verdict, index) => ({ index, ...verdict })),
    })
  })

  app.post('/v1/chat/completions', async (c) => {
    const request = await readBody(c, ChatRequest)
    const stop = typeof request.stop === 'string' ? [request.stop] : request.stop
    const [completions = []] = await engine.generate({
      model: roles.policy,
      prompts: [request.messages],
      n: request.n,
      onTooLong: 'error',
      sampling: {
        maxTokens: request.max_tokens,
        temperature: request.temperature,
        topP: request.top_p,
        topK: 0,
        seed: request.seed,
        stop,
      },
    })
    const used = completions.reduce((n, { tokenIds }) => n + tokenIds.length, 0)
    const asked = completions[0]?.promptTokens ?? 0
    return c.json({
      id: newId('chatcmpl'),
      object: 'chat.completion',
      created: Math.floor(Date.now() / 1000),
      model: request.model ?? 'policy',
      choices: completions.map(({ text, finish, logprobs }, index) => ({
        index,
        message: { role: 'assistant', content: text },
        finish_reason: finish,
        logprobs: request.logprobs ? { content: logprobs.map((logprob) => ({ logprob })) } : null,
      })),
      usage: { prompt_tokens: asked, completion_tokens: used, total_tokens: asked + used },
    })
  })

  app.get('/v1/runs', async (c) => c.json({ object: 'list', data: await store.listRuns(100) }))

  app.get('/v1/runs/:id', async (c) => {
    const run = await store.run(c.req.param('id'))
    if (run === null) throw new LibraError('not_found', `no run ${c.req.param('id')}`)
    return c.json(run)
  })

  // events so far, resumable by Last-Event-ID; polls the log until the run has ended
  app.get('/v1/runs/:id/events', async (c) => {
    const id = c.req.param('id')
    if ((await store.run(id)) === null) throw new LibraError('not_found', `no run ${id}`)
    let after = Number(c.req.header('last-event-id') ?? 0) || 0
    return streamSSE(c, async (stream) => {
      for (;;) {
        const ended = !['queued', 'running'].includes((await store.run(id))?.state ?? 'failed')
        for (const event of await store.events(id, after)) {
          after = event.seq
          await stream.writeSSE({
            id: String(event.seq),
            event: event.type,
            data: JSON.stringify(event.data),
          })
        }
        if (ended || stream.aborted) return
        await stream.sleep(250)
      }
    })
  })
  return app
}
