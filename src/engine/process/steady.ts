import { LibraError } from '../../errors.ts'
import type { Engine } from '../engine.ts'
import { spawnEngine } from './spawn.ts'

/**
 * An engine that comes back: when its process is lost, the calls under way fail with `engine_lost`, and another process
 * is started for those to come.
 */
export async function steadyEngine(options: { memory?: number } = {}): Promise<Engine> {
  let closed = false
  let current = spawnEngine(options)
  await current
  const replace = (lost: Promise<Engine>, error: unknown): void => {
    if (closed || current !== lost) return
    if (!(error instanceof LibraError) || error.code !== 'engine_lost') return
    current = spawnEngine(options)
    current.catch(() => {}) // whoever asks next is told
  }
  const use = async <T>(ask: (engine: Engine) => Promise<T>): Promise<T> => {
    const mine = current
    try {
      return await ask(await mine)
    } catch (error) {
      replace(mine, error)
      throw error
    }
  }
  return {
    describe: (model) => use((engine) => engine.describe(model)),
    score: (request, signal) => use((engine) => engine.score(request, signal)),
    scoreAll: (request, signal) => use((engine) => engine.scoreAll(request, signal)),
    generate: (request, signal) => use((engine) => engine.generate(request, signal)),
    optionLogprobs: (request) => use((engine) => engine.optionLogprobs(request)),
    likelihoods: (request) => use((engine) => engine.likelihoods(request)),
    merge: (request) => use((engine) => engine.merge(request)),
    status: () => use((engine) => engine.status()),
    peak: () => use((engine) => engine.peak()),
    async *train(spec, signal) {
      const mine = current
      try {
        yield* (await mine).train(spec, signal)
      } catch (error) {
        replace(mine, error)
        throw error
      }
    },
    async close() {
      closed = true
      await (await current.catch(() => null))?.close()
    },
  }
}
