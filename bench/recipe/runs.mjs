// What the training experiment runs, and on what.
import { join } from 'node:path'
import { gaussianBound, ordinary, readTensors, select, spectrum } from './states.mjs'

export const LAYERS = ['00', '10', '20', '30']
export const CURVE_LAYERS = ['10', '20', '30']
export const SEEDS = [0, 1, 2]
export const ENTROPY_WEIGHTS = [7.5e-5, 1.5e-4, 3e-4, 6e-4, 1.2e-3, 2.4e-3, 4.8e-3]
export const COVARIANCE_WEIGHTS = [0, 1e-6, 1e-5, 1e-4]
export const ESTIMATORS = [
  { estimator: 'sigmoid', gradientWidth: 0.25 },
  { estimator: 'rectangle', gradientWidth: 0.5 },
  { estimator: 'rectangle', gradientWidth: 0.25 },
  { estimator: 'identity' },
]
/** Cheaper steps: gradients only near the threshold, and products of rounded factors. */
export const CHEAPER = { recipe: {}, rectangle: ESTIMATORS[1], bf16: { precision: 'bf16' } }
export const TOKENS = { all: 'all tokens', rest: 'tokens without position 0' }

/** What the preset `default` sets, as far as it is varied here; checked against what was trained. */
export const RECIPE = { entropyWeight: 6e-4, covarianceWeight: 1e-6, ...ESTIMATORS[0], precision: 'f32' }

/** A run on some data. Its name says all that is varied; `settings` leaves out what the preset sets anyway. */
export function runOf(data, { preset = 'default', seed = 0, ...varied } = {}) {
  const own = Object.entries(varied).filter(([name, value]) => RECIPE[name] !== value)
  const { entropyWeight, covarianceWeight, estimator, gradientWidth, precision } = { ...RECIPE, ...varied }
  const recipe = [
    `entropy ${power(entropyWeight)}`,
    `covariance ${power(covarianceWeight)}`,
    estimator === 'identity' ? estimator : `${estimator} ${gradientWidth}`,
    ...(precision === 'f32' ? [] : [precision]),
  ]
  const all = [preset, `seed ${seed}`, ...(preset === 'default' ? recipe : [])]
  return { data, settings: { preset, seed, ...Object.fromEntries(own) }, name: `${data}: ${all.join(', ')}` }
}

/** A weight as options take it. */
export const power = value => (value === 0 ? '0' : value.toExponential())

export const glosses = layer => `glosses, layer ${Number(layer)}`

/** Every run of the experiment, once. */
export function allRuns() {
  const runs = [
    ...LAYERS.map(layer => runOf(glosses(layer))),
    ...LAYERS.map(layer => runOf(glosses(layer), { preset: 'reference' })),
    ...Object.values(TOKENS).map(data => runOf(data)),
    ...CURVE_LAYERS.flatMap(layer =>
      ENTROPY_WEIGHTS.map(entropyWeight => runOf(glosses(layer), { entropyWeight })),
    ),
    ...COVARIANCE_WEIGHTS.map(covarianceWeight => runOf(glosses('20'), { covarianceWeight })),
    ...ESTIMATORS.map(estimator => runOf(glosses('20'), estimator)),
    ...LAYERS.flatMap(layer => SEEDS.map(seed => runOf(glosses(layer), { seed }))),
    ...Object.values(CHEAPER).flatMap(varied => [
      ...LAYERS.map(layer => runOf(glosses(layer), varied)),
      runOf(TOKENS.all, varied),
    ]),
  ]
  return [...new Map(runs.map(run => [run.name, run])).values()]
}

/** The data of a run: what is trained on, the spectrum of its ordinary rows, and rows of texts kept out of it. */
export function dataOf(root, name) {
  const path = (...parts) => join(root, 'examples', 'data', ...parts)
  if (name.startsWith('glosses')) {
    const layer = /\d+/.exec(name)[0].padStart(2, '0')
    const { hidden_states: states } = readTensors(path('glosses', `layer${layer}.safetensors`))
    const eigenvalues = spectrum(states)
    if (layer === '20') checkBound(eigenvalues)
    return { states, eigenvalues }
  }
  const {
    hidden_states: states,
    position,
    sequence_id: text,
  } = readTensors(path('tokens', 'layer20.safetensors'))
  const first = row => position.data[row] === 0
  // every fifth text is kept out of training altogether
  const keptOut = row => text.data[row] % 5 === 4
  const isOrdinary = ordinary(states)
  return {
    states: select(states, row => !keptOut(row) && (name === TOKENS.all || !first(row))),
    eigenvalues: spectrum(select(states, row => isOrdinary[row])),
    keptOut: {
      all: select(states, keptOut),
      first: select(states, row => keptOut(row) && first(row)),
      rest: select(states, row => keptOut(row) && !first(row)),
    },
  }
}

/** The bound of layer 20 as it was computed elsewhere, in bits at four errors. */
function checkBound(eigenvalues) {
  for (const [fvu, bits] of Object.entries({ 0.52: 51, 0.35: 122, 0.25: 200, 0.137: 376 })) {
    const found = gaussianBound(eigenvalues, Number(fvu))
    if (Math.abs(found - bits) > 1) throw new Error(`bound at ${fvu}: ${found} bits instead of ${bits}`)
  }
}
