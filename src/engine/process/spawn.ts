import { fork } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { createRequire } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { cancelled, reviveError, LibraError } from '../../errors.ts'
import type { TrainEvent } from '../../schemas/training.ts'
import type { Engine } from '../engine.ts'
import type { Call, Calls, Reply, Request } from './protocol.ts'

type Listener = (reply: Extract<Reply, { id: number }> | { lost: LibraError }) => void

export type EngineOptions = { training?: boolean; memory?: number }

/** An engine that has started. Throws `engine_lost` where it can't. */
export async function spawnEngine(options: EngineOptions = {}): Promise<Engine> {
  const { engine, ready } = startEngine(options)
  await ready
  return engine
}

/**
 * Starts an engine in a child process; calls may be made before it is ready and wait for it. Two TensorFlow threads in one process crash, and a crash here ends this
 * engine's calls with `engine_lost`, never the service. `training` runs at lower priority; the weights of resident
 * models stay within `memory` bytes.
 */
export function startEngine({ training = false, memory }: EngineOptions = {}): {
  engine: Engine
  ready: Promise<void>
} {
  const bundled = process.env['LIBRA_ENGINE_ENTRY'] // scripts/bundle.mjs puts the path of the bundle here
  const tsx = (): string => pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
  const child = fork(
    bundled ?? fileURLToPath(new URL('./serve.ts', import.meta.url)),
    training ? ['training'] : [],
    {
      serialization: 'advanced',
      execArgv: bundled === undefined ? ['--import', tsx()] : [],
      env: {
        ...process.env,
        ...{ TF_CPP_MIN_LOG_LEVEL: '3', TF_FORCE_GPU_ALLOW_GROWTH: 'true' },
        ...(memory === undefined ? {} : { LIBRA_ENGINE_MEMORY: String(memory) }),
      },
      stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
    },
  )
  const tail = lastLines(child)
  const listeners = new Map<number, Listener>()
  let nextId = 0
  let lost: LibraError | null = null

  const ready = new Promise<void>((resolve, reject) => {
    child.on('message', (reply: Reply) => {
      if ('ready' in reply) resolve()
      else listeners.get(reply.id)?.(reply)
    })
    child.on('exit', (code, signal) => {
      lost = new LibraError(
        'engine_lost',
        `the engine process ended (${signal ?? `exit ${code}`}): ${tail()}`,
        { fault: 'engine' },
      )
      for (const listener of [...listeners.values()]) listener({ lost })
      reject(lost)
    })
  })
  ready.catch(() => {}) // the calls fail

  const send = (request: Request): void => {
    if (lost !== null) throw lost
    child.send(request)
  }
  const call = <C extends Call>(
    name: C,
    argument: unknown,
    signal?: AbortSignal,
  ): ReturnType<Calls[C]> =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(cancelled())
      const id = nextId++
      const abort = (): void => send({ id, call: 'abort' })
      listeners.set(id, (reply) => {
        listeners.delete(id)
        signal?.removeEventListener('abort', abort)
        if ('lost' in reply) reject(reply.lost)
        else if ('error' in reply) reject(reviveError(reply.error))
        else if ('result' in reply) resolve(reply.result as never)
      })
      send({ id, call: name, argument })
      signal?.addEventListener('abort', abort)
    }) as ReturnType<Calls[C]>

  const engine: Engine = {
    describe: (model) => call('describe', model),
    score: (request, signal) => call('score', request, signal),
    scoreAll: (request, signal) => call('scoreAll', request, signal),
    generate: (request, signal) => call('generate', request, signal),
    optionLogprobs: (request) => call('optionLogprobs', request),
    likelihoods: (request) => call('likelihoods', request),
    merge: (request) => call('merge', request),
    status: () => call('status', undefined),
    peak: () => call('peak', undefined),
    async *train(spec, signal) {
      const id = nextId++
      const arrived: Parameters<Listener>[0][] = []
      let wake = (): void => {}
      listeners.set(id, (reply) => {
        arrived.push(reply)
        wake()
      })
      const abort = (): void => send({ id, call: 'abort' })
      if (signal?.aborted) throw cancelled() // an event that has been is not heard any more
      signal?.addEventListener('abort', abort)
      try {
        send({ id, call: 'train', argument: spec })
        for (;;) {
          const reply = arrived.shift()
          if (reply === undefined) await new Promise<void>((resolve) => (wake = resolve))
          else if ('lost' in reply) throw reply.lost
          else if ('error' in reply) throw signal?.aborted ? cancelled() : reviveError(reply.error)
          else if ('end' in reply) return
          else if ('event' in reply) yield reply.event satisfies TrainEvent
        }
      } finally {
        signal?.removeEventListener('abort', abort)
        listeners.delete(id)
      }
    },
    async close() {
      if (lost !== null) return
      await call('close', undefined)
      const ended = new Promise((resolve) => child.once('exit', resolve))
      child.disconnect()
      await ended
    },
  }
  return { engine, ready }
}

/** Keeps the end of what the child says on stderr, to explain its death. */
function lastLines(child: ChildProcess): () => string {
  let text = ''
  child.stderr?.on('data', (chunk: Buffer) => (text = (text + chunk.toString()).slice(-2000)))
  return () => text.trim().split('\n').slice(-3).join(' | ')
}
