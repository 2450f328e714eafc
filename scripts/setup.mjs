// The steps that make a clone ready. Node built-ins only: it runs before anything is installed.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')

/** Says one line and ends. */
function fail(line) {
  console.error(line)
  process.exit(1)
}

/** Runs a step; its output goes to stderr, so that `npm start -- --json` keeps stdout for its document. */
function step(what, command, args) {
  const began = performance.now()
  const { error, status, signal } = spawnSync(command, args, {
    cwd: root,
    stdio: ['ignore', 2, 2],
    shell: process.platform === 'win32' && command === 'npm',
  })
  if (error) fail(`${what}: ${command} could not be started: ${error.message}`)
  if (status !== 0) fail(`${what} failed (${signal ?? `exit ${status}`}): see the lines above`)
  const seconds = (performance.now() - began) / 1000
  if (seconds > 3) console.error(`${what}: ${seconds.toFixed(0)} s`)
}

/** The version that a tool reports, as numbers, or null where the tool is missing. */
function version(tool) {
  const { stdout, status } = spawnSync(tool, ['--version'], { cwd: root, encoding: 'utf8' })
  const match = status === 0 ? /(\d+)\.(\d+)\.(\d+)/.exec(stdout) : null
  return match?.slice(1).map(Number)
}

function rust() {
  const needed = /rust-version = "(\d+)\.(\d+)"/.exec(readFileSync(join(root, 'Cargo.toml'), 'utf8')).slice(1)
  const [cargo, rustc] = [version('cargo'), version('rustc')]
  if (!cargo || !rustc) {
    fail(
      `Rust ${needed.join('.')} or newer is needed to build, and none was found: install it from https://rustup.rs`,
    )
  }
  for (const [major, minor, patch] of [cargo, rustc]) {
    if (major < +needed[0] || (major === +needed[0] && minor < +needed[1])) {
      fail(
        `Rust ${needed.join('.')} or newer is needed to build, this is ${major}.${minor}.${patch}: ` +
          'run `rustup update`, or install it from https://rustup.rs',
      )
    }
  }
}

function packages() {
  const hash = createHash('sha256')
  for (const file of ['package.json', 'package-lock.json']) {
    if (existsSync(join(root, file))) hash.update(readFileSync(join(root, file)))
  }
  const digest = `${hash.digest('hex')} ${process.platform}-${process.arch}\n`
  const stamp = join(root, 'node_modules', '.bae-ready')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === digest) return
  rmSync(stamp, { force: true })
  console.error('installing packages …')
  // not `npm ci`: it refuses the lock file where a registry lacks some optional platform package (npm/cli#9846)
  step('npm install', 'npm', ['install', '--no-save', '--no-audit', '--no-fund', '--loglevel=error'])
  mkdirSync(dirname(stamp), { recursive: true })
  writeFileSync(stamp, digest)
}

function addon(release) {
  if (!existsSync(join(root, 'native', 'binding.cjs'))) {
    console.error('building the native addon (one to three minutes the first time) …')
  }
  // cargo knows what is stale; never `--profile dev`: the tool then looks in the wrong folder
  step('native addon', process.execPath, [
    join('node_modules', '@napi-rs', 'cli', 'dist', 'cli.js'),
    'build',
    '--platform',
    ...['--output-dir', 'native', '--js', 'binding.cjs', '--dts', 'binding.d.cts', '--no-const-enum'],
    ...(release ? ['--release'] : []),
  ])
}

function javascript() {
  step('tsc', process.execPath, [
    join('node_modules', 'typescript', 'bin', 'tsc'),
    ...['--build', 'tsconfig.json', 'tsconfig.cjs.json'],
  ])
  const scope = join(root, 'dist-cjs', 'package.json')
  if (!existsSync(scope)) writeFileSync(scope, '{ "type": "commonjs" }\n')
}

/** Brings packages, addon and JavaScript up to date. `--release`: the optimised build that is published. */
export function ready(args) {
  rust()
  packages()
  addon(args.includes('--release'))
  javascript()
}
