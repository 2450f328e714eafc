/** Every `code` that a {@link BaeError} can carry. */
export const ERROR_CODES = [
  /** An option or argument is missing, of the wrong type, out of range, or contradicts another. */
  'INVALID_ARGUMENT',
  /** A shape does not fit its data, the other parts, or the model. */
  'SHAPE_MISMATCH',
  /** The data holds a NaN or an infinity; the message names where. */
  'NOT_FINITE',
  /** The format, or the type of the numbers in it, is not one that can be read. */
  'UNSUPPORTED_FORMAT',
  /** A file is truncated or contradicts itself. */
  'CORRUPT_FILE',
  /** The file system refused: missing, not allowed, full, or already there. */
  'IO',
  /** The memory for the work could not be had. */
  'OUT_OF_MEMORY',
  /** The device that was asked for is not there. */
  'DEVICE_UNAVAILABLE',
  /** The device stopped answering in the middle. */
  'DEVICE_LOST',
  /** The model or the codes were used after `dispose()`. */
  'DISPOSED',
  /** A defect of this package; please report it. */
  'INTERNAL',
] as const

/** What kind of failure a {@link BaeError} is. */
export type BaeErrorCode = (typeof ERROR_CODES)[number]

/**
 * Every failure of this package. `code` is for programs, `message` says what was wrong, where, and what to do.
 * (An aborted call rejects with the signal's reason instead.)
 */
export class BaeError extends Error {
  override readonly name = 'BaeError'
  readonly code: BaeErrorCode

  constructor(code: BaeErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** @internal A failure that crossed from the addon, as a `BaeError`. */
export function fromNative(error: unknown): BaeError {
  if (error instanceof BaeError) return error
  const { code, message } = error as { code?: unknown; message?: unknown }
  const text = typeof message === 'string' ? message : String(error)
  return new BaeError(codeOf(code), text, { cause: error })
}

/** @internal The contract's code for one that the addon gave; napi's own conversions say `InvalidArg` and the like. */
export function codeOf(code: unknown): BaeErrorCode {
  const known = ERROR_CODES.find(each => each === code)
  return known ?? (/^(InvalidArg|.*Expected)$/.test(String(code)) ? 'INVALID_ARGUMENT' : 'INTERNAL')
}

/** @internal A value by its kind, for messages. */
export function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value)
  if (value === '') return 'an empty string'
  if (typeof value !== 'object') return `a ${typeof value}`
  const name = Object.getPrototypeOf(value)?.constructor?.name ?? 'object'
  return `${/^[AEIOU]/i.test(name) ? 'an' : 'a'} ${name}`
}

/** @internal What a call that nobody's signal ended is rejected with. */
export function abortError(message: string): DOMException {
  return new DOMException(message, 'AbortError')
}
