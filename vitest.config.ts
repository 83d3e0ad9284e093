import { defineConfig } from 'vitest/config'

// Files run in child processes of their own: two TensorFlow threads in one process crash.
export default defineConfig({
  test: {
    include: ['tests/**/*.test.ts'],
    exclude: ['tests/interop/**', 'tests/browser/**'], // npm run test:interop, test:browser
    pool: 'forks',
    poolOptions: { forks: { minForks: 1, maxForks: 2 } },
    testTimeout: 120_000,
    hookTimeout: 120_000,
    env: {
      TF_CPP_MIN_LOG_LEVEL: '3',
      // on a GPU: several files share it, and float32 means float32
      TF_FORCE_GPU_ALLOW_GROWTH: 'true',
      NVIDIA_TF32_OVERRIDE: '0',
    },
  },
})
