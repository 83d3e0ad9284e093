import { createConnection } from 'node:net'
import { readConfig } from '../config.ts'
import { spawnEngine, startEngine } from '../engine/process/spawn.ts'
import { LibraError } from '../errors.ts'

/** One way to ask, whoever answers. */
export type Connection = {
  /** who answers, for people to read */
  to: string
  /** JSON in, JSON out. Throws what the service says is wrong. */
  ask(path: string, body?: unknown): Promise<unknown>
  /** a form with a file */
  send(path: string, form: FormData): Promise<unknown>
  /** a stream of events */
  follow(path: string): AsyncIterable<{ event: string; data: Record<string, unknown> }>
  close(): Promise<void>
}
type Fetch = (path: string, init?: RequestInit) => Promise<Response>

/**
 * The server at LIBRA_URL, else one that runs on this machine, else a service of our own without a port: it owns the
 * data folder until it is closed. Throws `not_ready` where LIBRA_URL does not answer, `data_folder_locked`.
 */
export async function connect(): Promise<Connection> {
  const { url, host, port } = readConfig()
  const address = url ?? `http://${host}:${port}`
  if (await answers(address))
    return connection(
      address,
      (path, init) => fetch(new URL(path, address), init),
      async () => {},
    )
  if (url !== null)
    throw new LibraError(
      'not_ready',
      `no Libra answers at ${url} (LIBRA_URL): start it, or unset it`,
    )
  return ownService()
}

async function answers(address: string): Promise<boolean> {
  try {
    await listening(address) // before fetch, which takes 20 ms to load

    const reply = await fetch(new URL('/healthz', address), { signal: AbortSignal.timeout(2000) })
    return ((await reply.json()) as { status?: unknown }).status === 'ok'
  } catch {
    return false // nobody there, or somebody else
  }
}

/** Resolves when somebody listens there. */
function listening(address: string): Promise<void> {
  const { hostname, port, protocol } = new URL(address)
  const host = hostname.replace(/^\[|\]$/g, '')
  const socket = createConnection({
    host,
    port: Number(port) || (protocol === 'https:' ? 443 : 80),
  })
  return new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve).once('error', reject)
    socket.setTimeout(2000, () => reject(new Error('no answer')))
  }).finally(() => socket.destroy())
}

async function ownService(): Promise<Connection> {
  const { dataDir, modelsDir, judge, judgeKey } = readConfig()
  const { engine: serving } = startEngine() // TensorFlow loads while the rest does
  const end = async (error: unknown): Promise<never> => {
    await serving.close()
    throw error
  }
  const [{ openStore }, { createServices }, { createApp }] = await Promise.all([
    import('../store/store.ts'),
    import('../services/services.ts'),
    import('../http/app.ts'),
  ]).catch(end)
  const store = await openStore(dataDir).catch(end)
  const startTraining = () => spawnEngine({ training: true })
  const services = await createServices({
    ...{ store, serving, startTraining, dataDir },
    judges: { default: judge, keyOf: judgeKey },
  })
  const app = createApp(services, modelsDir)
  return connection(
    'an engine of its own',
    async (path, init) => app.request(path, init),
    async () => {
      await services.runner.close()
      await serving.close()
      await store.close()
    },
  )
}

function connection(to: string, fetcher: Fetch, close: () => Promise<void>): Connection {
  const read = async (reply: Response): Promise<unknown> => {
    const answer = (await reply.json().catch(() => ({}))) as Record<string, unknown>
    if (reply.ok) return answer
    const [code, detail] = [answer['code'], answer['detail']]
    throw new LibraError(
      typeof code === 'string' ? code : 'service_failed',
      typeof detail === 'string' ? detail : `${to} answered ${reply.status}`,
      { details: answer },
    )
  }
  return {
    ...{ to, close },
    ask: async (path, body) =>
      read(
        await fetcher(
          path,
          body === undefined
            ? {}
            : {
                method: 'POST',
                headers: { 'content-type': 'application/json' },
                body: JSON.stringify(body),
              },
        ),
      ),
    send: async (path, form) => read(await fetcher(path, { method: 'POST', body: form })),
    async *follow(path) {
      const reply = await fetcher(path)
      if (!reply.ok || reply.body === null) await read(reply)
      let rest = ''
      for await (const part of (reply.body ?? new ReadableStream()).pipeThrough(
        new TextDecoderStream(),
      )) {
        const blocks = (rest + part).split('\n\n')
        rest = blocks.pop() ?? ''
        for (const block of blocks) {
          const event = /^event: (.*)$/m.exec(block)?.[1]
          const data = /^data: (.*)$/m.exec(block)?.[1]
          if (event !== undefined && data !== undefined)
            yield { event, data: JSON.parse(data) as Record<string, unknown> }
        }
      }
    },
  }
}
