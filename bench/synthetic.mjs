// The figures of the synthetic benchmark: trains on hidden states whose entropy is known, and writes what the codes come to.
//
//   npm run experiment:synthetic              runs everything, a few minutes on 2 idle cores
//   npm run experiment:synthetic -- --quick   one seed and few steps, into runs/synthetic-quick/: to see that it works
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { synthetic } from '../dist/index.js'
import { made, rounded, write, writeTables } from './recipe/writing.mjs'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const { values: options } = parseArgs({ options: { quick: { type: 'boolean', default: false } } })
const quick = join(root, 'runs', 'synthetic-quick')
const results = options.quick
  ? join(quick, 'synthetic.json')
  : join(root, 'bench', 'results', 'synthetic.json')
const document = options.quick ? join(quick, 'tables.md') : join(root, 'docs', 'entropy.md')

const SEEDS = options.quick ? [0] : [0, 1, 2]
const RANKS = [2, 4, 8, 16, 32]
const COMMON = { dSae: 256, device: 'cpu', ...(options.quick ? { steps: 20 } : {}) }

/** The settings that the published trainer reached its figures with; the preset gives the rest. */
const PUBLISHED = {
  preset: 'reference',
  batchSize: 128,
  epochs: 200,
  learningRate: 2e-3,
  entropyWeight: 1e-6,
  covarianceWeight: 3e-6,
}

const figures = {}

const tables = {
  independent: await independent(),
  noise: await noise(),
  rows: await rows(),
  dependent: await dependent(),
  published: await published(),
  estimated: await estimated(),
}
write(results, `${JSON.stringify({ made: made(root), common: COMMON, runs: figures }, null, 2)}\n`)
writeTables(document, 'synthetic', tables)

/** Independent bits at every rank and width: the worst of the seeds. */
async function independent() {
  const lines = []
  for (const dIn of [64, 256, 512]) {
    for (const rank of RANKS) {
      const runs = await overSeeds({ kind: 'independent', rank, dIn })
      lines.push([dIn, rank, range(runs, 'entropyBits'), range(runs, 'liveFeatures'), ...worst(runs)])
    }
  }
  return table(['d', 'r', 'ΣH, bits', 'live features', 'F1', 'MCC', 'cosine', 'FVU'], lines)
}

/** Noise and random directions. */
async function noise() {
  const lines = []
  for (const rank of [4, 16, 32]) {
    for (const noise of [0.01, 0.02, 0.05, 0.1]) {
      for (const preset of ['minimal', 'default']) {
        const runs = await overSeeds({ kind: 'independent', rank, noise, directions: 'random', preset })
        const share = mean(runs, 'noiseFraction')
        lines.push([rank, noise, digits(share), preset, range(runs, 'entropyBits'), ...worst(runs)])
      }
    }
  }
  const names = [
    'r',
    'noise',
    'its share of the variance',
    'preset',
    'ΣH, bits',
    'F1',
    'MCC',
    'cosine',
    'FVU',
  ]
  return table(names, lines)
}

/** Fewer rows, and more. */
async function rows() {
  const lines = []
  for (const rank of [8, 32]) {
    for (const rows of [500, 1000, 2000, 20000]) {
      const runs = await overSeeds({ kind: 'independent', rank, rows, noise: 0.02 })
      lines.push([rank, rows, range(runs, 'entropyBits'), range(runs, 'liveFeatures'), ...worst(runs)])
    }
  }
  return table(['r', 'rows', 'ΣH, bits', 'live features', 'F1', 'MCC', 'cosine', 'FVU'], lines)
}

/** Bits that depend on one another, and rare ones. */
async function dependent() {
  const lines = []
  for (const kind of ['pairs', 'markov', 'common-cause', 'sparse']) {
    for (const rank of [2, 8, 16, 32]) {
      const runs = await overSeeds({ kind, rank })
      const { trueBits, trueMarginalBits } = runs[0]
      lines.push([
        kind,
        rank,
        digits(trueBits),
        digits(trueMarginalBits),
        range(runs, 'entropyBits'),
        digits(differences(kind, rank)),
        ...worst(runs),
      ])
    }
  }
  const names = ['kind', 'r', 'joint', 'Σ of the bits', 'ΣH of the code', 'ΣH of differences']
  return table([...names, 'F1', 'MCC', 'cosine', 'FVU'], lines)
}

/** The published settings, raw and centred, and our presets. */
async function published() {
  const lines = []
  for (const rank of [2, 4, 8]) {
    for (const [name, settings] of [
      ['published, raw input', PUBLISHED],
      ['published, centred input', { ...PUBLISHED, normalize: 'default' }],
      ['`default`', { preset: 'default' }],
      ['`minimal`', { preset: 'minimal' }],
    ]) {
      const runs = await overSeeds({ kind: 'independent', rank, ...settings })
      const joint = range(
        runs.map(({ patterns }) => patterns),
        'plugIn',
      )
      lines.push([rank, name, range(runs, 'entropyBits'), joint, range(runs, 'liveFeatures'), ...worst(runs)])
    }
  }
  const names = [
    'r',
    'recipe',
    'ΣH, bits',
    'joint (plug-in), bits',
    'live features',
    'F1',
    'MCC',
    'cosine',
    'FVU',
  ]
  return table(names, lines)
}

/** What the estimators make of codes that say each bit once, and of codes that repeat them. */
async function estimated() {
  const lines = []
  for (const [kind, name, settings] of [
    ['independent', '`minimal`', { preset: 'minimal' }],
    ['independent', 'published, raw input', PUBLISHED],
    ['markov', '`minimal`', { preset: 'minimal' }],
    ['common-cause', '`minimal`', { preset: 'minimal' }],
    ['sparse', '`minimal`', { preset: 'minimal' }],
  ]) {
    for (const rank of [2, 4, 8, 16]) {
      const runs = await overSeeds({ kind, rank, ...settings })
      const tree = runs.map(({ joint }) => ({ tree: joint?.tree.bits ?? 0 }))
      const fvu = digits(Math.max(...runs.map(run => run.fvu)))
      const figures = [range(runs, 'entropyBits'), range(runs, 'jointBits'), range(tree, 'tree')]
      lines.push([kind, rank, name, digits(runs[0].trueBits), range(runs, 'liveFeatures'), ...figures, fvu])
    }
  }
  const names = [
    'kind',
    'r',
    'recipe',
    'truth, bits',
    'live features',
    'ΣH',
    '`jointBits`',
    'tree, held out',
    'FVU',
  ]
  return table(names, lines)
}

/**
 * ΣH of another code that reconstructs dependent bits exactly: one bit as it is, every other one as two features, on where it rises above
 * and where it falls below the one it follows. For a common cause, which is no bit, that one is the majority of the bits.
 */
function differences(kind, rank) {
  const h = p => (p <= 0 || p >= 1 ? 0 : -p * Math.log2(p) - (1 - p) * Math.log2(1 - p))
  if (kind === 'sparse') return rank * h(0.05)
  if (kind === 'pairs') return (rank / 2) * (1 + 2 * h(0.05))
  if (kind === 'markov') return 1 + (rank - 1) * 2 * h(0.05)
  // by the number of ones: bit 0 is one of them with probability ones / rank
  const odds = Array.from({ length: rank + 1 }, (_, ones) => {
    let ways = 1
    for (let k = 0; k < ones; k++) ways = (ways * (rank - k)) / (k + 1)
    return (ways * (0.9 ** ones * 0.1 ** (rank - ones) + 0.1 ** ones * 0.9 ** (rank - ones))) / 2
  })
  const sum = of => odds.reduce((sum, p, ones) => sum + p * of(ones), 0)
  const majority = ones => ones > rank / 2
  const on = sum(ones => (majority(ones) ? 1 : 0))
  const above = sum(ones => (majority(ones) ? 0 : ones / rank))
  const below = sum(ones => (majority(ones) ? 1 - ones / rank : 0))
  return h(on) + rank * (h(above) + h(below))
}

async function overSeeds(settings) {
  const runs = []
  for (const seed of SEEDS) {
    const name = Object.entries({ ...settings, seed })
      .map(([name, value]) => `${name} ${value}`)
      .join(', ')
    const { recovery, training, ...report } = await synthetic({
      ...settings,
      ...COMMON,
      ...length(settings),
      seed,
    })
    const { cosine, f1, mcc } = recovery
    figures[name] = rounded({ ...report, cosine, f1, mcc, seconds: training.seconds })
    console.log(
      `${name}: ${figures[name].entropyBits} of ${report.trueBits.toFixed(2)} bits, F1 ${figures[name].f1}, ` +
        `FVU ${figures[name].fvu}, ${training.seconds.toFixed(1)} s`,
    )
    runs.push({ ...report, cosine, f1, mcc })
  }
  return runs
}

/** Steps and epochs exclude each other. */
function length({ epochs }) {
  return epochs && options.quick ? { epochs: undefined } : {}
}

function worst(runs) {
  const least = name => digits(Math.min(...runs.map(run => run[name])))
  return [least('f1'), least('mcc'), least('cosine'), digits(Math.max(...runs.map(run => run.fvu)))]
}

function range(runs, name) {
  const values = runs.map(run => run[name])
  const [low, high] = [Math.min(...values), Math.max(...values)].map(digits)
  return low === high ? low : `${low} to ${high}`
}

function mean(runs, name) {
  return runs.reduce((sum, run) => sum + run[name], 0) / runs.length
}

function digits(value) {
  if (Number.isInteger(value)) return `${value}`
  return value.toFixed(value < 1 ? 3 : 2).replace(/^0(?=\.)/, '')
}

function table(names, lines) {
  const row = cells => `| ${cells.join(' | ')} |`
  return [row(names), row(names.map(() => '---:')), ...lines.map(row)].join('\n')
}
