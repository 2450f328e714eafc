// The pictures of docs/training.md and the README, as SVG on white: readable on light and dark pages alike.
import { BLUE, GREY, INK, ORANGE, svg } from '../svg.mjs'
import { CURVE_LAYERS, ENTROPY_WEIGHTS, glosses, LAYERS, power, RECIPE, runOf, SEEDS } from './runs.mjs'
import { gaussianBound } from './states.mjs'

/** TopK with 32 of 2,304 features on at layer 20, from a run outside this experiment. Its features are no bits. */
const TOP_K_FVU = 0.52

const CURVE = `default preset; its own entropy weight is ${power(RECIPE.entropyWeight)}`
const PUBLISHED = 'reference preset: the published settings'
const BOUND = 'Gaussian rate–distortion bound'

const [LEAST_BITS, MOST_BITS] = [10, 4000]

/** Each picture as SVG, by its name. `spectra` holds the eigenvalues of each data set. */
export async function pictures(figures, spectra) {
  const of = (data, settings) => figures[runOf(data, settings).name]
  return {
    'rate-distortion': await svg(rateDistortion(of, spectra)),
    'before-after': await svg(beforeAfter(of)),
  }
}

function rateDistortion(of, spectra) {
  const point = ({ validation: { fvu, entropyBits } }) => ({ bits: entropyBits, fvu })
  const panel = (layer, at) => {
    const curve = ENTROPY_WEIGHTS.map(entropyWeight => ({
      ...point(of(glosses(layer), { entropyWeight })),
      what: CURVE,
      label: power(entropyWeight),
    }))
    const bound = Array.from({ length: 96 }, (_, step) => {
      const fvu = 0.99 * 0.05 ** (step / 95)
      return { bits: gaussianBound(spectra[glosses(layer)], fvu), fvu, what: BOUND }
    }).filter(({ bits }) => bits >= LEAST_BITS && bits <= MOST_BITS)
    const published = [{ ...point(of(glosses(layer), { preset: 'reference' })), what: PUBLISHED }]
    const x = {
      field: 'bits',
      type: 'quantitative',
      title: 'bits a hidden state',
      scale: { type: 'log', domain: [LEAST_BITS, MOST_BITS] },
      axis: {
        values: [10, 20, 50, 100, 200, 500, 1000],
        format: ',d',
        labelOverlap: false,
        labelFontSize: 10,
      },
    }
    const y = {
      field: 'fvu',
      type: 'quantitative',
      title: at === 0 ? 'variance not explained (FVU)' : null,
      scale: { domain: [0, 1] },
    }
    const color = {
      field: 'what',
      type: 'nominal',
      scale: { domain: [CURVE, BOUND, PUBLISHED], range: [BLUE, GREY, ORANGE] },
      legend: null,
    }
    const layers = [
      { data: { values: bound }, mark: { type: 'line', strokeDash: [5, 4] }, encoding: { x, y, color } },
      {
        data: { values: curve },
        mark: { type: 'line', point: { size: 45 } },
        encoding: { x, y, color, order: { field: 'bits' } },
      },
      {
        data: { values: curve.filter((_, at) => at % 3 === 0) },
        mark: { type: 'text', align: 'left', dx: 8, dy: -7, color: BLUE },
        encoding: { x, y, text: { field: 'label' } },
      },
      {
        data: { values: published },
        mark: { type: 'point', filled: true, shape: 'square', size: 80, opacity: 1 },
        encoding: { x, y, color },
      },
    ]
    if (layer === '20') {
      const [start, end] = [
        { bits: LEAST_BITS, fvu: TOP_K_FVU },
        { bits: MOST_BITS, fvu: TOP_K_FVU },
      ]
      layers.push(
        {
          data: { values: [start, end] },
          mark: { type: 'line', color: INK, strokeWidth: 1 },
          encoding: { x, y },
        },
        {
          data: { values: [end] },
          mark: {
            type: 'text',
            align: 'right',
            dy: -7,
            color: INK,
            text: 'TopK, 32 real values a state',
            dx: -4,
          },
          encoding: { x, y },
        },
      )
    }
    return { title: `layer ${layer}`, width: 280, height: 280, layer: layers }
  }
  return {
    title: {
      text: 'Bits against error on hidden states held out',
      subtitle:
        'glosses of SmolLM2-135M, 2,304 features, 420 steps; entropy summed over features; left and down is better',
    },
    vconcat: [
      { hconcat: CURVE_LAYERS.map(panel), spacing: 30 },
      key([
        [CURVE, BLUE, 'circle'],
        [BOUND, GREY],
        [PUBLISHED, ORANGE, 'square'],
      ]),
    ],
  }
}

function beforeAfter(of) {
  const STATES = [
    ['reference, trained', ORANGE],
    ['default, start', '#a9cbe6'],
    ['default, trained', BLUE],
  ]
  const names = STATES.map(([name]) => name)
  const mean = (runs, which, name) => runs.reduce((sum, run) => sum + run[which][name], 0) / runs.length
  const values = LAYERS.flatMap(layer => {
    const presets = {
      reference: [of(glosses(layer), { preset: 'reference' })],
      default: SEEDS.map(seed => of(glosses(layer), { seed })),
    }
    return names.map(state => {
      const [preset, when] = state.split(', ')
      const figures = which => name => mean(presets[preset], which, name)
      const value = figures(when === 'trained' ? 'validation' : 'before')
      return { layer: `layer ${Number(layer)}`, state, fvu: value('fvu'), bits: value('entropyBits') }
    })
  })
  const panel = (field, title, format, limit, layer, at) => {
    const y = {
      field: 'state',
      type: 'nominal',
      sort: names,
      title: null,
      axis: at === 0 ? { labelLimit: 300 } : null,
    }
    const x = {
      field: 'shown',
      type: 'quantitative',
      title,
      scale: { domain: [0, limit] },
      axis: { tickCount: 3 },
    }
    return {
      title: field === 'fvu' ? layer : undefined,
      width: 190,
      height: 72,
      data: {
        values: values
          .filter(each => each.layer === layer)
          .map(each => ({ ...each, shown: each[field], label: format(each[field]) })),
      },
      layer: [
        {
          mark: { type: 'bar', height: 16 },
          encoding: {
            x,
            y,
            color: {
              field: 'state',
              scale: { domain: names, range: STATES.map(([, color]) => color) },
              legend: null,
            },
          },
        },
        {
          mark: { type: 'text', align: 'left', dx: 4, color: INK },
          encoding: { x, y, text: { field: 'label' } },
        },
      ],
    }
  }
  const most = Math.max(...values.map(({ bits }) => bits))
  const layers = LAYERS.map(layer => `layer ${Number(layer)}`)
  const digits = value => value.toFixed(3)
  const whole = value => Math.round(value).toLocaleString('en-US')
  const column = (layer, at) => ({
    vconcat: [
      panel('fvu', 'variance not explained (FVU)', digits, 1.25, layer, at),
      panel('bits', 'entropy of the code, bits', whole, 1.25 * most, layer, at),
    ],
    spacing: 20,
  })
  return {
    title: {
      text: 'What the start gives, and what training adds',
      subtitle:
        'hidden states held out; default: mean of three seeds; before training it is a quantiser on principal directions',
    },
    hconcat: layers.map(column),
    spacing: 24,
  }
}

/** A legend of its own, below all panels. */
function key(entries) {
  const places = [0, 370, 620]
  const x = { field: 'x', type: 'quantitative', axis: null, scale: { domain: [0, 940] } }
  return {
    width: 940,
    height: 20,
    view: { stroke: null },
    layer: entries.flatMap(([text, color, shape], at) => {
      const sign = { type: 'point', filled: true, size: 80, opacity: 1, color, shape }
      const dashes = { type: 'rule', strokeDash: [5, 4], strokeWidth: 2, color }
      return [
        {
          data: { values: [{ x: places[at] - 12, end: places[at] + 12 }] },
          ...(shape
            ? { mark: sign, encoding: { x: { ...x, field: 'end' } } }
            : { mark: dashes, encoding: { x, x2: { field: 'end' }, y: { value: 10 } } }),
        },
        {
          data: { values: [{ x: places[at] + 22 }] },
          mark: { type: 'text', align: 'left', fontSize: 12, color: INK, text },
          encoding: { x },
        },
      ]
    }),
  }
}
