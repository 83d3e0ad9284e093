import { availableParallelism } from 'node:os'
import type { Engine } from '../engine/engine.ts'
import { LibraError } from '../errors.ts'
import { openWeights } from '../weights/shards.ts'
import type { Services } from './services.ts'

/** Lends a training engine to some work. */
export type Lend = <T>(work: (engine: Engine) => Promise<T>) => Promise<T>

/**
 * Training engines for many pieces of work: each has one of its own while it lasts, and one is kept between them. One
 * that is lost is started again by the next.
 */
export function keepEngines({ startTraining }: Pick<Services, 'startTraining'>): {
  lend: Lend
  close(): Promise<void>
} {
  let kept: Engine | null = null
  const end = (engine: Engine | null): Promise<void> | undefined => engine?.close().catch(() => {}) // it may be gone already
  return {
    async close() {
      await end(kept)
      kept = null
    },
    async lend(work) {
      const free = kept
      kept = null
      const engine = free ?? (await startTraining())
      let lost = false
      try {
        return await work(engine)
      } catch (error) {
        lost = error instanceof LibraError && error.code === 'engine_lost'
        throw error
      } finally {
        if (lost || kept !== null) await end(engine)
        else kept = engine
      }
    },
  }
}

/** Above this a training shares its passes out well enough that a second one beside it gains little. */
const SMALL_PARAMETERS = 10e6

/** Whether trainings of these bases are done sooner side by side: kernels of a small one are too short for two cores. */
export async function gainsSideBySide(
  { serving }: Services,
  bases: readonly string[],
): Promise<boolean> {
  if (availableParallelism() < 2 || (await serving.status()).device !== 'cpu') return false
  for (const base of bases) if ((await parametersOf(base)) > SMALL_PARAMETERS) return false
  return true
}

async function parametersOf(base: string): Promise<number> {
  const { tensors, close } = await openWeights(base)
  close()
  const sizeOf = (shape: readonly number[]): number => shape.reduce((n, size) => n * size, 1)
  return [...tensors.values()].reduce((sum, { shape }) => sum + sizeOf(shape), 0)
}
