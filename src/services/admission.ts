import { LibraError } from '../errors.ts'

export type Admission = {
  /** Does work of so many items, or throws `overloaded` when too much waits already. */
  admit<T>(items: number, work: () => Promise<T>): Promise<T>
}

/**
 * Bounds what waits for the serving engine: memory stays bounded, and a client that would wait too long is told at
 * once when to come again, after as long as the last work took. What is alone is always let in.
 */
export function createAdmission(limit: number): Admission {
  let inside = 0
  let lastMs = 0
  return {
    async admit(items, work) {
      if (inside > 0 && inside + items > limit)
        throw new LibraError('overloaded', `${inside} items wait already, ${limit} are taken`, {
          fault: 'engine',
          details: { retry_after: Math.max(1, Math.ceil(lastMs / 1000)) },
        })
      const start = performance.now()
      inside += items
      try {
        return await work()
      } finally {
        inside -= items
        lastMs = performance.now() - start
      }
    },
  }
}
