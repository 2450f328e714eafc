// Every architecture on the same held-out hidden states, with the same number of features, over a small grid and three seeds, beside
// controls. Writes figures, the tables of docs/comparison.md and its pictures.
//
//   npm run experiment:comparison              runs what bench/results/comparison.json does not hold yet
//   npm run experiment:comparison -- --fresh   runs everything again
//   npm run experiment:comparison -- --quick   a few steps each, into runs/comparison-quick/: to see that it works
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { compare, stability, train } from '../dist/index.js'
import { allSettings, LAYERS, nameOf, SEEDS } from './comparison/runs.mjs'
import { pictures, tables } from './comparison/shown.mjs'
import { readTensors, select } from './recipe/states.mjs'
import { made, rounded, today, write, writeTables } from './recipe/writing.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const { values: options } = parseArgs({
  options: { fresh: { type: 'boolean', default: false }, quick: { type: 'boolean', default: false } },
})

/** The same for all: a tenth of the rows trained on decides which model is kept, where an architecture keeps the best. */
const COMMON = { dSae: 576, batchSize: 512, validationFraction: 0.1 }
const steps = options.quick ? 24 : 420

/** Every fifth row is held out, from all alike. */
const isHeldOut = row => row % 5 === 4

const quick = join(root, 'runs', 'comparison-quick')
const results = options.quick
  ? join(quick, 'comparison.json')
  : join(root, 'bench', 'results', 'comparison.json')
const images = options.quick ? quick : join(root, 'docs', 'images')
const document = options.quick ? join(quick, 'tables.md') : join(root, 'docs', 'comparison.md')

const kept = !options.fresh && existsSync(results) ? JSON.parse(readFileSync(results, 'utf8')) : undefined
if (kept && JSON.stringify(kept.common) !== JSON.stringify({ ...COMMON, steps })) {
  throw new Error(`${results} was made with other settings: run with --fresh`)
}
const figures = kept?.runs ?? {}

const todo = LAYERS.flatMap(layer => allSettings().map(settings => ({ layer, settings }))).filter(
  ({ layer, settings }) => !figures[nameOf(layer, settings)],
)
console.log(`${todo.length} settings to do, ${SEEDS.length} seeds each`)
const began = performance.now()
for (const [at, { layer, settings }] of todo.entries()) {
  const { hidden_states: states } = readTensors(
    join(root, 'examples', 'data', 'glosses', `layer${layer}.safetensors`),
  )
  const held = select(states, isHeldOut)
  const others = select(states, row => !isHeldOut(row))
  const name = nameOf(layer, settings)
  figures[name] = await measured(settings, others, held)
  write(
    results,
    `${JSON.stringify({ ...made(root), date: today(), common: { ...COMMON, steps }, runs: figures }, null, 1)}\n`,
  )
  const [{ fvu, l0, rateBits }] = figures[name].seeds
  const left = (((performance.now() - began) / (at + 1)) * (todo.length - at - 1)) / 60_000
  console.log(
    `[${at + 1}/${todo.length}] ${name}: FVU ${fvu}, L0 ${l0}, ${rateBits} bits; ${left.toFixed(0)} min left`,
  )
}
for (const [name, svg] of Object.entries(await pictures(figures))) write(join(images, `${name}.svg`), svg)
writeTables(document, 'comparison', tables(figures))

/** Trains once a seed; each model on the held-out rows beside its controls, and which features they share. */
async function measured(settings, others, held) {
  const models = []
  const seeds = []
  for (const seed of SEEDS) {
    const { architecture, ...rest } = settings
    const fitted = ['pca', 'snmf'].includes(architecture)
    const { model, result } = await train(others, {
      ...COMMON,
      ...(fitted ? {} : { steps }),
      architecture,
      ...rest,
      seed,
      device: 'cpu',
    })
    const { controls, densityHistogram, covariance: _, ...figures } = await model.evaluate(held)
    const shown = ({ fvu, l0, rateBits }) => rounded({ fvu, l0, rateBits })
    seeds.push({
      ...rounded({ ...figures, overTenth: overTenth(densityHistogram, figures, model.dSae) }),
      seconds: Number(result.seconds.toFixed(1)),
      trainFvu: Number((1 - result.train.explainedVariance).toPrecision(5)),
      controls: Object.fromEntries(
        Object.entries(controls).map(([name, control]) => [name, control && shown(control)]),
      ),
    })
    models.push(model)
  }
  const comparisons = []
  for (const [a, b] of [
    [0, 1],
    [0, 2],
    [1, 2],
  ]) {
    comparisons.push(await compare(models[a], models[b], { data: held }))
  }
  for (const model of models) model.dispose()
  return { seeds, stability: stability(comparisons) }
}

/** Share of features that are on in more than a tenth of the rows. */
function overTenth({ edges, features }, { alwaysOnFraction }, dSae) {
  const from = edges.indexOf(0.1)
  return features.slice(from).reduce((sum, count) => sum + count, 0) / dSae + alwaysOnFraction
}
