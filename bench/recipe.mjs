// The experiment behind docs/training.md: trains the default recipe, its variants and the published settings on the
// bundled hidden states, and writes figures, tables and pictures.
//
//   npm run experiment              runs what bench/results/recipe.json does not hold yet, twenty minutes on 2 idle cores
//   npm run experiment -- --fresh   runs everything again
//   npm run experiment -- --quick   a few steps each, into runs/recipe-quick/: to see that it works
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { train } from '../dist/index.js'
import { pictures } from './recipe/pictures.mjs'
import { allRuns, dataOf, RECIPE } from './recipe/runs.mjs'
import { gaussianBound } from './recipe/states.mjs'
import { tables } from './recipe/tables.mjs'
import { made, rounded, today, write, writeTables } from './recipe/writing.mjs'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const { values: options } = parseArgs({
  options: { fresh: { type: 'boolean', default: false }, quick: { type: 'boolean', default: false } },
})

/** The same for every run. */
const COMMON = { steps: options.quick ? 24 : 420, dSae: 2304, batchSize: 512 }

const quick = join(root, 'runs', 'recipe-quick')
const results = options.quick ? join(quick, 'recipe.json') : join(root, 'bench', 'results', 'recipe.json')
const images = options.quick ? quick : join(root, 'docs', 'images')
const document = options.quick ? join(quick, 'tables.md') : join(root, 'docs', 'training.md')

const kept = !options.fresh && existsSync(results) ? JSON.parse(readFileSync(results, 'utf8')) : undefined
if (kept && JSON.stringify(kept.common) !== JSON.stringify(COMMON)) {
  throw new Error(`${relative(root, results)} was made with other settings: run with --fresh`)
}
const runs = allRuns()
const figures = Object.fromEntries(
  runs.flatMap(({ name }) => (kept?.runs[name] ? [[name, kept.runs[name]]] : [])),
)

const missing = runs.filter(({ name }) => !figures[name])
console.log(`${runs.length} runs, ${missing.length} to do`)
const loaded = new Map()
const data = name => loaded.get(name) ?? loaded.set(name, dataOf(root, name)).get(name)
const began = performance.now()
for (const [index, run] of missing.entries()) {
  figures[run.name] = await measured(run)
  save()
  const { validation, seconds } = figures[run.name]
  const ratio = validation.ratio ? `, ${validation.ratio} x bound` : ''
  const left = (((performance.now() - began) / (index + 1)) * (missing.length - index - 1)) / 60_000
  console.log(
    `[${index + 1}/${missing.length}] ${run.name}: FVU ${validation.fvu}, ` +
      `${validation.entropyBits} bits${ratio}, ${seconds} s; ${left.toFixed(0)} min left`,
  )
}

for (const [name, svg] of Object.entries(await pictures(figures, spectra()))) {
  write(join(images, `${name}.svg`), svg)
}
writeTables(document, 'recipe', tables(figures))

/** Trains once: the figures of the held-out rows before and after, and those of texts kept out. */
async function measured({ data: name, settings }) {
  const { states, eigenvalues, keptOut } = data(name)
  const say = process.stderr.isTTY
    ? event =>
        event.type === 'epoch' && process.stderr.write(`\r${name}, step ${event.step} of ${COMMON.steps} \r`)
    : undefined
  const { model, result } = await train(states, { ...settings, ...COMMON, onEvent: say })
  if (settings.preset === 'default') checkRecipe({ ...RECIPE, ...settings }, model.config.training)
  const bounded = figures => {
    const bound = gaussianBound(eigenvalues, Math.min(1, figures.fvu))
    return rounded({ ...figures, bound, ratio: figures.entropyBits / bound })
  }
  const sets = []
  for (const [set, rows] of Object.entries(keptOut ?? {})) {
    // the spectrum is that of ordinary rows: it bounds nothing where others are among them
    sets.push([set, (set === 'rest' ? bounded : rounded)(await model.evaluate(rows))])
  }
  model.dispose()
  const heldOut = keptOut ? rounded : bounded
  return {
    data: name,
    settings,
    date: today(),
    seconds: Math.round(result.seconds),
    bestStep: result.bestStep,
    train: rounded(result.train),
    before: heldOut(result.before),
    validation: heldOut(result.validation),
    ...(keptOut ? { keptOut: Object.fromEntries(sets) } : {}),
  }
}

/** The preset is what the names of the runs say. */
function checkRecipe(said, { entropyWeight, covarianceWeight, estimator: { name: estimator } }) {
  for (const [name, value] of Object.entries({ entropyWeight, covarianceWeight, estimator })) {
    if (said[name] !== value)
      throw new Error(`RECIPE says ${name} ${said[name]}, the preset ${value}: correct it`)
  }
}

/** The spectra that the pictures draw bounds of. */
function spectra() {
  return Object.fromEntries(runs.map(({ data: name }) => [name, data(name).eigenvalues]))
}

function save() {
  write(results, `${JSON.stringify({ made: made(root), common: COMMON, runs: figures }, null, 2)}\n`)
}
