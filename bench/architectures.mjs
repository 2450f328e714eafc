// Our training steps of `topk` and `relu` beside those that SAELens and dictionary_learning take with their own trainers, in one
// run and in turns: `npm run bench:architectures`. Each peer's first loss and gradients are checked against ours first.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { trainers } from './peers/list.mjs'
import { positive, shapeOf } from './step/arguments.mjs'
import { compared, tell } from './step/compared.mjs'
import { machine } from './step/machine.mjs'
import { LEARNING_RATE, runner } from './step/ours.mjs'
import { closePeers, open, openPeers, turns } from './step/peers.mjs'
import { machineLine, shapeName, stepTable } from './step/table.mjs'

/** Features that are on in a row of `topk`. */
const K = 32

/** What is timed: of a sparse autoencoder that begins, about half of the pre-activations are above 0. */
const ARCHITECTURES = {
  topk: { architecture: 'topk', k: K, density: 0.5 },
  // the weight of the penalty is so high that it shows in the gradients that are compared
  relu: { architecture: 'relu', sparsityWeight: 1e-2, density: 0.5 },
}

/** Rows of the table that are ours: the trainers of both peers clip, ours does if it is told to. */
const VARIANTS = { ours: { clipNorm: 1 }, 'ours, without clipping': {} }

const { values: options } = parseArgs({
  options: {
    // d_in x d_sae x rows; may be given again
    shape: { type: 'string', multiple: true, default: ['576x2304x512', '2048x8192x512'] },
    architecture: { type: 'string', multiple: true, default: Object.keys(ARCHITECTURES) },
    threads: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '5' },
    // the first shape, two rounds, nothing written
    quick: { type: 'boolean', default: false },
  },
})

const root = fileURLToPath(new URL('..', import.meta.url))
const say = line => console.error(line)
const { quick } = options
const shapes = options.shape.slice(0, quick ? 1 : undefined).map(shapeOf)
const threads = positive(options.threads, '--threads')
const roundCount = quick ? 2 : positive(options.rounds, '--rounds')

const { bench } = await import('../dist/index.js')

const folder = await mkdtemp(join(tmpdir(), 'bae-bench-'))
process.on('SIGINT', async () => {
  await closePeers(open)
  await rm(folder, { recursive: true, force: true })
  process.exit(130)
})

/** Our step and its peers' at one architecture and shape. */
async function stepsBesidePeers(architecture, shape) {
  say(`\n${architecture} at ${shapeName(shape)}, ${threads} threads`)
  const plain = { ...shape, ...ARCHITECTURES[architecture], threads, learningRate: LEARNING_RATE, seed: 0 }
  const fixture = join(folder, 'step.safetensors')
  await bench({ ...plain, steps: 1, warmUp: 0, fixture })
  const missing = []
  const peers = await openPeers(Object.entries(trainers(architecture, K)), fixture, threads, missing)
  await rm(fixture)
  const ours = Object.entries(VARIANTS).map(([name, variant]) =>
    runner(bench, name, { ...plain, ...variant }),
  )
  const theirs = peers.map(peer => turns(peer, count => ({ cmd: 'steps', count })))
  const rows = await compared([...ours, ...theirs], roundCount, {
    progress: say,
    failed: (name, error) => {
      missing.push({ name, reason: error.message })
      say(`${name} failed: ${error.message}`)
    },
  })
  tell(rows, ours, peers)
  await closePeers(peers)
  return { architecture, shape, threads, density: ours[0].last.density, rows, missing }
}

function tables(report) {
  return [`${machineLine(report)}\n`, ...report.steps.map(stepTable)].join('\n')
}

try {
  const report = { date: new Date().toISOString(), machine: machine(), rounds: roundCount, steps: [] }
  if (report.machine.loadAverage > 0.5) say('the machine is busy: times of several threads mean little then')
  for (const architecture of options.architecture)
    for (const shape of shapes) report.steps.push(await stepsBesidePeers(architecture, shape))
  console.log(tables(report))
  if (!quick) {
    const out = join(root, 'bench', 'results', 'architectures.json')
    await writeFile(out, `${JSON.stringify(report, null, 2)}\n`)
    say(`wrote ${out}`)
    const page = join(root, 'docs', 'performance.md')
    const marks = /(<!-- architectures -->\n)[\s\S]*?(<!-- \/architectures -->)/
    const text = await readFile(page, 'utf8')
    await writeFile(
      page,
      text.replace(marks, (_, begin, end) => `${begin}\n${tables(report)}\n${end}`),
    )
  }
} finally {
  await closePeers(open)
  await rm(folder, { recursive: true, force: true })
}
