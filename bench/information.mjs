// The figures of docs/entropy.md that come from real hidden states: how estimates come to the whole as rows are added, and entropy
// against demonstrations in the prompt. Writes tables and pictures.
//
//   npm run experiment:entropy            two minutes on 2 idle cores
//   npm run experiment:entropy -- --quick a few steps each, into runs/entropy-quick/: to see that it works
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { BinaryCodes, plotEntropy, train } from '../dist/index.js'
import { markdown } from './recipe/tables.mjs'
import { made, rounded, write, writeTables } from './recipe/writing.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const { values: options } = parseArgs({ options: { quick: { type: 'boolean', default: false } } })
const quick = join(root, 'runs', 'entropy-quick')
const results = options.quick
  ? join(quick, 'information.json')
  : join(root, 'bench', 'results', 'information.json')
const images = options.quick ? quick : join(root, 'docs', 'images')
const document = options.quick ? join(quick, 'tables.md') : join(root, 'docs', 'entropy.md')
const examples = join(root, 'examples', 'data')
const settings = options.quick ? { steps: 6 } : {}

const GLOSSES = join(examples, 'glosses', 'layer20.safetensors')
const TOKENS = join(examples, 'tokens', 'layer20.safetensors')
const LAYERS = [10, 20]
const prompts = layer => join(examples, 'icl', `layer${layer}_k*.safetensors`)
const ROWS = [64, 128, 256, 512, 1024, 2048]

mkdirSync(images, { recursive: true })
const figures = {
  made: made(root),
  convergence: await convergence(),
  clusters: await clusters(),
  demonstrations: await demonstrations(),
}
write(results, `${JSON.stringify(figures, null, 1)}\n`)
writeTables(document, 'information', {
  convergence: markdown(
    ['rows', 'plug-in', 'Miller–Madow', 'jackknife', 'Grassberger', 'in batches of 512'],
    figures.convergence.map(({ rows, estimates: { plugIn, millerMadow, jackknife, grassberger }, batch }) => [
      rows.toLocaleString('en-US'),
      ...[plugIn, millerMadow, jackknife, grassberger, batch].map(bits => bits.toFixed(1)),
    ]),
  ),
  clusters: markdown(
    ['rows are independent', 'rows', 'estimate', 'standard error'],
    figures.clusters.map(({ name, rows, estimate, standardError }) => [
      name,
      rows.toLocaleString('en-US'),
      estimate.toFixed(1),
      standardError.toFixed(2),
    ]),
  ),
  demonstrations: markdown(
    ['demonstrations', ...figures.demonstrations.map(({ name }) => name)],
    figures.demonstrations[0].groups.map(({ value }, at) => [
      value,
      ...figures.demonstrations.map(({ groups }) => {
        const { estimate, lower, upper } = groups[at]
        return `${estimate.toFixed(0)} (${lower.toFixed(0)}–${upper.toFixed(0)})`
      }),
    ]),
  ),
})

/** Estimates from some of the rows, each the mean over draws without replacement, and from all. */
async function convergence() {
  const model = (await train(GLOSSES, settings)).model
  const codes = await model.encode(GLOSSES)
  const stride = Math.ceil(codes.dSae / 8)
  const lines = []
  for (const rows of [...ROWS, codes.rows]) {
    const draws = Math.floor(codes.rows / rows)
    const sums = { plugIn: 0, millerMadow: 0, jackknife: 0, grassberger: 0, batch: 0 }
    for (let draw = 0; draw < draws; draw++) {
      // every draws-th row: glosses are in no order that matters
      const bytes = new Uint8Array(rows * stride)
      for (let row = 0; row < rows; row++) {
        const from = (row * draws + draw) * stride
        bytes.set(codes.bytes.subarray(from, from + stride), row * stride)
      }
      const some = BinaryCodes.fromBytes(bytes, rows, codes.dSae)
      const { estimates, batch } = await some.entropy()
      some.dispose()
      for (const name of Object.keys(estimates)) sums[name] += estimates[name] / draws
      sums.batch += batch.entropyBits / draws
    }
    const { batch, ...estimates } = rounded(sums)
    lines.push({ rows, draws, estimates, batch })
  }
  return lines
}

/** The same rows, taken for independent and not. */
async function clusters() {
  const model = (await train(TOKENS, { ...settings, where: 'position>0' })).model
  const whole = await model.entropy(TOKENS, { where: 'position>0' })
  const codes = await model.encode(TOKENS, { where: 'position>0' })
  const line = (name, { rows, interval: { estimate, standardError } }) =>
    rounded({ name, rows, estimate, standardError })
  return [line('each', await codes.entropy()), line('those of different texts', whole)]
}

/** Entropy against demonstrations, by models of those states and of definitions. */
async function demonstrations() {
  const curves = []
  for (const layer of LAYERS) {
    const glosses = join(examples, 'glosses', `layer${layer}.safetensors`)
    for (const [of, data] of [
      ['these prompts', prompts(layer)],
      ['definitions', glosses],
    ]) {
      const model = (await train(data, settings)).model
      const report = await model.entropy(prompts(layer), { by: 'file' })
      const name = `layer ${layer}, trained on ${of}`
      curves.push({
        name,
        groups: report.groups.map(({ value, rows, density, interval: { estimate, lower, upper } }) =>
          rounded({ value, rows, estimate, lower, upper, density }),
        ),
      })
      console.log(
        name,
        report.groups.map(({ value, interval }) => `${value}: ${interval.estimate.toFixed(1)}`).join(', '),
      )
      if (layer === 20 && of === 'these prompts') {
        await plotEntropy({ ...report, by: 'demonstrations' }, join(images, 'demonstrations.svg'), {
          overwrite: true,
        })
      }
    }
  }
  return curves
}
