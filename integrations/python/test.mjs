// Runs the tests of the Python side, in the environment that install.mjs makes.
import { spawnSync } from 'node:child_process'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { python } from './install.mjs'

const { error, status } = spawnSync(
  python,
  ['-m', 'pytest', '-p', 'no:cacheprovider', ...process.argv.slice(2)],
  {
    cwd: fileURLToPath(new URL('.', import.meta.url)),
    env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1' },
    stdio: 'inherit',
  },
)
if (error) console.error(error.message)
process.exit(status ?? 1)
