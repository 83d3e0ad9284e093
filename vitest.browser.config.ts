import { defineConfig } from 'vitest/config'

// In a real Chromium (Debian: `apt-get install chromium`), so not part of `npm test`.
export default defineConfig({
  test: {
    include: ['tests/browser/**/*.test.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    pool: 'forks',
    env: { TF_CPP_MIN_LOG_LEVEL: '3' },
  },
})
