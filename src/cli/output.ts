import process from 'node:process'
import type { Command } from 'commander'
import { BaeError } from '../index.js'
import { Progress } from './progress.js'

/** The options that every command has. */
export interface OutputOptions {
  json?: boolean | undefined
  quiet?: boolean | undefined
}

/** A command was used wrongly: exit status 2. */
export class UsageError extends BaeError {
  constructor(message: string) {
    super('INVALID_ARGUMENT', message)
  }
}

/** Some of the work failed; the result, which says so too, has been printed. */
export class Incomplete extends BaeError {}

/** Ctrl-C, or a request to end: exit status 130 or 143. */
export class Interruption extends Error {
  override readonly name = 'AbortError'
  readonly status: number
  /** What is known about the work that was cut off; goes into the `--json` document. */
  details: Record<string, unknown> = {}

  constructor(signal: 'SIGINT' | 'SIGTERM') {
    super('interrupted')
    this.status = STATUS[signal]
  }
}

/** Exit status after a signal: 128 and its number. */
export const STATUS = { SIGINT: 130, SIGTERM: 143 }

/** What a command works with: where its result goes, and the signal that ends it. */
export interface Context {
  signal: AbortSignal
  /** Shows how far the work has come, on stderr; stopped by whoever started it. */
  progress: Progress
  /** The result: the document on stdout with `--json`, the lines otherwise. */
  result(document: unknown, lines: string[]): void
}

/** What a command does with its arguments and options. */
export type Work<A extends unknown[]> = (context: Context, ...args: A) => Promise<void>

/** Turns a command's work into a commander action, which gets the arguments, the options and the command. */
export type Run = <A extends unknown[]>(work: Work<A>) => (...args: unknown[]) => Promise<void>

/** Adds `--json` and `--quiet`. */
export function withOutput(command: Command): Command {
  return command
    .option('--json', 'print one JSON document on stdout, and nothing else there')
    .option('--quiet', 'show no progress on stderr')
}

export function context(options: OutputOptions, signal: AbortSignal): Context {
  return {
    signal,
    progress: new Progress(!options.quiet),
    result: (document, lines) => print(options.json ? JSON.stringify(document, null, 2) : lines.join('\n')),
  }
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

/** Reports a failure, one line on stderr and with `--json` a document on stdout, and gives the exit status. */
export function reportFailure(error: unknown, json: boolean): number {
  const failure = describe(error)
  if (json && !(error instanceof Incomplete)) print(JSON.stringify({ error: failure.document }, null, 2))
  process.stderr.write(`bae: ${failure.document.message}\n`)
  return failure.status
}

function describe(error: unknown) {
  const message = (error instanceof Error ? error.message : String(error)).replace(/\s*\n\s*/g, ' ')
  if (error instanceof Interruption) {
    return { status: error.status, document: { code: 'INTERRUPTED', message, ...error.details } }
  }
  if (error instanceof BaeError) {
    return { status: error instanceof UsageError ? 2 : 1, document: { code: error.code, message } }
  }
  return { status: 1, document: { code: 'INTERNAL', message } }
}
