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
function run(command, args, { live = false, env = {} } = {}) {
  return new Promise(resolve => {
    let output = ''
    const child = spawn(command, args, {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
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

/** A tool that not every machine has: its name, the command that installs it, and one that succeeds where it is. */
const tool = (name, install, command, ...args) => ({
  name,
  install,
  there: () => spawnSync(command, args, { cwd: root }).status === 0,
})
const component = name =>
  tool(name, `rustup component add ${name}`, 'cargo', name === 'rustfmt' ? 'fmt' : name, '--version')
const debian = (name, program) => tool(name, `apt-get install ${name}`, program, '--version')
/** The standard library for another target. */
const target = name => ({
  name: `Rust target ${name}`,
  install: `rustup target add ${name}`,
  there() {
    const { stdout } = spawnSync('rustc', ['--print', 'target-libdir', '--target', name], {
      cwd: root,
      encoding: 'utf8',
    })
    return existsSync(stdout?.trim() || 'nowhere')
  },
})
const miri = tool(
  'Miri',
  'rustup toolchain install nightly --component miri,rust-src',
  ...['rustup', 'which', '--toolchain', 'nightly', 'cargo-miri'],
)

/** A stage that needs tools: skipped where one is missing. */
const needing = (tools, stage) => async () => {
  const missing = tools.find(({ there }) => !there())
  return missing ? counts(0, 0, 1, `no ${missing.name}: ${missing.install}`) : stage()
}

/** The tests that cargo runs, one command after the other. */
const rustTests = (commands, env) => async () => {
  const sum = counts()
  for (const args of commands) {
    const { ok, output } = await run('cargo', args, { live: true, env })
    let failures = 0
    for (const [, passed, failed, ignored] of output.matchAll(
      /^test result: \S+ (\d+) passed; (\d+) failed; (\d+) ignored/gm,
    )) {
      sum.passed += +passed
      failures += +failed
      sum.skipped += +ignored
    }
    sum.failed += ok ? 0 : Math.max(1, failures)
  }
  return sum
}

/** Module of those tests outside of bae-gpu that need a device. */
const ON_A_DEVICE = 'on_a_device'

/** Whether models can be trained on a device beside the CPU, be it software; null if that cannot be told. */
function device() {
  const { status, stdout } = spawnSync(node, [join('dist', 'cli', 'main.js'), 'devices', '--json'], {
    cwd: root,
    encoding: 'utf8',
  })
  const found = status === 0 && JSON.parse(stdout).devices.length > 0
  // Mesa's software device is installed: not to see it is a defect
  const expected =
    existsSync('/usr/share/vulkan/icd.d') &&
    readdirSync('/usr/share/vulkan/icd.d').some(name => name.startsWith('lvp_')) &&
    spawnSync('ldconfig', ['-p'], { encoding: 'utf8' }).stdout?.includes('libvulkan.so.1')
  return status === 0 && (found || !expected) ? found : null
}

/** The tests that need a device; where there is none they are counted as skipped. */
async function onGpu() {
  const commands = [
    ['test', '-p', 'bae-gpu', '--no-fail-fast', '--'],
    ['test', '-p', 'bae-train', '--test', 'gpu', '--', ON_A_DEVICE],
  ]
  const there = device()
  if (there === null)
    return counts(0, 1, 0, '`bae devices` fails, or does not list the software device that is installed')
  if (there) return rustTests(commands, { BAE_TEST_DEVICE: 'required', NODEVICE_SELECT: '1' })()
  let skipped = 0
  for (const args of commands) {
    const { output } = await run('cargo', [...args, '--list'])
    skipped += output.match(/: test$/gm)?.length ?? 0
  }
  return counts(0, 0, skipped, 'no Vulkan device: apt-get install mesa-vulkan-drivers')
}

const ARM64 = 'aarch64-unknown-linux-gnu'

/** The kernels, and the bits of a whole training, on arm64: under emulation, so not all tests. */
const arm64 = needing(
  [
    debian('qemu-user-static', 'qemu-aarch64-static'),
    debian('gcc-aarch64-linux-gnu', 'aarch64-linux-gnu-gcc'),
    {
      name: 'C library for arm64',
      install: 'apt-get install libc6-dev-arm64-cross',
      there: () => existsSync('/usr/aarch64-linux-gnu/lib/libc.so.6'),
    },
    target(ARM64),
  ],
  rustTests(
    [
      ['test', '--target', ARM64, '-p', 'bae-kernels', '--lib'],
      ['test', '--target', ARM64, '-p', 'bae-model', '--test', 'bit_identity'],
    ],
    {
      CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER: 'aarch64-linux-gnu-gcc',
      CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER: 'qemu-aarch64-static -L /usr/aarch64-linux-gnu',
    },
  ),
)

// Of aliasing Miri is not asked: rayon's queues break its rules and turn integers into pointers, as its authors know.
// Rayon's threads outlive the test.
const MIRI_FLAGS = '-Zmiri-disable-stacked-borrows -Zmiri-permissive-provenance -Zmiri-ignore-leaks'

/** The portable kernels; tests that are too slow there have run above. */
async function underMiri() {
  const args = ['+nightly', 'miri', 'test', '-p', 'bae-kernels', '--lib']
  const { passed, failed, skipped } = await rustTests([args], { MIRIFLAGS: MIRI_FLAGS })()
  return counts(passed, failed, 0, `${skipped} more are too slow for it`)
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

/** The libraries of others read our models, and SAELens runs them: in an environment of some gigabytes, so only where it is. */
async function python() {
  const script = join('integrations', 'python')
  if (!process.env.BAE_PYTHON && !existsSync(join(root, script, '.venv'))) {
    const tests = 'skipped: 6 GB of packages; npm run test:python installs and runs it'
    return counts(0, 0, 1, tests)
  }
  const { ok, output } = await run(node, [join(script, 'test.mjs')], { live: true })
  const count = what => +(output.match(new RegExp(`(\\d+) ${what}`))?.[1] ?? 0)
  return counts(count('passed'), ok ? 0 : Math.max(1, count('failed')), count('skipped'))
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
  ['rust format', needing([component('rustfmt')], whole('cargo', ['fmt', '--all', '--check']))],
  [
    'rust lints',
    needing(
      [component('clippy')],
      whole('cargo', ['clippy', '--workspace', '--lib', '--tests', '--benches', '--', '-D', 'warnings']),
    ),
  ],
  [
    'rust tests',
    rustTests([
      ['test', '--workspace', '--exclude', 'bae-gpu', '--no-fail-fast', '--', '--skip', ON_A_DEVICE],
    ]),
  ],
  ['gpu', onGpu],
  // on arm64 itself all tests have just run
  ...(process.arch === 'arm64' ? [] : [['rust on arm64', arm64]]),
  ['miri', needing([miri], underMiri)],
  [
    'wasm',
    needing(
      [target('wasm32-unknown-unknown')],
      whole('cargo', ['check', '-p', 'bae-kernels', '--target', 'wasm32-unknown-unknown']),
    ),
  ],
  ['vitest', vitest],
  ['python', python],
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
