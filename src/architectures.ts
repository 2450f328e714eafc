import native from './native.js'

/** Names of all architectures that `train` takes, `bae` first; docs/architectures.md explains them. */
export function architectures(): string[] {
  return native.architectures()
}
