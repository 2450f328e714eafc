// Our training step on a GPU, by stages, beside what the card's arithmetic allows and beside PyTorch's step on the same card, in
// one run and in turns: `npm run bench:gpu`. Without a GPU it runs on a software device, where its figures mean nothing.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { GPU_PEERS } from './peers/list.mjs'
import { fail, peersOf, positive, shapeOf } from './step/arguments.mjs'
import { compared, tell } from './step/compared.mjs'
import { gpuTables } from './step/gpu_table.mjs'
import { machine } from './step/machine.mjs'
import { REAL, runner, settings } from './step/ours.mjs'
import { closePeers, open, openPeers, turns } from './step/peers.mjs'
import { shapeName } from './step/table.mjs'

const SHAPES = ['576x2304x512', '2048x8192x512', '2048x8192x4096', '4096x32768x4096']

const { values: options } = parseArgs({
  options: {
    // d_in x d_sae x rows; may be given again
    shape: { type: 'string', multiple: true },
    device: { type: 'string', default: 'gpu' },
    rounds: { type: 'string', default: '5' },
    peers: { type: 'string', default: Object.keys(GPU_PEERS).join() },
    // the report goes there; without it a real GPU's goes to bench/results/gpu.json and docs/performance.md
    out: { type: 'string' },
  },
})

const root = fileURLToPath(new URL('..', import.meta.url))
const say = line => console.error(line)
const { bench, devices } = await import('../dist/index.js')

const found = await devices()
const named = found.devices.find(({ index, name }) =>
  options.device === 'gpu'
    ? index === 0
    : `${index}` === options.device || name.toLowerCase().includes(options.device.toLowerCase()),
)
if (!named) {
  const names = found.devices.map(({ name }) => name).join(', ')
  fail(`no device ${options.device}: there ${names ? `are ${names}` : `is none (${found.reason})`}`)
}
const software = named.kind === 'software'
if (software)
  say(`${named.name} is software: the figures below mean nothing, the run only shows that all of it works`)

const shapes = (options.shape ?? (software ? ['64x256x64'] : SHAPES)).map(shapeOf)
const peerNames = peersOf(options.peers, GPU_PEERS)
const roundCount = positive(options.rounds, '--rounds')
const VARIANTS = { ours: {}, ...(named.halfFloats ? { 'ours, f16': { precision: 'f16' } } : {}) }

const folder = await mkdtemp(join(tmpdir(), 'bae-bench-'))
process.on('SIGINT', async () => {
  await closePeers(open)
  await rm(folder, { recursive: true, force: true })
  process.exit(130)
})

async function stepsAt(shape) {
  say(`\n${shapeName(shape)}`)
  const missing = []
  const given = { ...settings(shape, REAL, 1), device: `${named.index}` }
  const fixture = join(folder, 'step.safetensors')
  const ours = Object.entries(VARIANTS).map(([name, variant]) =>
    runner(bench, name, { ...given, ...variant }),
  )
  const entries = peerNames.map(name => [name, GPU_PEERS[name]])
  if (entries.length) await bench({ ...given, fixture })
  const peers = await openPeers(entries, fixture, 1, missing)
  const theirs = peers.map(peer => turns(peer, count => ({ cmd: 'steps', count })))
  const rows = await compared([...ours, ...theirs], roundCount, {
    failed: (name, error) => missing.push({ name, reason: error.message }),
    progress: say,
  })
  tell(rows, ours, peers)
  await closePeers(peers)
  await rm(fixture, { force: true })
  return { shape, rows, missing }
}

try {
  const report = {
    date: new Date().toISOString(),
    machine: machine(),
    device: named,
    rounds: roundCount,
    steps: [],
  }
  for (const shape of shapes) {
    try {
      report.steps.push(await stepsAt(shape))
    } catch (error) {
      say(`${shapeName(shape)} is not timed: ${error.message}`)
      report.steps.push({ shape, rows: [], missing: [{ name: 'ours', reason: error.message }] })
    }
  }
  const text = gpuTables(report)
  console.log(text)
  const out = options.out ?? (software ? null : join(root, 'bench', 'results', 'gpu.json'))
  if (out) {
    await writeFile(out, `${JSON.stringify(report, null, 2)}\n`)
    say(`wrote ${out}`)
  }
  if (!software && !options.out) {
    const page = join(root, 'docs', 'performance.md')
    const marks = /(<!-- gpu -->\n)[\s\S]*?(<!-- \/gpu -->)/
    await writeFile(
      page,
      (await readFile(page, 'utf8')).replace(marks, (_, begin, end) => `${begin}${text}\n${end}`),
    )
  }
} finally {
  await closePeers(open)
  await rm(folder, { recursive: true, force: true })
}
