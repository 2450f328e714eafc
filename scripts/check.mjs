// The one check of everything, for a developer and for CI alike: runs and times every stage, goes on after a failure,
// and closes with the sum over the tests of both languages. A stage without tests counts only when it fails or is
// skipped. `node scripts/check.mjs rust vitest` runs only the stages whose name contains one of the words.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { stripVTControlCharacters } from 'node:util'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const node = process.execPath
const bin = (...parts) => join('node_modules', ...parts)
const seconds = began => `${((performance.now() - began) / 1000).toFixed(1)} s`

/** Runs a command; what it prints is shown as it comes (`live`) or kept for the case that it fails. */
function run(command, args, { live = false } = {}) {
  return new Promise(resolve => {
    let output = ''
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', text => {
        output += text
        if (live) process.stdout.write(text)
      })
    }
    child.on('error', error => resolve({ ok: false, output: `${output}${error.message}\n` }))
    child.on('close', code => resolve({ ok: code === 0, output: stripVTControlCharacters(output) }))
  })
}

const counts = (passed = 0, failed = 0, skipped = 0, note = '') => ({ passed, failed, skipped, note })

/** A stage that has no tests: passes or fails as a whole. */
const whole = (command, args) => async () => {
  const { ok, output } = await run(command, args)
  if (!ok) process.stdout.write(output)
  return counts(0, ok ? 0 : 1)
}

/** A stage that needs a rustup component, which not every machine has. */
const component = (name, args) => async () => {
  const sub = name === 'rustfmt' ? 'fmt' : name
  if (spawnSync('cargo', [sub, '--version'], { cwd: root }).status === 0) return whole('cargo', args)()
  return counts(0, 0, 1, `${name} is not installed: rustup component add ${name}`)
}

async function rustTests() {
  const { ok, output } = await run('cargo', ['test', '--workspace', '--no-fail-fast'], { live: true })
  const sum = counts()
  for (const [, passed, failed, ignored] of output.matchAll(
    /^test result: \S+ (\d+) passed; (\d+) failed; (\d+) ignored/gm,
  )) {
    sum.passed += +passed
    sum.failed += +failed
    sum.skipped += +ignored
  }
  if (!ok && sum.failed === 0) sum.failed = 1
  return sum
}

async function vitest() {
  const report = join(root, 'target', 'vitest.json')
  mkdirSync(dirname(report), { recursive: true })
  rmSync(report, { force: true })
  const { ok } = await run(
    node,
    [
      bin('vitest', 'vitest.mjs'),
      'run',
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${report}`,
    ],
    { live: true },
  )
  if (!existsSync(report)) return counts(0, 1, 0, 'vitest wrote no report')
  const { numPassedTests, numFailedTests, numPendingTests, numTodoTests } = JSON.parse(
    readFileSync(report, 'utf8'),
  )
  const failed = ok ? numFailedTests : Math.max(1, numFailedTests)
  return counts(numPassedTests, failed, numPendingTests + numTodoTests)
}

/** Every program in examples/ runs to its end. */
async function examples() {
  const sum = counts()
  const programs = readdirSync(join(root, 'examples')).filter(name => /\.m?js$/.test(name))
  for (const name of programs.sort()) {
    const { ok, output } = await run(node, [join('examples', name)])
    if (!ok) process.stdout.write(`examples/${name}:\n${output}`)
    sum[ok ? 'passed' : 'failed']++
  }
  return sum
}

const stages = [
  ['biome', whole(node, [bin('@biomejs', 'biome', 'bin', 'biome'), 'check', '--error-on-warnings'])],
  ['types', whole(node, [bin('typescript', 'bin', 'tsc'), '-p', '__test__'])],
  ['rust format', component('rustfmt', ['fmt', '--all', '--check'])],
  ['rust lints', component('clippy', ['clippy', '--workspace', '--lib', '--tests', '--', '-D', 'warnings'])],
  ['rust tests', rustTests],
  ['vitest', vitest],
  ['examples', examples],
]

const wanted = process.argv.slice(2)
const total = counts()
const lines = []
for (const [name, stage] of stages) {
  if (wanted.length && !wanted.some(word => name.includes(word))) continue
  const began = performance.now()
  console.log(`── ${name} …`)
  const { passed, failed, skipped, note } = await stage()
  total.passed += passed
  total.failed += failed
  total.skipped += skipped
  const tests = passed || failed || skipped ? `, ${passed} passed, ${failed} failed, ${skipped} skipped` : ''
  const state = failed ? 'FAILED' : skipped && !passed ? 'skipped' : 'ok'
  lines.push(`${name}: ${state}, ${seconds(began)}${tests}${note ? ` (${note})` : ''}`)
  console.log(lines.at(-1))
}

console.log(`\n${lines.join('\n')}`)
console.log(
  `${total.passed} passed, ${total.failed} failed${total.skipped ? `, ${total.skipped} skipped` : ''}`,
)
process.exitCode = total.failed ? 1 : 0
