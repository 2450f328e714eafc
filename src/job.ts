import { BaeError, codeOf, fromNative } from './errors.js'
import type { Job, JobEvent } from './native.js'

/** Options of every long call. */
export interface CallOptions {
  /** Ends the call early; it then rejects with the signal's reason (an `AbortError` by default). */
  signal?: AbortSignal | undefined
}

/** How far a call over many rows has come. */
export interface RowsProgress {
  type: 'rows'
  /** Rows done. */
  rows: number
  /** Rows there are. */
  total: number
}

/** Options of the calls that go through rows of hidden states or codes. */
export interface RowsOptions extends CallOptions {
  /** CPU threads; by default all there are. The result does not depend on it. */
  threads?: number | undefined
  /** Called now and then while the call runs. What it throws is ignored. */
  onProgress?: ((progress: RowsProgress) => void) | undefined
}

/** @internal What a native call answers through. */
export type On = (event: JobEvent) => void

/** @internal How a job is followed. */
export interface JobWatch {
  signal?: AbortSignal | undefined
  progress?: ((event: never) => void) | undefined
  /** The job ended because it was cancelled; `json` is what it says about that. */
  cancelled?: ((json: string) => void) | undefined
}

/** @internal Calls a user's listener; what it throws must not end the process. */
export function tell<T>(listener: ((event: T) => void) | undefined, event: T): void {
  try {
    listener?.(event)
  } catch {
    // the listener's own affair
  }
}

/** @internal Starts a job and settles when it has ended. A cancelled one rejects with the signal's reason. */
export function runJob(start: (on: On) => Job, watch: JobWatch = {}): Promise<{ job: Job; json: string }> {
  const { signal, progress, cancelled } = watch
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted()
    const cancel = () => job.cancel()
    const on: On = event => {
      if (event.kind === 'progress') return tell(progress, JSON.parse(event.json) as never)
      signal?.removeEventListener('abort', cancel)
      if (event.kind === 'done') return resolve({ job, json: event.json })
      if (event.kind === 'failed') return reject(new BaeError(codeOf(event.code), event.message))
      tell(cancelled, event.json)
      reject(signal?.reason)
    }
    const job = started(start, on)
    signal?.addEventListener('abort', cancel, { once: true })
  })
}

function started(start: (on: On) => Job, on: On): Job {
  try {
    return start(on)
  } catch (error) {
    throw fromNative(error)
  }
}

/** @internal The number of threads as the addon takes it: 0 means all there are. */
export function threadsOf(threads: number | undefined): number {
  return threads === undefined ? 0 : positiveInteger('threads', threads)
}

/** @internal Refuses what is not a whole number above zero. */
export function positiveInteger(name: string, value: unknown): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value > 0) return value
  throw new BaeError('INVALID_ARGUMENT', `${name} must be a whole number above 0, not ${String(value)}`)
}

/** @internal What a job that ended well must have left. */
export function taken<T>(value: T | null, what: string): T {
  if (value !== null) return value
  throw new BaeError('INTERNAL', `the finished job left no ${what}`)
}
