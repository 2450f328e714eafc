// Runs the command as a user's shell would.
import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'

export const MAIN = join(import.meta.dirname, '..', '..', 'dist', 'cli', 'main.js')

export interface Ended {
  status: number | null
  stdout: string
  stderr: string
}

export interface Started {
  child: ChildProcess
  ended: Promise<Ended>
  /** Resolves when stderr holds the text. */
  says: (text: string) => Promise<void>
}

/** Starts the command and leaves it running. */
export const start = (args: string[], cwd?: string, env?: NodeJS.ProcessEnv): Started =>
  startProgram(process.execPath, [MAIN, ...args], cwd, env)

/** Starts any program and leaves it running. */
export function startProgram(
  program: string,
  args: string[],
  cwd?: string,
  env?: NodeJS.ProcessEnv,
): Started {
  const child = spawn(program, args, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let [stdout, stderr] = ['', '']
  let heard = () => {}
  child.stdout.setEncoding('utf8').on('data', text => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', text => {
    stderr += text
    heard()
  })
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', status => resolve({ status, stdout, stderr }))
  })
  const says = (text: string) =>
    new Promise<void>((resolve, reject) => {
      heard = () => {
        if (stderr.includes(text)) resolve()
      }
      heard()
      ended.then(end => reject(new Error(`ended without saying it: ${JSON.stringify(end)}`)))
    })
  return { child, ended, says }
}

/** Runs the command to its end. */
export const bae = (args: string[], cwd?: string, env?: NodeJS.ProcessEnv): Promise<Ended> =>
  start(args, cwd, env).ended
