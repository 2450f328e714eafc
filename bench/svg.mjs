// A Vega-Lite picture as SVG on white: readable on light and dark pages alike.
import { parse, View } from 'vega'
import { compile } from 'vega-lite'

export const [BLUE, ORANGE, GREY, INK] = ['#1f6fb2', '#c8551b', '#8a8a8a', '#333333']

const CONFIG = {
  font: 'Helvetica, Arial, sans-serif',
  title: {
    color: INK,
    subtitleColor: '#555555',
    fontSize: 14,
    subtitleFontSize: 12,
    anchor: 'start',
    offset: 10,
  },
  axis: {
    labelColor: INK,
    titleColor: INK,
    titleFontWeight: 'normal',
    gridColor: '#e4e4e4',
    labelFontSize: 11,
    titleFontSize: 12,
  },
  text: { fontSize: 11 },
  view: { stroke: '#cccccc' },
}

export async function svg(spec) {
  const $schema = 'https://vega.github.io/schema/vega-lite/v6.json'
  const compiled = compile({ $schema, background: 'white', padding: 12, ...spec, config: CONFIG }).spec
  const view = new View(parse(compiled), { renderer: 'none' })
  const text = await view.toSVG()
  view.finalize()
  // a picture needs one name, not a role for each mark
  const plain = text.replaceAll(/ (role|aria-[a-z]+)="[^"]*"/g, '')
  return `${plain.replace('>', `><title>${spec.title.text}</title>`)}\n`
}
