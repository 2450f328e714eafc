// Virtual environments of Python packages that tests and benchmarks run, each installed once.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'

/** The Python of a virtual environment. */
export const interpreter = venv =>
  join(venv, ...(process.platform === 'win32' ? ['Scripts', 'python.exe'] : ['bin', 'python']))

/** Runs a command with its output on stderr; null, or why it failed. */
export function failure(command, args, options = {}) {
  const { error, status, signal } = spawnSync(command, args, { ...options, stdio: ['ignore', 2, 2] })
  return !error && status === 0 ? null : (error?.message ?? signal ?? `exit ${status}`)
}

/** Runs `install` unless these files are what they were when it last gave true. */
export function unlessDone(stamp, files, install) {
  const hash = createHash('sha256').update(process.version)
  for (const file of files) hash.update(readFileSync(file))
  const digest = hash.digest('hex')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === digest) return
  if (install()) writeFileSync(stamp, digest)
}
