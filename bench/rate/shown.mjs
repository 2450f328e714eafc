// The picture and the table of what `npm run experiment:rate` measured.
import { CURVE_LAYERS, power } from '../recipe/runs.mjs'
import { gaussianBound } from '../recipe/states.mjs'
import { bits, fvu, markdown, times } from '../recipe/tables.mjs'
import { BLUE, GREY, INK, ORANGE, svg } from '../svg.mjs'

const GREEN = '#3f8f4f'
const [LEAST_BITS, MOST_BITS] = [10, 2000]

const CODERS = [
  ['ours', 'binary autoencoder, ΣH', BLUE, 'circle'],
  ['topk', 'TopK autoencoder, quantised', ORANGE, 'square'],
  ['pca', 'principal components, quantised', GREEN, 'triangle-up'],
  ['bound', 'Gaussian rate–distortion bound', GREY],
]
const NAMES = Object.fromEntries(CODERS)

/** The curves as SVG: bits against error, a panel for each layer. */
export async function picture(figures, spectra) {
  const panels = CURVE_LAYERS.map((layer, at) => panel(layer, at, figures, spectra[layer]))
  return svg({
    title: {
      text: 'What each code pays for its error, on hidden states held out',
      subtitle:
        'glosses of SmolLM2-135M, 2,304 features; every feature or component coded for itself; left and down is better',
    },
    vconcat: [{ hconcat: panels, spacing: 30 }, key()],
  })
}

function panel(layer, at, figures, eigenvalues) {
  const x = {
    field: 'bits',
    type: 'quantitative',
    title: 'bits a hidden state',
    scale: { type: 'log', domain: [LEAST_BITS, MOST_BITS] },
    axis: { values: [10, 20, 50, 100, 200, 500, 1000], format: ',d', labelOverlap: false, labelFontSize: 10 },
  }
  const y = {
    field: 'fvu',
    type: 'quantitative',
    title: at === 0 ? 'variance not explained (FVU)' : null,
    scale: { domain: [0, 1] },
  }
  const bound = Array.from({ length: 96 }, (_, step) => 0.99 * 0.03 ** (step / 95)).map(error => ({
    fvu: error,
    bits: gaussianBound(eigenvalues, error),
  }))
  const layers = CODERS.flatMap(([coder, , value, shape]) => {
    const values = coder === 'bound' ? bound : curve(figures, layer, coder)
    const line =
      coder === 'bound'
        ? { type: 'line', strokeDash: [5, 4] }
        : {
            type: 'line',
            point: { size: coder === 'ours' ? 45 : 20, shape, color: value, filled: true, opacity: 1 },
          }
    const drawn = [
      {
        data: { values: values.filter(point => point.bits >= LEAST_BITS && point.bits <= MOST_BITS) },
        mark: { ...line, color: value },
        encoding: { x, y, order: { field: 'bits' } },
      },
    ]
    if (coder === 'ours') {
      drawn.push({
        // where there is room beside them
        data: { values: values.filter((point, at) => at % 2 === 0 && point.fvu < 0.3) },
        mark: { type: 'text', color: value, align: 'left', dx: 8, dy: -5 },
        encoding: { x, y, text: { field: 'label' } },
      })
    }
    return drawn
  })
  return { title: `layer ${Number(layer)}`, width: 280, height: 280, layer: layers }
}

/** The points of a coder on a layer, by bits. Of TopK those of any k and quantiser that no other beats in both bits and error. */
function curve(figures, layer, coder) {
  const runs = Object.values(figures).filter(run => run.layer === layer && run.coder === coder)
  if (coder === 'ours') return runs.map(run => ({ ...run, label: power(run.entropyWeight) }))
  const points = runs.flatMap(run => run.points).sort((a, b) => a.bits - b.bits)
  let least = Number.POSITIVE_INFINITY
  return points.filter(({ fvu: error }) => {
    const isBetter = error < least
    least = Math.min(least, error)
    return isBetter
  })
}

/** What the colours mean, in one line under all panels. */
function key() {
  const places = [12, 240, 500, 790]
  const x = { field: 'x', type: 'quantitative', axis: null, scale: { domain: [0, 1040] } }
  return {
    width: 940,
    height: 20,
    view: { stroke: null },
    layer: CODERS.flatMap(([, text, color, shape], at) => [
      {
        data: { values: [{ x: places[at] - 12, end: places[at] + 12 }] },
        ...(shape
          ? {
              mark: { type: 'point', filled: true, size: 80, opacity: 1, color, shape },
              encoding: { x: { ...x, field: 'end' } },
            }
          : {
              mark: { type: 'rule', strokeDash: [5, 4], strokeWidth: 2, color },
              encoding: { x, x2: { field: 'end' }, y: { value: 10 } },
            }),
      },
      {
        data: { values: [{ x: places[at] + 22 }] },
        mark: { type: 'text', align: 'left', fontSize: 12, color: INK, text },
        encoding: { x },
      },
    ]),
  }
}

/** Errors at which coders are compared. */
const ERRORS = [0.6, 0.45, 0.35, 0.25, 0.15]

/** Bits at the same error, between the points measured; and how many times the bound that is. */
export function table(figures) {
  const lines = CURVE_LAYERS.flatMap(layer =>
    Object.keys(NAMES)
      .filter(coder => coder !== 'bound')
      .map(coder => [
        Number(layer),
        NAMES[coder],
        ...ERRORS.map(error => {
          const at = between(curve(figures, layer, coder), error)
          return at ? `${bits(at.bits)} (${times(at.ratio)} ×)` : '—'
        }),
      ]),
  )
  return markdown(['layer', 'coder', ...ERRORS.map(error => `FVU ${fvu(error)}`)], lines)
}

/** Bits and ratio at an error, straight between the logarithms of the two points beside it; nothing beyond the points. */
function between(points, error) {
  const sorted = [...points].sort((a, b) => a.fvu - b.fvu)
  const above = sorted.findIndex(point => point.fvu >= error)
  if (above < 1) return
  const [a, b] = [sorted[above - 1], sorted[above]]
  const share = (error - a.fvu) / (b.fvu - a.fvu)
  const mix = name => Math.exp((1 - share) * Math.log(a[name]) + share * Math.log(b[name]))
  return { bits: mix('bits'), ratio: mix('ratio') }
}
