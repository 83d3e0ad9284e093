import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

/** A side of a bench: a process that answers each line of JSON with one, the first of them `ready`. */
export type Reply = { seconds: number; tokens: number; check?: number[] }
export type Worker = { ready: string; ask(job: object): Promise<Reply>; close(): void }

export async function start(
  command: string,
  args: string[],
  env: NodeJS.ProcessEnv,
): Promise<Worker> {
  const child = spawn(command, args, { env, stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const next = async (): Promise<Record<string, unknown>> => {
    const { value, done } = await lines.next()
    if (done) throw new Error(`${command} ended`)
    return JSON.parse(value as string) as Record<string, unknown>
  }
  const { ready } = await next()
  return {
    ready: String(ready),
    async ask(job) {
      child.stdin.write(`${JSON.stringify(job)}\n`)
      const reply = await next()
      if (reply['error'] !== undefined) throw new Error(`${command}: ${String(reply['error'])}`)
      return reply as Reply
    },
    close: () => child.kill(),
  }
}

export const median = (values: number[]): number => {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? NaN)
    : ((sorted[middle - 1] ?? NaN) + (sorted[middle] ?? NaN)) / 2
}
