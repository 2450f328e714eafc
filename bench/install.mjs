// Installs the peers of the benchmark into bench/, apart from the product. Nothing here is fatal: what can't be installed
// can't be opened later either, and `bench.mjs` lists it as missing with the reason.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { python, venv } from './peers/list.mjs'

const here = fileURLToPath(new URL('.', import.meta.url))
const requirements = join(here, 'requirements.txt')

/** Runs a step with its output on stderr; says one line if it fails. */
function tried(what, command, args) {
  const { error, status, signal } = spawnSync(command, args, {
    cwd: here,
    stdio: ['ignore', 2, 2],
    shell: process.platform === 'win32' && command === 'npm',
  })
  if (!error && status === 0) return true
  console.error(
    `${what} failed (${error?.message ?? signal ?? `exit ${status}`}); the benchmark goes on without`,
  )
  return false
}

/** Runs `install` unless these files are what they were when it last succeeded. */
function unlessDone(stamp, files, install) {
  const hash = createHash('sha256').update(process.version)
  for (const file of files) hash.update(readFileSync(join(here, file)))
  const digest = hash.digest('hex')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === digest) return
  if (install()) writeFileSync(stamp, digest)
}

unlessDone(join(here, 'node_modules', '.bench-ready'), ['package.json'], () => {
  console.error('installing peers for Node …')
  // all are optional dependencies, so npm itself goes on without one; none needs its scripts, which fetch GPU libraries
  const args = ['install', '--no-package-lock', '--ignore-scripts', '--no-audit', '--no-fund']
  return tried('npm install', 'npm', [...args, '--loglevel=error'])
})

if (!process.env.BAE_BENCH_PYTHON) {
  if (existsSync(python()) || tried('python3 -m venv', 'python3', ['-m', 'venv', venv])) {
    unlessDone(join(venv, '.bench-ready'), ['requirements.txt'], () => {
      console.error('installing peers for Python (PyTorch is large) …')
      const lines = readFileSync(requirements, 'utf8').split('\n').filter(Boolean)
      // one at a time, so that one that is not to be had leaves the others
      return lines
        .map(line =>
          tried(line, python(), ['-m', 'pip', 'install', '--quiet', '--constraint', requirements, line]),
        )
        .every(Boolean)
    })
  }
}
