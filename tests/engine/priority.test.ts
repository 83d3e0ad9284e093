import { readdirSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { expect, test } from 'vitest'
import { spawnEngine } from '../../src/engine/process/spawn.ts'

test.runIf(process.platform === 'linux')(
  'a training engine steps back with all threads of its pool, not its main thread alone',
  async () => {
    const engine = await spawnEngine({ training: true })
    try {
      const { pid } = await engine.status()
      const nice = readdirSync(`/proc/${pid}/task`).map((thread) => {
        const stat = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8')
        return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16]) // proc(5), field 19
      })
      expect(nice.filter((n) => n >= 10).length).toBeGreaterThan(availableParallelism())
    } finally {
      await engine.close()
    }
  },
)
