import { defineConfig } from 'vitest/config'

// What takes minutes and watches memory: `npm run test:soak`, one file after the other.
export default defineConfig({
  test: {
    include: ['__test__/soak/**/*.soak.ts'],
    pool: 'forks',
    fileParallelism: false,
    testTimeout: 3_600_000,
    hookTimeout: 600_000,
  },
})
