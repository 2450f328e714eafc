// How fast codes are counted: ones of each feature and of each pair of features beside numpy and PyTorch, and what
// statistics add to the encoding of hidden states. In one run and in turns; each peer's counts are compared with ours first,
// one that is missing or wrong is listed with the reason: `npm run bench:entropy`.
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { parseArgs, promisify } from 'node:util'
import { counted, countingTables } from './entropy/table.mjs'
import { COUNTING, python } from './peers/list.mjs'
import { Peer } from './peers/process.mjs'
import { positive } from './step/arguments.mjs'
import { compared } from './step/compared.mjs'
import { machine } from './step/machine.mjs'
import { REAL } from './step/ours.mjs'
import { closePeers, label, open, turns } from './step/peers.mjs'

/** What counts how, ours first. */
const WAYS = {
  pairs: [
    ['ours', 'pairs', 'counts::pairs'],
    ['numpy', 'pairs_f32', 'product of f32'],
    ['numpy', 'pairs_bitwise_count', 'AND and bitwise_count of packed features'],
    ['torch', 'pairs_f32', 'product of f32'],
    ['torch', 'pairs_int8', 'product of int8'],
  ],
  ones: [
    ['ours', 'ones', 'counts::ones'],
    ['ours', 'read', 'the same bytes only read'],
    ['numpy', 'ones_unpackbits', 'unpackbits and sum'],
    ['numpy', 'ones_uint8', 'sum of bytes'],
    ['numpy', 'ones_f32', 'sum of f32'],
    ['torch', 'ones_uint8', 'sum of bytes'],
    ['torch', 'ones_f32', 'sum of f32'],
  ],
}

/** Bundled hidden states, so often: about 200,000 rows. */
const STATES = fileURLToPath(new URL('../examples/data/glosses/layer20.safetensors', import.meta.url))
const TIMES = 49

const { values: options } = parseArgs({
  options: {
    rows: { type: 'string', default: '100000' },
    features: { type: 'string', default: '2304' },
    // share of bits that are on, or that / share of features that are ever on
    density: { type: 'string', multiple: true, default: ['0.1', `${REAL.density}/${REAL.live}`] },
    threads: { type: 'string', multiple: true, default: ['2'] },
    rounds: { type: 'string', default: '5' },
    // the first density and threads, two rounds, few rows, nothing written
    quick: { type: 'boolean', default: false },
    // the report goes there and not to bench/results/entropy.json and docs/performance.md
    out: { type: 'string' },
  },
})
const quick = options.quick
const rows = quick ? 10_000 : positive(options.rows, '--rows')
const features = positive(options.features, '--features')
const roundCount = quick ? 2 : positive(options.rounds, '--rounds')
const densities = options.density.slice(0, quick ? 1 : undefined)
const threadCounts = options.threads.slice(0, quick ? 1 : undefined).map(text => positive(text, '--threads'))

const run = promisify(execFile)
const root = fileURLToPath(new URL('..', import.meta.url))
const say = line => console.error(line)
const { train } = await import('../dist/index.js')

const folder = await mkdtemp(join(tmpdir(), 'bae-bench-'))
process.on('SIGINT', async () => {
  await closePeers(open)
  await rm(folder, { recursive: true, force: true })
  process.exit(130)
})

/** The program that counts as ours does, built for speed; it answers as the peers do. */
async function builtCounting() {
  const args = ['bench', '--no-run', '--message-format=json', '-p', 'bae-data', '--bench', 'counting']
  const { stdout } = await run('cargo', args, { cwd: root, maxBuffer: 2 ** 26 })
  const messages = stdout.split('\n').filter(line => line.startsWith('{'))
  const built = messages.map(line => JSON.parse(line)).findLast(({ executable }) => executable)
  return { command: built.executable, args: [] }
}

const entries = { ours: await builtCounting(), ...COUNTING }

/** A process that has the codes in memory. */
async function opened(name, fixture, threads) {
  const peer = new Peer(name, entries[name], threads)
  open.add(peer)
  peer.told = await peer.ask({ cmd: 'open', fixture, threads })
  return peer
}

async function counting(density, threads) {
  const [share, live = 1] = density.split('/').map(part => positive(part, '--density'))
  say(`\ncounting ${rows} × ${features}, density ${density}, ${threads} threads`)
  const fixture = join(folder, 'codes.safetensors')
  const script = COUNTING.numpy.args[0]
  await run(python(), [script, 'make', fixture, `${rows}`, `${features}`, `${share}`, `${live}`])
  const report = { rows, features, density: share, live, threads, missing: [] }
  const missing = (name, error) => {
    const reason = error.message.replaceAll(root, '')
    say(`${name} is not timed: ${reason}`)
    report.missing.push({ name, reason })
  }
  const peers = new Map()
  for (const name of Object.keys(entries)) {
    try {
      peers.set(name, await opened(name, fixture, threads))
    } catch (error) {
      if (name === 'ours') throw error
      missing(name, error)
    }
  }
  for (const [kind, ways] of Object.entries(WAYS)) {
    const runners = []
    let want
    for (const [name, what, how] of ways.filter(([name]) => peers.has(name))) {
      const peer = peers.get(name)
      const runner = turns(peer, count => ({ cmd: 'time', what, count }))
      runner.name = name === 'ours' ? how : `${label(peer.told)}: ${how}`
      peer.resume()
      try {
        if (what !== 'read') {
          const out = join(folder, 'counts')
          await peer.ask({ cmd: 'check', what, out })
          const counts = await readFile(out)
          want ??= counts
          if (!counts.equals(want)) throw new Error('wrong: the counts are not ours')
        }
        runners.push(runner)
      } catch (error) {
        if (name === 'ours') throw error
        missing(runner.name, error)
      } finally {
        peer.pause()
      }
    }
    report[kind] = await compared(runners, roundCount, { failed: missing, progress: say })
  }
  await closePeers(peers.values())
  return report
}

/** Hidden states to codes, to a file of codes, to statistics and to statistics of pairs. */
async function passes() {
  say('\ntraining the model that encodes')
  const settings = { device: 'cpu', ...(quick ? { steps: 20 } : {}) }
  const { model } = await train(STATES, settings)
  const states = Array.from({ length: quick ? 2 : TIMES }, () => STATES)
  const out = join(folder, 'encoded.safetensors')
  let last
  const timed = (name, work) => ({
    name,
    async time(count, warmUp) {
      if (warmUp) await work()
      const times = []
      for (let at = 0; at < count; at++) {
        const began = performance.now()
        await work()
        times.push(performance.now() - began)
      }
      return times
    },
  })
  const runs = await compared(
    [
      timed('encode, into memory', async () => (await model.encode(states)).dispose()),
      timed('encodeToFile', () => model.encodeToFile(states, out, { overwrite: true })),
      timed('entropy', async () => {
        last = await model.entropy(states)
      }),
      timed('entropy with pairs', () => model.entropy(states, { pairs: true })),
    ],
    roundCount,
    { progress: say },
  )
  const { dIn, dSae } = model
  return { rows: last.rows, dIn, dSae, density: last.density, dead: last.deadFraction, runs }
}

try {
  const report = { date: new Date().toISOString(), machine: machine(), rounds: roundCount }
  if (report.machine.loadAverage > 0.5) say('the machine is busy: times of several threads mean little then')
  report.counting = []
  for (const density of densities)
    for (const threads of threadCounts) report.counting.push(await counting(density, threads))
  report.passes = await passes()
  console.log(countingTables(report))
  const out = options.out ?? (quick ? null : join(root, 'bench', 'results', 'entropy.json'))
  if (out) {
    await writeFile(out, `${JSON.stringify(report, null, 2)}\n`)
    say(`wrote ${out}`)
  }
  if (!quick && !options.out) await counted(join(root, 'docs', 'performance.md'), report)
} finally {
  await closePeers(open)
  await rm(folder, { recursive: true, force: true })
}
