// Our training step beside its peers', in one run and in turns: `npm run bench`. Each peer's losses and gradients are checked
// against ours first; one that is missing or wrong is listed with the reason and not timed.
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { PEERS, PRODUCT } from './peers/list.mjs'
import { peersOf, positive, shapeOf } from './step/arguments.mjs'
import { compared, tell, withoutTimes } from './step/compared.mjs'
import { machine } from './step/machine.mjs'
import { REAL, runner, settings, VARIANTS } from './step/ours.mjs'
import { closePeers, label, open, openPeers, turns } from './step/peers.mjs'
import { densityPicture, picture } from './step/picture.mjs'
import { shapeName, tables } from './step/table.mjs'

/** The other densities at which our own step is timed: all features live. */
const DENSITIES = ['0.02', '0.05', '0.1', '0.2', '0.5']

const ENCODE_ROWS = 100_000
const ENCODE_SHAPE = { dIn: 576, dSae: 2304, batchSize: 512 }

const { values: options } = parseArgs({
  options: {
    // d_in x d_sae x rows; may be given again
    shape: { type: 'string', multiple: true, default: ['576x2304x512', '2048x8192x512'] },
    // share of bits that are on, or that / share of features that are live; the first is that of the fixture and of the tables
    density: { type: 'string', multiple: true, default: [`${REAL.density}/${REAL.live}`, ...DENSITIES] },
    // all peers run on the first of these, PyTorch on the others too
    threads: { type: 'string', multiple: true, default: ['2', '1'] },
    rounds: { type: 'string', default: '5' },
    peers: { type: 'string', default: Object.keys(PEERS).join() },
    // the first shape and threads, two rounds, nothing written
    quick: { type: 'boolean', default: false },
    // the report goes there, and no picture is drawn
    out: { type: 'string' },
  },
})

const root = fileURLToPath(new URL('..', import.meta.url))
const say = line => console.error(line)

function densityOf(text) {
  const [density, live = 1] = text.split('/').map(part => positive(part, '--density'))
  return { density, live }
}

const quick = options.quick
const shapes = options.shape.slice(0, quick ? 1 : undefined).map(shapeOf)
const densities = options.density.map(densityOf)
const threadCounts = options.threads.slice(0, quick ? 1 : undefined).map(text => positive(text, '--threads'))
const roundCount = quick ? 2 : positive(options.rounds, '--rounds')
const peerNames = peersOf(options.peers, PEERS)

// another build of the package can be named, to be compared with its peers in the same way
const { bench } = await import(process.env.BAE_BENCH_PACKAGE ?? '../dist/index.js')

const folder = await mkdtemp(join(tmpdir(), 'bae-bench-'))
process.on('SIGINT', async () => {
  await closePeers(open)
  await rm(folder, { recursive: true, force: true })
  process.exit(130)
})

/** Writes the fixture of a shape; gives its path. */
async function fixtureOf(shape, threads) {
  const fixture = join(folder, `${shape.dIn}x${shape.dSae}x${shape.batchSize}.safetensors`)
  await bench({ ...settings(shape, densities[0], threads), fixture })
  return fixture
}

/** Times what runs in `runners` in turns; gives a row each, compared with the first. */
const timed = (runners, failed) => compared(runners, roundCount, { failed, progress: say })

/** Our step and its peers' at one shape and on so many threads. */
async function stepsBesidePeers(shape, fixture, threads) {
  say(`\n${shapeName(shape)}, ${threads} threads`)
  const missing = []
  const entries = peerNames
    .map(name => [name, PEERS[name]])
    .filter(([, entry]) => threads === threadCounts[0] || entry.oneThread)
  const peers = await openPeers(entries, fixture, threads, missing)
  const plain = settings(shape, densities[0], threads)
  const ours = Object.entries(VARIANTS).map(([name, variant]) =>
    runner(bench, name, { ...plain, ...variant }),
  )
  const theirs = peers.map(peer => turns(peer, count => ({ cmd: 'steps', count })))
  const rows = await timed([...ours, ...theirs], (name, error) => {
    missing.push({ name, reason: error.message })
    say(`${name} failed: ${error.message}`)
  })
  tell(rows, ours, peers)
  await closePeers(peers)
  const density = ours[0].last.density
  return { shape, threads, density, rows, missing }
}

/** Our step alone, for each of `variations` `{ label, shape?, density? }`. */
async function alone(title, variations) {
  say(`\n${title}`)
  const runners = variations.map(({ label, shape = shapes[0], density = densities[0] }) =>
    runner(bench, label, settings(shape, density, threadCounts[0])),
  )
  const rows = await timed(runners)
  rows.forEach((row, at) => {
    row.report = withoutTimes(runners[at].last)
  })
  return { title, rows }
}

/** How our step grows with the rows and with the features. */
async function growths() {
  const [large, small] = [
    { dIn: 2048, dSae: 8192 },
    { dIn: 576, batchSize: 512 },
  ]
  const rows = [512, 1024, 2048, 4096].map(batchSize => ({
    label: `${batchSize} rows`,
    shape: { ...large, batchSize },
  }))
  const features = [2304, 4608, 9216].map(dSae => ({ label: `d_sae ${dSae}`, shape: { ...small, dSae } }))
  return [
    await alone('Our step by rows, at (2048, 8192)', rows),
    await alone('Our step by features, at d_in 576 and 512 rows', features),
  ]
}

async function encoding(threads) {
  say(`\nencoding ${ENCODE_ROWS} rows`)
  const missing = []
  const fixture = await fixtureOf(ENCODE_SHAPE, threads)
  const [peer] = await openPeers(Object.entries(PRODUCT), fixture, threads, missing)
  const ours = {
    name: 'ours, encode',
    async time() {
      const given = { ...settings(ENCODE_SHAPE, densities[0], threads), encodeRows: ENCODE_ROWS }
      return [(await bench(given)).encode.seconds * 1000]
    },
  }
  const theirs = peer ? [turns(peer, () => ({ cmd: 'encode', rows: ENCODE_ROWS }))] : []
  const runs = await timed([ours, ...theirs], (name, error) => missing.push({ name, reason: error.message }))
  for (const run of runs) {
    run.rowsPerSecond = (ENCODE_ROWS / run.ms.median) * 1000
    if (run.name === peer?.name) run.label = label(peer.told)
  }
  if (peer) await closePeers([peer])
  return { shape: ENCODE_SHAPE, rows: ENCODE_ROWS, threads, runs, missing }
}

try {
  const report = { date: new Date().toISOString(), machine: machine(), rounds: roundCount }
  if (report.machine.loadAverage > 0.5) say('the machine is busy: times of several threads mean little then')
  report.steps = []
  for (const shape of shapes) {
    const fixture = await fixtureOf(shape, threadCounts[0])
    for (const threads of threadCounts) report.steps.push(await stepsBesidePeers(shape, fixture, threads))
    await rm(fixture)
  }
  report.densities = []
  for (const shape of shapes) {
    const variations = densities.map(at => ({
      label: `density ${at.density}${at.live < 1 ? `, ${100 * at.live} % of the features live` : ''}`,
      shape,
      density: at,
    }))
    report.densities.push(await alone(`Our step by density, at ${shapeName(shape)}`, variations))
  }
  report.growth = quick ? [] : await growths()
  report.encode = await encoding(threadCounts[0])

  console.log(tables(report))
  const out = options.out ?? (quick ? null : join(root, 'bench', 'results', 'step.json'))
  if (out) {
    await writeFile(out, `${JSON.stringify(report, null, 2)}\n`)
    say(`wrote ${out}`)
  }
  if (!quick && !options.out) {
    await mkdir(join(root, 'docs', 'images'), { recursive: true })
    await writeFile(join(root, 'docs', 'images', 'step.svg'), await picture(report))
    await writeFile(join(root, 'docs', 'images', 'density.svg'), await densityPicture(report))
    const page = join(root, 'docs', 'performance.md')
    const marks = /(<!-- step -->\n)[\s\S]*?(<!-- \/step -->)/
    const text = await readFile(page, 'utf8')
    await writeFile(
      page,
      text.replace(marks, (_, begin, end) => `${begin}${tables(report)}\n${end}`),
    )
  }
} finally {
  await closePeers(open)
  await rm(folder, { recursive: true, force: true })
}
