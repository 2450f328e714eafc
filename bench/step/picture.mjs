// The picture of docs/performance.md: what a step takes, as multiples of ours.
import { BLUE, GREY, INK, svg } from '../svg.mjs'
import { digits, shapeName } from './table.mjs'

const TICKS = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]

/** One panel a shape, from the step tables on the most threads. */
export function picture({ date, machine, steps }) {
  const threads = Math.max(...steps.map(each => each.threads))
  const shown = steps.filter(each => each.threads === threads)
  const most = Math.max(...shown.flatMap(({ rows }) => rows.map(({ ratio }) => ratio?.median ?? 1)))
  const least = Math.min(...shown.flatMap(({ rows }) => rows.map(({ ratio }) => ratio?.median ?? 1)))
  const panel = ({ shape, rows }) => {
    const values = rows.map(({ label, told, ms, ratio }) => ({
      label: told?.name ?? label,
      times: ratio?.median ?? 1,
      from: 1,
      side: label.startsWith('ours') ? 'ours' : 'peer',
      text: `${digits(ms.median)} ms${ratio ? `, ${digits(ratio.median)}×` : ''}`,
    }))
    // room for the text on the right of the longest bar
    const scale = { type: 'log', domain: [Math.min(0.5, least * 0.9), most * 10] }
    const x = {
      field: 'times',
      type: 'quantitative',
      title: 'times as long as ours',
      scale,
      axis: { values: TICKS, labelOverlap: false },
    }
    const y = { field: 'label', type: 'nominal', sort: null, title: null, axis: { labelLimit: 300 } }
    const color = {
      field: 'side',
      scale: { domain: ['ours', 'peer'], range: [BLUE, GREY] },
      legend: null,
    }
    return {
      title: shapeName(shape),
      width: 380,
      height: 24 * rows.length,
      data: { values },
      layer: [
        { mark: { type: 'bar', height: 15 }, encoding: { x, x2: { field: 'from' }, y, color } },
        {
          mark: { type: 'text', align: 'left', dx: 5, color: INK },
          encoding: { x: { ...x, field: 'end' }, y, text: { field: 'text' } },
          transform: [{ calculate: 'max(datum.times, 1)', as: 'end' }],
        },
      ],
    }
  }
  return svg({
    title: {
      text: 'One training step, full objective, beside its peers',
      subtitle: `(d_in, d_sae, rows); ${machine.cpu}, ${threads} threads, ${machine.flags.join(' ')}; ${date.slice(0, 10)}`,
    },
    vconcat: shown.map(panel),
    spacing: 24,
  })
}

/** Our step over the density of the codes, as a multiple of that at the least density; all features live. */
export function densityPicture({ date, machine, steps, densities }) {
  const shapes = [...new Set(steps.map(({ shape }) => shapeName(shape)))]
  const values = densities.flatMap(({ rows }, at) => {
    const live = rows.filter(({ report }) => report.live > 0.9)
    const least = live.reduce((a, b) => (b.report.density < a.report.density ? b : a))
    return live.map(({ ms, report }) => ({
      shape: shapes[at],
      density: report.density,
      times: ms.median / least.ms.median,
      text: `${digits(ms.median)} ms`,
    }))
  })
  const x = {
    field: 'density',
    type: 'quantitative',
    title: 'share of bits that are on',
    scale: { type: 'log' },
  }
  const y = {
    field: 'times',
    type: 'quantitative',
    title: 'times as long as at the least',
    scale: { domain: [0.9, 1.8], zero: false },
  }
  const color = { field: 'shape', scale: { range: [BLUE, GREY] }, title: null, legend: { orient: 'top' } }
  return svg({
    title: {
      text: 'Our step over the density of the codes',
      subtitle: `${machine.cpu}, ${machine.flags.join(' ')}; ${date.slice(0, 10)}`,
    },
    width: 460,
    height: 240,
    data: { values },
    layer: [
      { mark: { type: 'line', point: true }, encoding: { x, y, color } },
      ...shapes.map((shape, at) => ({
        mark: { type: 'text', dy: at ? 14 : -10, fontSize: 10 },
        encoding: { x, y, color, text: { field: 'text' } },
        transform: [{ filter: { field: 'shape', equal: shape } }],
      })),
    ],
  })
}
