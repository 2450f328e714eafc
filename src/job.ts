import type { DeviceChoice } from './devices.js'
import { BaeError, codeOf, describe, fromNative } from './errors.js'
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
  /** Where to compute. Default `cpu`: on a device each call begins by copying the model there. */
  device?: DeviceChoice | undefined
  /** CPU threads, at most 1024; by default one for each physical core. The result does not depend on it. */
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

/** @internal Calls a user's listener; what it throws, or rejects with, must not end the process. */
export function tell<T>(listener: ((event: T) => unknown) | undefined, event: T): void {
  try {
    const answer = listener?.(event)
    if (answer instanceof Promise) answer.catch(() => {})
  } catch {
    // the listener's own affair
  }
}

/** @internal The options of a call, once they are an object and their signal is one. */
export function checked<T extends CallOptions>(options: T): T {
  if (typeof options !== 'object' || options === null) {
    throw new BaeError('INVALID_ARGUMENT', `options must be an object, not ${describe(options)}`)
  }
  const signal: unknown = options.signal ?? undefined
  if (signal === undefined || isSignal(signal)) return options
  throw new BaeError('INVALID_ARGUMENT', `signal must be an AbortSignal, not ${describe(signal)}`)
}

function isSignal(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false
  const signal = value as Record<string, unknown>
  const methods = ['addEventListener', 'removeEventListener', 'throwIfAborted']
  return typeof signal.aborted === 'boolean' && methods.every(name => typeof signal[name] === 'function')
}

/** What waits for each signal, and the listener that tells it. */
const waiting = new WeakMap<AbortSignal, { all: Set<() => void>; listener: () => void }>()

/**
 * @internal Calls `then` when the signal aborts; gives what ends the wait. All calls with one signal share one
 * listener: of more than ten Node warns.
 */
export function onAbort(signal: AbortSignal | undefined, then: () => void): () => void {
  if (!signal) return () => {}
  const { all, listener } = waiting.get(signal) ?? waitingFor(signal)
  if (all.size === 0) signal.addEventListener('abort', listener, { once: true })
  all.add(then)
  return () => {
    if (all.delete(then) && all.size === 0) signal.removeEventListener('abort', listener)
  }
}

function waitingFor(signal: AbortSignal) {
  const all = new Set<() => void>()
  const listener = () => {
    for (const then of all) then()
  }
  const entry = { all, listener }
  waiting.set(signal, entry)
  return entry
}

/** @internal Starts a job and settles when it has ended. A cancelled one rejects with the signal's reason. */
export function runJob(start: (on: On) => Job, watch: JobWatch = {}): Promise<{ job: Job; json: string }> {
  const { signal, progress, cancelled } = watch
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted()
    const heard = (event: JobEvent) => {
      if (event.kind === 'progress') return tell(progress, JSON.parse(event.json) as never)
      unwatch()
      if (event.kind === 'done') return resolve({ job, json: event.json })
      if (event.kind === 'failed') return reject(new BaeError(codeOf(event.code), event.message))
      tell(cancelled, event.json)
      reject(signal?.reason)
    }
    // what the addon's callback throws would end the process
    const on: On = event => {
      try {
        heard(event)
      } catch (cause) {
        job.cancel()
        reject(new BaeError('INTERNAL', 'the call could not be followed to its end', { cause }))
      }
    }
    const job = started(start, on)
    let unwatch = () => {}
    try {
      unwatch = onAbort(signal, () => job.cancel())
    } catch (error) {
      job.cancel()
      throw error
    }
  })
}

function started(start: (on: On) => Job, on: On): Job {
  try {
    return start(on)
  } catch (error) {
    throw fromNative(error)
  }
}

/** @internal The number of threads as the addon takes it: 0 means one for each physical core. */
export function threadsOf(threads: number | undefined): number {
  if (threads === undefined) return 0
  if (positiveInteger('threads', threads) <= MOST_THREADS) return threads
  throw new BaeError('INVALID_ARGUMENT', `threads must be at most ${MOST_THREADS}, not ${threads}`)
}

const MOST_THREADS = 1024

/** @internal Refuses what is no string, or an empty one. */
export function pathOf(name: string, value: unknown): string {
  if (typeof value === 'string' && value !== '') return value
  throw new BaeError('INVALID_ARGUMENT', `${name} must be a path (a string), not ${describe(value)}`)
}

/** @internal Refuses what is not of the type named. */
export function ofType<T>(name: string, type: 'string' | 'boolean', value: T): T {
  if (typeof value === type) return value
  throw new BaeError('INVALID_ARGUMENT', `${name} must be a ${type}, not ${describe(value)}`)
}

/** @internal Refuses what is not a whole number above zero. */
export function positiveInteger(name: string, value: unknown): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value > 0) return value
  const shown = typeof value === 'number' ? value : describe(value)
  throw new BaeError('INVALID_ARGUMENT', `${name} must be a whole number above 0, not ${shown}`)
}

/** @internal What a job that ended well must have left. */
export function taken<T>(value: T | null, what: string): T {
  if (value !== null) return value
  throw new BaeError('INTERNAL', `the finished job left no ${what}`)
}
