// The tables of docs/training.md.
import {
  CHEAPER,
  COVARIANCE_WEIGHTS,
  CURVE_LAYERS,
  ENTROPY_WEIGHTS,
  ESTIMATORS,
  glosses,
  LAYERS,
  power,
  RECIPE,
  runOf,
  SEEDS,
  TOKENS,
} from './runs.mjs'

const D_SAE = 2304

/** Each table as Markdown, by the name of its place. */
export function tables(figures) {
  const of = (data, settings) => figures[runOf(data, settings).name]
  return {
    layers: layers(of),
    seeds: seeds(of),
    weights: weights(of),
    tokens: tokens(of),
    estimators: estimators(of),
    covariance: covariance(of),
    cheaper: cheaper(of),
  }
}

function layers(of) {
  const line = (layer, preset, runs) => {
    const mean = (which, name) => average(runs.map(run => run[which][name]))
    const after = name => mean('validation', name)
    return [
      Number(layer),
      preset,
      fvu(after('fvu')),
      bits(after('entropyBits')),
      bits(after('bound')),
      times(after('ratio')),
      share(after('density')),
      bits(after('l0')),
      count(after('deadFraction')),
      count(after('alwaysOnFraction')),
      count(after('denseFraction')),
      `${fvu(mean('before', 'fvu'))} @ ${bits(mean('before', 'entropyBits'))}`,
    ]
  }
  return markdown(
    [
      'layer',
      'preset',
      'FVU',
      'ΣH, bits',
      'bound, bits',
      'ΣH / bound',
      'density',
      'on in a row',
      'never on',
      'always on',
      'dense',
      'before training: FVU @ bits',
    ],
    LAYERS.flatMap(layer => [
      line(
        layer,
        '`default`',
        SEEDS.map(seed => of(glosses(layer), { seed })),
      ),
      line(layer, '`reference`', [of(glosses(layer), { preset: 'reference' })]),
    ]),
  )
}

function seeds(of) {
  const line = layer => [
    Number(layer),
    ...SEEDS.map(seed => {
      const { validation } = of(glosses(layer), { seed })
      return `${fvu(validation.fvu)} @ ${bits(validation.entropyBits)}`
    }),
  ]
  return markdown(['layer', ...SEEDS.map(seed => `seed ${seed}`)], LAYERS.map(line))
}

function weights(of) {
  const line = (layer, entropyWeight) => {
    const { validation } = of(glosses(layer), { entropyWeight })
    return [
      Number(layer),
      power(entropyWeight),
      fvu(validation.fvu),
      bits(validation.entropyBits),
      bits(validation.bound),
      times(validation.ratio),
      share(validation.density),
      bits(validation.l0),
      count(validation.deadFraction),
    ]
  }
  return markdown(
    [
      'layer',
      'entropy weight',
      'FVU',
      'ΣH, bits',
      'bound, bits',
      'ΣH / bound',
      'density',
      'on in a row',
      'never on',
    ],
    CURVE_LAYERS.flatMap(layer => ENTROPY_WEIGHTS.map(entropyWeight => line(layer, entropyWeight))),
  )
}

function tokens(of) {
  const names = { all: 'all', first: 'position 0', rest: 'other positions' }
  const line = (data, set) => {
    const { keptOut } = of(data)
    const at = keptOut[set]
    return [
      data,
      `${names[set]} (${at.rows.toLocaleString('en-US')})`,
      small(at.fvu),
      at.mse >= 100 ? Math.round(at.mse).toLocaleString('en-US') : at.mse.toPrecision(3),
      bits(at.entropyBits),
      at.bound === undefined ? '' : bits(at.bound),
      at.ratio === undefined ? '' : times(at.ratio),
      share(at.density),
    ]
  }
  return markdown(
    [
      'trained on',
      'measured on (rows)',
      'FVU',
      'squared error a value',
      'ΣH, bits',
      'bound, bits',
      'ΣH / bound',
      'density',
    ],
    Object.values(TOKENS).flatMap(data => Object.keys(names).map(set => line(data, set))),
  )
}

/** The figures that a variant of the recipe is judged by: `objective` is what a bit pays for. */
const VARIANT = ['FVU', 'ΣH, bits', 'ΣH / bound', 'density', 'FVU + w · ΣH', 'Σ\\|Cov\\|']
const variant = ({ validation: { fvu: error, entropyBits, ratio, density, covariance: sum } }) => [
  fvu(error),
  bits(entropyBits),
  times(ratio),
  share(density),
  (error + RECIPE.entropyWeight * entropyBits).toFixed(4),
  bits(sum),
]

function estimators(of) {
  const name = ({ estimator, gradientWidth }) =>
    gradientWidth === undefined ? `\`${estimator}\`` : `\`${estimator}\`, width ${gradientWidth}`
  return markdown(
    ['estimator', ...VARIANT],
    ESTIMATORS.map(each => [name(each), ...variant(of(glosses('20'), each))]),
  )
}

function cheaper(of) {
  const names = {
    recipe: '`sigmoid` 0.25, f32',
    rectangle: '`rectangle` 0.5, f32',
    bf16: '`sigmoid` 0.25, `bf16`',
  }
  const glossesLine = (layer, which) => {
    const run = of(glosses(layer), CHEAPER[which])
    return [`glosses, layer ${Number(layer)}`, names[which], ...variant(run)]
  }
  const tokensLine = which => {
    const run = of(TOKENS.all, CHEAPER[which])
    return ['tokens, ordinary rows', names[which], ...variant({ validation: run.keptOut.rest })]
  }
  return markdown(
    ['data', 'steps with', ...VARIANT],
    [
      ...LAYERS.flatMap(layer => Object.keys(CHEAPER).map(which => glossesLine(layer, which))),
      ...Object.keys(CHEAPER).map(tokensLine),
    ],
  )
}

function covariance(of) {
  return markdown(
    ['covariance weight', ...VARIANT],
    COVARIANCE_WEIGHTS.map(covarianceWeight => [
      power(covarianceWeight),
      ...variant(of(glosses('20'), { covarianceWeight })),
    ]),
  )
}

/** A table as Markdown, numbers on the right. */
export function markdown(head, lines) {
  const row = cells => `| ${cells.join(' | ')} |`
  const isText = head.map((_, at) => lines.some(line => !/^[\d.,e×⁻⁰¹²³⁴⁵⁶⁷⁸⁹ −-]*$/.test(String(line[at]))))
  return [row(head), row(isText.map(text => (text ? '---' : '---:'))), ...lines.map(row)].join('\n')
}

const average = values => values.reduce((sum, value) => sum + value, 0) / values.length
export const fvu = value => (value < 10 ? value.toFixed(3).replace(/^0/, '') : value.toPrecision(3))
export const bits = value => (value >= 1000 ? Math.round(value).toLocaleString('en-US') : value.toFixed(0))
export const times = value => (value < 100 ? value.toFixed(2) : bits(value))
const share = value => value.toFixed(3).replace(/^0/, '')
const small = value => (value < 0.01 ? value.toFixed(5).replace(/^0/, '') : fvu(value))
const count = fraction => Math.round(fraction * D_SAE).toLocaleString('en-US')
