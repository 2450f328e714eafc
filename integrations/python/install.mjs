// Installs SAELens, sparsify and dictionary_learning into integrations/python/.venv, on the first run and when a
// requirements file has changed. BAE_PYTHON names a Python that has them already: then nothing is installed.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { failure, interpreter, unlessDone } from '../../scripts/python.mjs'

const here = fileURLToPath(new URL('.', import.meta.url))
const venv = join(here, '.venv')

/** The Python that has the libraries. */
export const python = process.env.BAE_PYTHON ?? interpreter(venv)

function must(what, command, args) {
  const why = failure(command, args)
  if (!why) return
  console.error(
    `${what} failed (${why}): Python 3.10 or newer with venv and pip, a package index and 7 GB are needed`,
  )
  process.exit(1)
}

if (!process.env.BAE_PYTHON) {
  if (!existsSync(python)) must('python3 -m venv', 'python3', ['-m', 'venv', venv])
  const [all, bare] = ['requirements.txt', 'requirements-bare.txt'].map(name => join(here, name))
  unlessDone(join(venv, '.ready'), [all, bare], () => {
    console.error('installing SAELens, sparsify and dictionary_learning (with PyTorch 6 GB) …')
    const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check']
    must('pip install', python, [...pip, '-r', all])
    // it pins packages that no longer go together, for what is not used here
    must('pip install', python, [...pip, '--no-deps', '-r', bare])
    return true
  })
}
