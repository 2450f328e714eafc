import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['__test__/**/*.spec.ts'],
    pool: 'forks',
    // the tests of the command and of the packed package start processes and train for real
    testTimeout: 60_000,
    hookTimeout: 180_000,
  },
})
