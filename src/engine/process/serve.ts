import './priority.ts'
import { serializeError } from '../../errors.ts'
import { createLocalEngine } from '../local.ts'
import type { Reply, Request } from './protocol.ts'

/** The child's side: one local engine, spoken to over the IPC channel. It ends when its parent does. */
const memory = Number(process.env['LIBRA_ENGINE_MEMORY']) || undefined
const engine = createLocalEngine(memory === undefined ? {} : { memory })
const running = new Map<number, AbortController>()
const send = (reply: Reply): void => void process.send?.(reply)

async function answer(request: Request): Promise<void> {
  const { id, call } = request
  if (call === 'abort') return running.get(id)?.abort()
  const controller = new AbortController()
  running.set(id, controller)
  try {
    if (call === 'train') {
      for await (const event of engine.train(request.argument, controller.signal))
        send({ id, event })
      return send({ id, end: true })
    }
    const method = engine[call] as (argument: unknown, signal: AbortSignal) => Promise<unknown>
    send({ id, result: await method(request.argument, controller.signal) })
  } catch (error) {
    send({ id, error: serializeError(error) })
  } finally {
    running.delete(id)
  }
}

process.on('message', (request: Request) => void answer(request))
process.on('disconnect', () => process.exit(0))
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {}) // the parent decides
send({ ready: true })
