import './priority.ts'
import { serializeError } from '../../errors.ts'
import { createLocalEngine } from '../local.ts'
import type { Reply, Request } from './protocol.ts'

/** The child's side: one local engine, spoken to over the IPC channel. It ends when its parent does. */
const engine = createLocalEngine()
const running = new Map<number, AbortController>()
const send = (reply: Reply): void => void process.send?.(reply)

async function train(request: Extract<Request, { call: 'train' }>): Promise<void> {
  const controller = new AbortController()
  running.set(request.id, controller)
  try {
    for await (const event of engine.train(request.argument, controller.signal))
      send({ id: request.id, event })
    send({ id: request.id, end: true })
  } finally {
    running.delete(request.id)
  }
}

async function answer(request: Request): Promise<void> {
  try {
    if (request.call === 'abort') running.get(request.id)?.abort()
    else if (request.call === 'train') await train(request)
    else {
      const method = engine[request.call] as (argument: unknown) => Promise<unknown>
      send({ id: request.id, result: await method(request.argument) })
    }
  } catch (error) {
    send({ id: request.id, error: serializeError(error) })
  }
}

process.on('message', (request: Request) => void answer(request))
process.on('disconnect', () => process.exit(0))
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {}) // the parent decides
send({ ready: true })
