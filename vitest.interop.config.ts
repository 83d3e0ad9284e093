import { defineConfig } from 'vitest/config'

// Against servers that others wrote: slow, and in need of packages from PyPI, so not part of `npm test`.
export default defineConfig({
  test: {
    include: ['tests/interop/**/*.test.ts'],
    testTimeout: 600_000,
    hookTimeout: 1_800_000,
    pool: 'forks',
    env: { TF_CPP_MIN_LOG_LEVEL: '3' },
  },
})
