import { cancelled } from '../errors.ts'

/** What rows (token ids, or what has as many tokens) go through, one result each. Rows under one `key` may go together. */
export type Group<T, R extends Long> = { key: string; run(rows: R[]): T[] }
type Long = { readonly length: number }

type Request = {
  group: Group<unknown, Long>
  /** the result of each row, once it had its pass */
  results: unknown[]
  left: number
  resolve(results: unknown[]): void
  reject(error: unknown): void
}
type Row = { request: Request; at: number; row: Long; due: number }

export type Batcher = {
  /** Runs rows in passes shared with whoever waits; the result of each row, in order. */
  submit<T, R extends Long>(
    group: Group<T, R>,
    rows: readonly R[],
    signal?: AbortSignal,
  ): Promise<T[]>
  /** For work of many steps: lets what has arrived be heard, and one waiting pass go first. */
  between(): Promise<void>
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** A request's rows are due this long after one another, so that a big request does not hold up small ones. */
const APART_MS = 2
/**
 * Joins rows of different callers into passes of about `tokens` tokens. When nothing is under way a pass starts at
 * once; what arrives during a pass waits for the next one, and that is all the waiting there is. Each pass takes the
 * rows that have been due longest. A pass that fails is tried again request by request: a caller meets nobody's errors
 * but its own.
 */
export function createBatcher(tokens: number): Batcher {
  let waiting: Row[] = []
  let working = false
  const passed: (() => void)[] = []

  /** Takes the rows of the next pass out of the queue. */
  function next(): Row[] {
    waiting.sort((a, b) => a.due - b.due)
    const key = waiting[0]?.request.group.key
    let room = tokens
    const taken = new Set<Row>()
    for (const row of waiting) {
      if (row.request.group.key !== key) continue
      room -= row.row.length
      if (room < 0 && taken.size > 0) break
      taken.add(row)
    }
    waiting = waiting.filter((row) => !taken.has(row))
    return [...taken]
  }

  function run(rows: readonly Row[]): void {
    const values = rows[0]?.request.group.run(rows.map(({ row }) => row))
    rows.forEach(({ request, at }, i) => {
      request.results[at] = values?.[i]
      request.left--
      if (request.left === 0) request.resolve(request.results)
    })
  }

  function drop(request: Request, error: unknown): void {
    waiting = waiting.filter((row) => row.request !== request)
    request.reject(error)
  }

  function attempt(rows: readonly Row[]): void {
    try {
      run(rows)
    } catch (error) {
      const requests = new Set(rows.map(({ request }) => request))
      for (const request of requests)
        if (requests.size === 1) drop(request, error)
        else attempt(rows.filter((row) => row.request === request))
    }
  }

  async function work(): Promise<void> {
    working = true
    await turn() // what arrived together goes together
    while (waiting.length > 0) {
      attempt(next())
      for (const tell of passed.splice(0)) tell()
      await turn()
    }
    working = false
  }

  return {
    submit: <T, R extends Long>(group: Group<T, R>, rows: readonly R[], signal?: AbortSignal) =>
      new Promise<T[]>((resolve, reject) => {
        if (signal?.aborted) return reject(cancelled())
        if (rows.length === 0) return resolve([])
        const abort = (): void => drop(request, cancelled())
        const end = (): void => signal?.removeEventListener('abort', abort)
        const request: Request = {
          ...{
            group: group as Group<unknown, never>,
            results: new Array<unknown>(rows.length),
            left: rows.length,
          },
          resolve(results) {
            end()
            resolve(results as T[])
          },
          reject(error) {
            end()
            reject(error as Error)
          },
        }
        signal?.addEventListener('abort', abort)
        const now = performance.now()
        rows.forEach((row, at) => waiting.push({ request, at, row, due: now + at * APART_MS }))
        if (!working) void work()
      }),
    async between() {
      await turn()
      if (waiting.length > 0) await new Promise<void>((resolve) => passed.push(resolve))
    },
  }
}
