import { defineConfig } from 'vitest/config'
import shared from './vitest.config.ts'

// npm run test:kill: runs are killed in every phase; several minutes.
export default defineConfig({
  test: {
    ...shared.test,
    include: ['tests/e2e/kill.test.ts', 'tests/e2e/kill-loop.test.ts'],
    env: { ...shared.test?.env, LIBRA_KILLS: 'all' },
  },
})
