// The tables and pictures of docs/comparison.md.
import { svg } from '../svg.mjs'
import { allSettings, FAMILIES, LAYERS, nameOf } from './runs.mjs'

const mean = values => values.reduce((sum, value) => sum + value, 0) / values.length

/** Mean over seeds with least and most; once where they all show the same. */
function spread(values, format) {
  if (values.some(value => value === null || value === undefined || Number.isNaN(value))) return '–'
  const [least, most] = [Math.min(...values), Math.max(...values)].map(format)
  return least === most ? least : `${format(mean(values))} (${least}–${most})`
}

const share = value => value.toFixed(2)
const percent = value => `${(100 * value).toFixed(1)} %`
const whole = value => value.toFixed(0)
const tenth = value => (value < 100 ? value.toFixed(1) : value.toFixed(0))

const COLUMNS = [
  ['FVU', each => each.fvu, share],
  ['L0', each => each.l0, tenth],
  ['rate, bits', each => each.rateBits, whole],
  ['entropy, bits', each => each.entropyBits, whole],
  ['on in > 1/10', each => each.overTenth, percent],
  ['in > 1/2', each => each.denseFraction, percent],
  ['dead', each => each.deadFraction, percent],
]

const CONTROLS = [
  ['model', each => each.fvu],
  ['mean', each => each.controls.meanPrediction?.fvu],
  ['PCA of rank L0', each => each.controls.pca?.fvu],
  ['shuffled codes', each => each.controls.shuffledCodes?.fvu],
  ['frozen encoder', each => each.controls.frozenEncoder?.fvu],
  ['frozen decoder', each => each.controls.frozenDecoder?.fvu],
]

const row = cells => `| ${cells.join(' | ')} |`
const table = (head, rows) => [row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n')

/** `architecture, its setting` */
function labelOf({ architecture, ...setting }) {
  const [[name, value]] = Object.entries(setting)
  const spaced = name.replace(/[A-Z]/g, letter => ` ${letter.toLowerCase()}`)
  return `${architecture}, ${name === 'dSae' ? `${value} features` : `${spaced} ${value}`}`
}

export function tables(figures) {
  const all = {}
  for (const layer of LAYERS) {
    const runs = allSettings().map(settings => [labelOf(settings), figures[nameOf(layer, settings)]])
    all[`layer ${layer}`] = table(
      ['', ...COLUMNS.map(([name]) => name), 'matched over seeds'],
      runs.map(([label, { seeds, stability }]) => [
        label,
        ...COLUMNS.map(([, of, format]) => spread(seeds.map(of), format)),
        percent(stability.decoder.mean),
      ]),
    )
    all[`controls ${layer}`] = table(
      ['FVU', ...CONTROLS.map(([name]) => name)],
      runs.map(([label, { seeds }]) => [label, ...CONTROLS.map(([, of]) => spread(seeds.map(of), share))]),
    )
  }
  return all
}

const familyOf = architecture =>
  Object.entries(FAMILIES).find(([, members]) => members.includes(architecture))[0]

export async function pictures(figures) {
  const points = LAYERS.flatMap(layer =>
    allSettings().map(settings => {
      const { seeds } = figures[nameOf(layer, settings)]
      return {
        layer,
        architecture: settings.architecture,
        family: familyOf(settings.architecture),
        fvu: mean(seeds.map(each => each.fvu)),
        bits: mean(seeds.map(each => each.rateBits)),
        dense: mean(seeds.map(each => each.overTenth)),
        l0: mean(seeds.map(each => each.l0)),
      }
    }),
  )
  const panels = (x, y, size) =>
    LAYERS.map((layer, at) => ({
      title: `layer ${layer}`,
      ...size,
      data: { values: points.filter(point => point.layer === layer) },
      mark: { type: 'line', point: { size: 55, filled: true }, strokeWidth: 1 },
      encoding: {
        x,
        y: { ...y, title: at === 0 ? y.title : null },
        order: { field: 'bits' },
        color: { field: 'architecture', type: 'nominal', title: null, scale: { scheme: 'tableau20' } },
        shape: { field: 'family', type: 'nominal', title: null },
      },
    }))
  const rate = {
    field: 'bits',
    type: 'quantitative',
    title: 'rate, bits a hidden state',
    scale: { type: 'log' },
  }
  const size = { width: 300, height: 300 }
  return {
    'comparison-rate': await svg({
      title: {
        text: 'Bits against error, every architecture',
        subtitle:
          'glosses of SmolLM2-135M held out, 576 features, means of three seeds; left and down is better',
      },
      hconcat: panels(
        rate,
        {
          field: 'fvu',
          type: 'quantitative',
          title: 'variance not explained (FVU)',
          scale: { zero: true },
        },
        size,
      ),
    }),
    'comparison-dense': await svg({
      title: {
        text: 'How many features are dense',
        subtitle: 'share of features that are on in more than a tenth of the held-out rows, against error',
      },
      hconcat: panels(
        { field: 'fvu', type: 'quantitative', title: 'variance not explained (FVU)' },
        { field: 'dense', type: 'quantitative', title: 'dense features', axis: { format: '%' } },
        size,
      ),
    }),
  }
}
