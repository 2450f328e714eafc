export * from './binding.cjs'
