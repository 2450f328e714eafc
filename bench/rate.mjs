// Bits against error on held-out hidden states: ours over entropy weights, TopK autoencoders and principal components with
// quantised values, and the Gaussian bound. Writes figures, the table of docs/entropy.md and its picture.
//
//   npm run experiment:rate              runs what bench/results/rate.json does not hold yet, ten minutes on 2 idle cores
//   npm run experiment:rate -- --fresh   runs everything again
//   npm run experiment:rate -- --quick   a few steps each, into runs/rate-quick/: to see that it works
import { existsSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { train } from '../dist/index.js'
import { RATE } from './peers/list.mjs'
import { Peer } from './peers/process.mjs'
import { picture, table } from './rate/shown.mjs'
import { CURVE_LAYERS, glosses, power } from './recipe/runs.mjs'
import { gaussianBound, readTensors, select, spectrum } from './recipe/states.mjs'
import { made, rounded, today, write, writeTables } from './recipe/writing.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const { values: options } = parseArgs({
  options: { fresh: { type: 'boolean', default: false }, quick: { type: 'boolean', default: false } },
})

/** The same for all that is trained. */
const COMMON = { steps: options.quick ? 24 : 420, dSae: 2304, batchSize: 512 }
const ENTROPY_WEIGHTS = [1.5e-4, 3e-4, 6e-4, 1.2e-3, 2.4e-3, 4.8e-3, 9.6e-3]
const ACTIVE = [4, 8, 16, 32, 64]
/** Of TopK: the best of 3e-4, 1e-3, 3e-3, 6e-3, 1e-2 and 3e-2 on layer 20, and the better of 140 and 420 steps. */
const TOP_K_LEARNING_RATE = 1e-2
const topKSteps = k => (k <= 8 ? COMMON.steps : COMMON.steps / 3)

/** Every fifth row is held out, from all alike. */
const isHeldOut = row => row % 5 === 4

const quick = join(root, 'runs', 'rate-quick')
const results = options.quick ? join(quick, 'rate.json') : join(root, 'bench', 'results', 'rate.json')
const images = options.quick ? quick : join(root, 'docs', 'images')
const document = options.quick ? join(quick, 'tables.md') : join(root, 'docs', 'entropy.md')

const kept = !options.fresh && existsSync(results) ? JSON.parse(readFileSync(results, 'utf8')) : undefined
if (kept && JSON.stringify(kept.common) !== JSON.stringify(COMMON)) {
  throw new Error(`${results} was made with other settings: run with --fresh`)
}
const figures = kept?.runs ?? {}

const spectra = {}
for (const layer of CURVE_LAYERS) {
  const path = join(root, 'examples', 'data', 'glosses', `layer${layer}.safetensors`)
  const { hidden_states: states } = readTensors(path)
  spectra[layer] = spectrum(states)
  await oursOn(layer, states)
  await peersOn(layer, path, states.shape[0])
}
write(join(images, 'rate-curve.svg'), await picture(figures, spectra))
writeTables(document, 'rate', { table: table(figures) })

async function oursOn(layer, states) {
  const held = select(states, isHeldOut)
  const others = select(states, row => !isHeldOut(row))
  for (const entropyWeight of ENTROPY_WEIGHTS) {
    await once(layer, `ours, entropy weight ${power(entropyWeight)}`, async () => {
      // what is kept is the last step: the rows held out choose nothing
      const settings = { ...COMMON, entropyWeight, validationFraction: 0 }
      const { model, result } = await train(others, settings)
      const { fvu, entropyBits: bits, density, l0 } = await model.evaluate(held)
      model.dispose()
      const seconds = Math.round(result.seconds)
      return { coder: 'ours', entropyWeight, seconds, ...bounded(layer, { fvu, bits }), density, l0 }
    })
  }
}

async function peersOn(layer, states, rows) {
  const heldOut = Array.from({ length: rows }, (_, row) => row).filter(isHeldOut)
  const threads = availableParallelism()
  let peer
  // only where something is missing is PyTorch needed
  const ask = async command => {
    if (!peer) {
      peer = new Peer('PyTorch', RATE, threads)
      await peer.ask({ cmd: 'open', states, heldOut, threads })
    }
    return peer.ask(command)
  }
  try {
    await once(layer, 'the nearest training row', async () => {
      return { coder: 'nearest', ...bounded(layer, await ask({ cmd: 'nearest' })) }
    })
    await once(layer, 'principal components', async () => {
      const { points } = await ask({ cmd: 'pca' })
      return { coder: 'pca', points: points.map(point => bounded(layer, point)) }
    })
    for (const k of ACTIVE) {
      const { dSae: d_sae, batchSize: batch } = COMMON
      const schedule = { steps: topKSteps(k), batch, learning_rate: TOP_K_LEARNING_RATE }
      await once(layer, `TopK ${k}`, async () => {
        const { points, ...trained } = await ask({ cmd: 'topk', k, d_sae, ...schedule })
        return {
          coder: 'topk',
          k,
          ...schedule,
          ...rounded(trained),
          points: points.map(point => bounded(layer, point)),
        }
      })
    }
  } finally {
    await peer?.close()
  }
}

/** Runs what is not there yet. */
async function once(layer, what, run) {
  const name = `${glosses(layer)}: ${what}`
  if (figures[name]) return
  figures[name] = rounded({ layer, date: today(), ...(await run()) })
  write(results, `${JSON.stringify({ made: made(root), common: COMMON, runs: figures }, null, 2)}\n`)
  const { points, fvu, bits, ratio } = figures[name]
  const said = points ? `${points.length} points` : `FVU ${fvu}, ${bits} bits, ${ratio} x bound`
  console.error(`${name}: ${said}`)
}

/** A point with the Gaussian bound at its error; where that is 0, no multiple of it. */
function bounded(layer, { fvu, bits, ...how }) {
  const bound = fvu < 1 ? gaussianBound(spectra[layer], fvu) : 0
  return rounded({ ...how, fvu, bits, bound, ...(bound > 0 ? { ratio: bits / bound } : {}) })
}
