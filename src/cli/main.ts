#!/usr/bin/env node
import { readFileSync } from 'node:fs'
import process from 'node:process'
import { Command, CommanderError } from 'commander'
import { bench } from './bench.js'
import { compare } from './compare.js'
import { convert } from './convert.js'
import { devices } from './devices.js'
import { encode } from './encode.js'
import { entropy } from './entropy.js'
import { evaluate } from './evaluate.js'
import { inspect } from './inspect.js'
import { merge } from './merge.js'
import {
  context,
  Interruption,
  type OutputOptions,
  type Run,
  reportFailure,
  STATUS,
  UsageError,
  type Work,
  withOutput,
} from './output.js'
import { probe } from './probe.js'
import { sweep } from './sweep.js'
import { synthetic } from './synthetic.js'
import { train } from './train.js'

/** A second Ctrl-C this soon is the same keystroke, passed on by npm. */
const SAME_KEYSTROKE = 300

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))

process.exitCode = await main()

/** Runs the command that the arguments name, and gives the exit status. */
async function main(): Promise<number> {
  const json = process.argv.includes('--json')
  outliveClosedPipes()
  try {
    await program(interruptible()).parseAsync()
    return 0
  } catch (error) {
    if (!(error instanceof CommanderError)) return reportFailure(error, json)
    if (error.code === 'commander.helpDisplayed' || error.code === 'commander.version') return 0
    const message =
      error.code === 'commander.help' ? 'no command given' : error.message.replace(/^error: /, '')
    return reportFailure(new UsageError(`${message.replace(/\.$/, '')}; see --help`), json)
  }
}

function program(signal: AbortSignal): Command {
  const program = new Command('bae')
    .description('Binary Autoencoders on the hidden states of language models')
    .version(version)
    .showSuggestionAfterError()
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
    .addHelpText(
      'after',
      '\nExit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 143 asked to end.',
    )
  const run: Run =
    <A extends unknown[]>(work: Work<A>) =>
    async (...args: unknown[]) => {
      const { json, quiet, ...options } = args.at(-2) as OutputOptions
      const given = context({ json, quiet }, signal)
      try {
        await work(given, ...([...args.slice(0, -2), options] as unknown as A))
      } finally {
        given.progress.stop()
      }
    }
  for (const command of [
    train,
    sweep,
    encode,
    entropy,
    merge,
    evaluate,
    compare,
    probe,
    convert,
    synthetic,
    inspect,
    devices,
    bench,
  ])
    withOutput(command(program, run))
  return program
}

/** The signal that Ctrl-C aborts, and a request to end; a second one ends the process at once. */
function interruptible(): AbortSignal {
  const controller = new AbortController()
  let first = 0
  const interrupt = (signal: 'SIGINT' | 'SIGTERM') => {
    if (!controller.signal.aborted) {
      first = performance.now()
      controller.abort(new Interruption(signal))
    } else if (performance.now() - first > SAME_KEYSTROKE) process.exit(STATUS[signal])
  }
  process.on('SIGINT', interrupt)
  process.on('SIGTERM', interrupt)
  return controller.signal
}

/** `bae … | head` is no failure, and the work goes on; any other loss of the output is one. */
function outliveClosedPipes(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') process.exit(reportFailure(error, false))
    })
  }
}
