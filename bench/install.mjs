// Installs the peers of the benchmark into bench/, apart from the product. Nothing here is fatal: what can't be installed
// can't be opened later either, and `bench.mjs` lists it as missing with the reason.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { failure, unlessDone } from '../scripts/python.mjs'
import { python, venv } from './peers/list.mjs'

const here = fileURLToPath(new URL('.', import.meta.url))
const requirements = join(here, 'requirements.txt')

/** Runs a step; says one line if it fails. */
function tried(what, command, args) {
  const shell = process.platform === 'win32' && command === 'npm'
  const why = failure(command, args, { cwd: here, shell })
  if (why) console.error(`${what} failed (${why}); the benchmark goes on without`)
  return !why
}

unlessDone(join(here, 'node_modules', '.bench-ready'), [join(here, 'package.json')], () => {
  console.error('installing peers for Node …')
  // all are optional dependencies, so npm itself goes on without one; none needs its scripts, which fetch GPU libraries
  const args = ['install', '--no-package-lock', '--ignore-scripts', '--no-audit', '--no-fund']
  return tried('npm install', 'npm', [...args, '--loglevel=error'])
})

if (!process.env.BAE_BENCH_PYTHON) {
  if (existsSync(python()) || tried('python3 -m venv', 'python3', ['-m', 'venv', venv])) {
    unlessDone(join(venv, '.bench-ready'), [requirements], () => {
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
