// An entropy report as one Vega-Lite specification: a curve over the groups where there are some, then panels of all rows.
import type { PlottedFigures, PlottedReport } from './plotted.js'

/** @internal A Vega-Lite specification, or a part of it. */
export type Spec = Record<string, unknown>

const [BLUE, ORANGE, GREY, INK] = ['#1f6fb2', '#c8551b', '#8a8a8a', '#333333']

/** Width of a picture without its axes, in pixels. */
const WIDTH = 620
/** Width and height of a panel of which two stand side by side. */
const SMALL = { width: 265, height: 200 }

/** More points than this have no intervals of their own beside the band. */
const MARKED_POINTS = 60

/** @internal The picture of a report; `title` names it. */
export function entropySpec(report: PlottedReport): { title: string; spec: Spec } {
  const title = report.groups?.length ? `Entropy by ${report.by ?? 'group'}` : 'Entropy of the codes'
  const panels = [...curves(report), ...overall(report)]
  return {
    title,
    spec: {
      $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
      background: 'white',
      padding: 14,
      title: { text: title, subtitle: subtitle(report), anchor: 'start', offset: 18 },
      spacing: 36,
      vconcat: panels,
      config: CONFIG,
    },
  }
}

const CONFIG: Spec = {
  font: 'Inter, Helvetica, Arial, sans-serif',
  title: { color: INK, fontSize: 15, fontWeight: 'normal', subtitleColor: '#555555', subtitleFontSize: 12 },
  axis: {
    labelColor: INK,
    titleColor: INK,
    titleFontWeight: 'normal',
    gridColor: '#e8e8e8',
    labelFontSize: 11,
    titleFontSize: 12,
    labelLimit: 0,
    titlePadding: 8,
  },
  legend: { labelFontSize: 11, titleFontSize: 12, titleFontWeight: 'normal' },
  text: { fontSize: 11, color: INK },
  view: { stroke: '#cccccc' },
}

function subtitle({ rows, features, groups = [], interval }: PlottedReport): string[] {
  const count = (value: number | undefined, noun: string) =>
    value === undefined ? [] : [`${thousands(value)} ${noun}${value === 1 ? '' : 's'}`]
  const parts = [...count(rows, 'row'), ...count(features, 'feature')]
  const level = groups.find(group => group.interval)?.interval?.level ?? interval?.level
  if (level !== undefined) parts.push(`intervals at ${figure(100 * level)} %`)
  const corrected = groups.some(({ estimates }) => finite(estimates?.jackknife))
  return [
    parts.join(', '),
    ...(corrected ? ['blue: jackknife estimate with its interval; grey: plug-in'] : []),
  ]
}

/** Entropy with its interval over the groups, and the density beside it. */
function curves({ by = 'group', groups = [] }: PlottedReport): Spec[] {
  const points = groups.filter(group => finite(group.entropyBits)).map(point)
  if (points.length === 0) return []
  const data = { values: points }
  return points.every(({ group }) => typeof group === 'number')
    ? lines(
        by,
        data,
        points.map(({ group }) => group as number),
      )
    : [dots(by, points)]
}

/** A group as a row of the picture's data. */
interface Point {
  group: number | string
  bits: number | null
  plugIn: number | null
  lower: number | null
  upper: number | null
  density: number | null
  rows: number | null
}

function point(group: PlottedFigures & { value: number | string | boolean }): Point {
  const best = group.interval?.estimate ?? group.estimates?.jackknife
  return {
    group: typeof group.value === 'boolean' ? String(group.value) : group.value,
    bits: finite(best) ? best : group.entropyBits,
    plugIn: group.entropyBits,
    lower: group.interval?.lower ?? null,
    upper: group.interval?.upper ?? null,
    density: finite(group.density) ? 100 * group.density : null,
    rows: group.rows ?? null,
  }
}

/** A scale that shows what differs; where nothing does, the value in its middle. */
function spread(points: Point[], field: string): Spec {
  const fields: (keyof Point)[] = field === 'density' ? ['density'] : ['bits', 'plugIn', 'lower', 'upper']
  const values = points.flatMap(point => fields.map(name => point[name])).filter(finite)
  const [least, most] = [Math.min(...values), Math.max(...values)]
  if (least < most) return { zero: false }
  return { domain: least > 0 ? [0.9 * least, 1.1 * least] : [-1, 1], nice: false }
}

const TOOLTIP = (by: string) => [
  { field: 'group', title: by },
  { field: 'bits', title: 'entropy (bits)', format: ',.5~g' },
  { field: 'lower', title: 'interval from', format: ',.5~g' },
  { field: 'upper', title: 'interval to', format: ',.5~g' },
  { field: 'plugIn', title: 'plug-in (bits)', format: ',.5~g' },
  { field: 'density', title: 'density (%)', format: '.3~g' },
  { field: 'rows', title: 'rows', format: ',' },
]

/** Numbers go along the x axis. */
function lines(by: string, data: { values: Point[] }, values: number[]): Spec[] {
  const distinct = [...new Set(values)]
  const scale = { zero: false, nice: false, padding: 14 }
  const axis: Spec = { labelOverlap: 'greedy', grid: false, format: '~r' }
  if (distinct.length <= 12) axis.values = distinct
  const x = (title: string | null) => ({
    field: 'group',
    type: 'quantitative',
    scale,
    axis: { ...axis, title, ...(title === null ? { labels: false } : {}) },
  })
  const y = (field: string, title: string) => ({
    field,
    type: 'quantitative',
    scale: spread(data.values, field),
    axis: { title, tickCount: 5 },
  })
  const few = values.length <= MARKED_POINTS
  const marks = few ? { filled: true, size: 40 } : false
  return [
    {
      width: WIDTH,
      height: 230,
      data,
      encoding: { x: x(null), tooltip: TOOLTIP(by) },
      layer: [
        {
          mark: { type: 'area', color: BLUE, opacity: 0.18 },
          encoding: { y: y('lower', 'entropy (bits)'), y2: { field: 'upper' } },
        },
        ...(few
          ? [
              {
                mark: { type: 'rule', color: BLUE },
                encoding: { y: y('lower', 'entropy (bits)'), y2: { field: 'upper' } },
              },
            ]
          : []),
        {
          mark: { type: 'line', color: GREY, strokeDash: [4, 3], strokeWidth: 1.2 },
          encoding: { y: y('plugIn', 'entropy (bits)') },
        },
        {
          mark: { type: 'line', color: BLUE, point: marks && { ...marks, color: BLUE } },
          encoding: { y: y('bits', 'entropy (bits)') },
        },
      ],
    },
    {
      width: WIDTH,
      height: 100,
      data,
      mark: { type: 'line', color: ORANGE, point: marks && { ...marks, color: ORANGE } },
      encoding: { x: x(by), y: y('density', 'density (%)'), tooltip: TOOLTIP(by) },
    },
  ]
}

/** Names go down the y axis, where long ones have room, in the order of the report. */
function dots(by: string, points: Point[]): Spec {
  const names = shortened(points.map(({ group }) => String(group)))
  const data = { values: points.map((point, at) => ({ ...point, name: names[at] })) }
  const row = (labels: boolean) => ({
    field: 'name',
    type: 'nominal',
    sort: names,
    axis: {
      title: labels ? by : null,
      labels,
      ticks: labels,
      grid: true,
      titleAnchor: 'start',
      titleAngle: 0,
      titleAlign: 'right',
      titleY: -8,
    },
  })
  const x = (field: string, title: string) => ({
    field,
    type: 'quantitative',
    scale: { ...spread(points, field), padding: 8 },
    axis: { title, tickCount: 5, orient: 'top', grid: false, labelOverlap: 'greedy' },
  })
  const step = points.length > 40 ? 14 : 18
  const shared = { data, height: { step } }
  return {
    spacing: 20,
    hconcat: [
      {
        ...shared,
        width: 300,
        encoding: { y: row(true), tooltip: TOOLTIP(by) },
        layer: [
          {
            mark: { type: 'rule', color: BLUE, strokeWidth: 2, opacity: 0.6 },
            encoding: { x: x('lower', 'entropy (bits)'), x2: { field: 'upper' } },
          },
          {
            mark: { type: 'tick', color: GREY, thickness: 1.5, size: 9 },
            encoding: { x: x('plugIn', 'entropy (bits)') },
          },
          {
            mark: { type: 'point', filled: true, color: BLUE, size: 45 },
            encoding: { x: x('bits', 'entropy (bits)') },
          },
        ],
      },
      {
        ...shared,
        width: 140,
        mark: { type: 'point', filled: true, color: ORANGE, size: 45 },
        encoding: { y: row(false), x: x('density', 'density (%)'), tooltip: TOOLTIP(by) },
      },
    ],
  }
}

/** Names that fit beside the axis: of long ones what all have in common is left out, then the middle of what is left. */
function shortened(names: string[]): string[] {
  if (names.every(name => name.length <= LABEL)) return names
  const distinct = [...new Set(names)]
  const start = distinct.length > 1 ? common(distinct) : 0
  const end =
    distinct.length > 1 ? common(distinct.map(name => [...name.slice(start)].reverse().join(''))) : 0
  const short = names.map(name => {
    // a little of what is common says what the rest is of
    const [from, to] = [start > 2 * KEPT ? start - KEPT : 0, name.length - (end > 2 * KEPT ? end - KEPT : 0)]
    const own = name.slice(from, to)
    const cut = own.length > LABEL ? `${own.slice(0, LABEL / 2)}…${own.slice(1 - LABEL / 2)}` : own
    return `${from > 0 ? '…' : ''}${cut}${to < name.length ? '…' : ''}`
  })
  return new Set(short).size === distinct.length ? short : names
}

/** Letters of a name beside an axis. */
const LABEL = 34
/** Of what names have in common. */
const KEPT = 8

/** How many letters all begin with. */
function common([first = '', ...others]: string[]): number {
  const differs = [...first].findIndex((letter, at) => others.some(other => other[at] !== letter))
  return differs < 0 ? first.length : differs
}

/** Panels of all rows together, two side by side. */
function overall(report: PlottedReport): Spec[] {
  const { densityHistogram, l0Distribution, pairs } = report
  const estimates = report.groups?.length ? [] : estimated(report)
  const small = [
    ...(densityHistogram ? [rates(report, densityHistogram)] : []),
    ...(l0Distribution?.counts.some(Boolean) ? [activity(l0Distribution)] : []),
  ]
  const block = pairs?.block
  return [
    ...estimates,
    ...(small.length ? [{ hconcat: small, spacing: 24 }] : []),
    ...(block && block.features.length > 1 ? [dependencies(block)] : []),
  ]
}

/** The estimates of the entropy beside each other. */
function estimated(report: PlottedReport): Spec[] {
  const { entropyBits, estimates, interval, batch, joint, yardsticks } = report
  const rows = [
    { name: 'sum of marginals, plug-in', bits: entropyBits },
    { name: 'Miller–Madow', bits: estimates?.millerMadow },
    {
      name: 'jackknife, with interval',
      bits: interval?.estimate ?? estimates?.jackknife,
      from: interval?.lower,
      to: interval?.upper,
    },
    { name: 'Grassberger', bits: estimates?.grassberger },
    { name: `mean of batches of ${batch?.size} (biased)`, bits: batch?.entropyBits },
    { name: 'joint entropy, between', from: joint?.lowerBits, to: joint?.upperBits },
    { name: 'a Gaussian at the same error', bits: yardsticks?.gaussian.bits },
  ]
  const shown = rows
    .filter(({ bits, from }) => finite(bits) || finite(from))
    .map(({ name, bits, from, to }) => ({
      name,
      bits: finite(bits) ? bits : null,
      from: finite(from) ? from : null,
      to: finite(to) ? to : null,
      label: finite(bits) ? figure(bits) : `${figure(from as number)} … ${finite(to) ? figure(to) : ''}`,
      end: Math.max(...[bits, to].filter(finite)),
    }))
  if (shown.length === 0) return []
  const all = shown.flatMap(({ bits, from, to }) => [bits, from, to].filter(finite))
  const [least, most] = [Math.min(...all), Math.max(...all)]
  // room before the first mark, but no entropies below 0 on the axis where there are none
  const low = least >= 0 && least < 0.1 * (most - least) ? { domainMin: 0 } : {}
  const x = {
    type: 'quantitative',
    scale: { zero: false, padding: 12, ...low },
    axis: { title: 'entropy (bits)', tickCount: 8 },
  }
  const tooltip = [
    { field: 'name', title: 'estimate' },
    { field: 'bits', title: 'bits', format: ',.6~g' },
    { field: 'from', title: 'from', format: ',.6~g' },
    { field: 'to', title: 'to', format: ',.6~g' },
  ]
  return [
    {
      width: WIDTH - 120,
      height: { step: 24 },
      data: { values: shown },
      encoding: {
        y: {
          field: 'name',
          type: 'nominal',
          sort: shown.map(({ name }) => name),
          title: null,
          axis: { grid: true },
        },
        tooltip,
      },
      layer: [
        {
          mark: { type: 'rule', color: BLUE, strokeWidth: 3, opacity: 0.6 },
          encoding: { x: { ...x, field: 'from' }, x2: { field: 'to' } },
        },
        {
          mark: { type: 'point', filled: true, color: BLUE, size: 50 },
          encoding: { x: { ...x, field: 'bits' } },
        },
        {
          mark: { type: 'text', align: 'left', dx: 8, clip: false },
          encoding: { x: { ...x, field: 'end' }, text: { field: 'label' } },
        },
      ],
    },
  ]
}

/** How many features are on how often. Never and always on are no rates on a logarithmic axis: bars of their own. */
function rates(report: PlottedReport, { edges, features }: { edges: number[]; features: number[] }): Spec {
  const never = report.neverOn?.features ?? 0
  const always = report.alwaysOn?.features ?? 0
  const inner = innerBins(edges, features)
  const lowest = Math.min(-1, ...inner.map(({ from }) => from))
  const aside = Math.max(0.3, -lowest / 8)
  const bars = [
    {
      from: lowest - 2.4 * aside,
      to: lowest - 1.4 * aside,
      features: never,
      rate: 'never on',
      kind: 'aside',
    },
    ...inner,
    { from: aside, to: 2 * aside, features: always, rate: 'always on', kind: 'aside' },
  ]
  // a bar that would press all others flat is cut off, and says so
  const most = Math.max(0, ...inner.map(bar => bar.features))
  const highest = Math.max(1, most, never, always)
  const top = most > 0 && highest > 4 * most ? 1.25 * most : highest
  const values = bars.map(bar => ({
    ...bar,
    shown: Math.min(bar.features, top),
    label: bar.kind === 'aside' ? `${thousands(bar.features)}${bar.features > top ? ' ↑' : ''}` : '',
  }))
  const powers = Array.from({ length: Math.ceil(-lowest) + 1 }, (_, power) => -power).filter(
    power => power >= lowest,
  )
  const places = [lowest - 1.9 * aside, ...powers, 1.5 * aside]
  const names = [
    'never',
    ...powers.map(power => (power < -4 ? `1e${power}` : (10 ** power).toFixed(-power))),
    'always',
  ]
  return {
    ...SMALL,
    title: panelTitle('How often features are on'),
    data: { values },
    encoding: {
      x: {
        field: 'from',
        type: 'quantitative',
        scale: { domain: [lowest - 2.7 * aside, 2.3 * aside], nice: false },
        axis: {
          title: 'rate: share of the rows a feature is on in',
          values: places,
          labelExpr: `${JSON.stringify(names)}[indexof(${JSON.stringify(places)}, datum.value)]`,
          labelOverlap: false,
          grid: false,
        },
      },
      tooltip: [
        { field: 'rate', title: 'rate' },
        { field: 'features', title: 'features', format: ',' },
      ],
    },
    layer: [
      {
        mark: { type: 'rect', stroke: 'white', strokeWidth: 0.5 },
        encoding: {
          x2: { field: 'to' },
          y: {
            field: 'shown',
            type: 'quantitative',
            scale: { domain: [0, 1.1 * top], nice: false },
            axis: { title: 'features', tickCount: 5, tickMinStep: 1, format: ',~r' },
          },
          y2: { datum: 0 },
          color: {
            field: 'kind',
            scale: { domain: ['aside', 'rate'], range: [GREY, BLUE] },
            legend: null,
          },
        },
      },
      // a count may be wider than its bar: it goes inwards, away from the axis
      ...[
        { side: 'never on', x: 'from', align: 'left' },
        { side: 'always on', x: 'to', align: 'right' },
      ].map(({ side, x, align }) => ({
        transform: [{ filter: { field: 'rate', equal: side } }],
        mark: { type: 'text', baseline: 'bottom', dy: -3, align },
        encoding: {
          x: { field: x, type: 'quantitative' },
          y: { field: 'shown', type: 'quantitative' },
          text: { field: 'label' },
        },
      })),
    ],
  }
}

/** The bins between never and always, in powers of ten, from the first one that is not empty. */
function innerBins(edges: number[], features: number[]) {
  const bins = features.map((count, at) => {
    const [low, high] = [edges[at] as number, edges[at + 1] as number]
    return {
      from: Math.log10(low),
      to: Math.log10(high),
      features: count,
      rate: `${figure(low)} … ${figure(high)}`,
      kind: 'rate',
    }
  })
  const first = features.findIndex(Boolean)
  return first < 0 ? [] : bins.slice(first)
}

/** How many features are on in a row. */
function activity({ counts, quartiles }: { counts: number[]; quartiles: number[] }): Spec {
  const most = counts.findLastIndex(Boolean)
  const least = counts.findIndex(Boolean)
  const together = Math.max(1, Math.ceil((most - least + 1) / 60))
  const values = []
  for (let from = least; from <= most; from += together) {
    const rows = counts.slice(from, from + together).reduce((sum, each) => sum + each, 0)
    const last = from + together - 1
    values.push({ from, to: from + together, rows, on: together === 1 ? `${from}` : `${from} to ${last}` })
  }
  const x = {
    field: 'from',
    type: 'quantitative',
    scale: { zero: false, nice: false, padding: 6 },
    axis: {
      title: 'features on in a row',
      grid: false,
      format: ',~r',
      labelOverlap: 'greedy',
      tickMinStep: 1,
    },
  }
  const median = quartiles[1]
  const layers: Spec[] = [
    {
      mark: { type: 'rect', color: BLUE, stroke: 'white', strokeWidth: 0.5 },
      encoding: {
        x,
        x2: { field: 'to' },
        y: {
          field: 'rows',
          type: 'quantitative',
          scale: { zero: true },
          axis: { title: 'rows', tickCount: 5, tickMinStep: 1, format: ',~r' },
        },
        y2: { datum: 0 },
        tooltip: [
          { field: 'on', title: 'features on' },
          { field: 'rows', title: 'rows', format: ',' },
        ],
      },
    },
  ]
  if (finite(median)) {
    layers.push({
      data: { values: [{ at: median + 0.5 }] },
      mark: { type: 'rule', color: ORANGE, strokeWidth: 1.5 },
      encoding: { x: { field: 'at', type: 'quantitative' } },
    })
  }
  const title = finite(median) ? `Features on in a row (median ${figure(median)})` : 'Features on in a row'
  return { ...SMALL, title: panelTitle(title), data: { values }, layer: layers }
}

/** φ of all pairs of a block of features. */
function dependencies({ features, phi }: { features: number[]; phi: (number | null)[][] }): Spec {
  const values = features.flatMap((one, i) =>
    features.flatMap((other, j) => {
      const value = phi[i]?.[j]
      return i === j || !finite(value) ? [] : [{ one, other, phi: value }]
    }),
  )
  const axis = { labelOverlap: 'greedy', labelFontSize: 10, grid: false, domain: false, ticks: false }
  const size = Math.min(20, Math.max(3, 420 / features.length))
  return {
    title: panelTitle('Dependence within the strongest block of features'),
    width: { step: size },
    height: { step: size },
    data: { values },
    mark: 'rect',
    encoding: {
      x: {
        field: 'one',
        type: 'ordinal',
        sort: features,
        axis: { ...axis, title: 'feature', labelAngle: -90 },
      },
      y: { field: 'other', type: 'ordinal', sort: features, axis: { ...axis, title: 'feature' } },
      color: {
        field: 'phi',
        type: 'quantitative',
        scale: { domain: [-1, 1], scheme: 'blueorange' },
        legend: { title: 'φ', gradientLength: 120 },
      },
      tooltip: [
        { field: 'one', title: 'feature' },
        { field: 'other', title: 'and' },
        { field: 'phi', title: 'φ', format: '.3f' },
      ],
    },
  }
}

const panelTitle = (text: string) => ({ text, anchor: 'start', fontSize: 12, offset: 12 })

const finite = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value)

const thousands = (value: number) => value.toLocaleString('en-US')

const figure = (value: number) =>
  Math.abs(value) >= 1000 ? thousands(Math.round(value)) : String(Number(value.toPrecision(4)))
