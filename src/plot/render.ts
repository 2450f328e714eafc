import { readFile } from 'node:fs/promises'
import assets from '../../assets/assets.cjs'
import { BaeError } from '../errors.js'
import type { Spec } from './spec.js'

/** A picture in the making: the specification that Vega runs, and what it is called. */
interface Picture {
  title: string
  /** Compiled: plain Vega. */
  vega: Spec
  svg: string
}

/** @internal The ways to write a picture, by extension. */
export const FORMATS: Record<string, (picture: Picture) => Promise<string | Uint8Array>> = {
  '.svg': async ({ svg }) => `${svg}\n`,
  '.png': png,
  '.html': html,
}

/** @internal Draws a Vega-Lite specification in one of the {@link FORMATS}. */
export async function render(spec: Spec, title: string, format: string): Promise<string | Uint8Array> {
  const [vega, lite] = await assets.loadVega()
  const compiled = lite.compile(spec, { logger: SILENT }).spec
  const view = new vega.View(vega.parse(compiled), { renderer: 'none', logLevel: vega.Error })
  const drawn = await view.toSVG()
  view.finalize()
  // a picture needs one name, not a role for each mark
  const plain = drawn.replaceAll(/ (role|aria-[a-z]+)="[^"]*"/g, '')
  const svg = plain.replace('>', ` role="img"><title>${escaped(title)}</title>`)
  return (FORMATS[format] as (picture: Picture) => Promise<string | Uint8Array>)({
    title,
    vega: compiled,
    svg,
  })
}

/** At twice the size, for screens and paper of today. */
async function png({ svg }: Picture): Promise<Uint8Array> {
  const { renderAsync } = await assets.loadResvg()
  const image = await renderAsync(svg, {
    background: 'white',
    fitTo: { mode: 'zoom', value: 2 },
    // the system's fonts are for letters that ours lacks
    font: {
      fontFiles: [assets.font],
      defaultFontFamily: 'Inter',
      sansSerifFamily: 'Inter',
      loadSystemFonts: true,
    },
  })
  return image.asPng()
}

/** One file with all that it needs: the picture, and the library that makes it answer to the pointer. */
async function html({ title, vega, svg }: Picture): Promise<string> {
  const library = await readFile(assets.vegaScript(), 'utf8')
  if (/<\/script|<!--/i.test(library))
    throw new BaeError('INTERNAL', 'the plotting library cannot stand in a page')
  // the library compiles expressions, hence unsafe-eval; nothing may be fetched
  const policy = "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'"
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width">
<title>${escaped(title)}</title>
<style>body { margin: 1rem; background: white; } #picture { overflow-x: auto; }</style>
</head>
<body>
<div id="picture">${svg}</div>
<script type="application/json" id="spec">${inScript(JSON.stringify(vega))}</script>
<script>${library}</script>
<script>
// the picture above is drawn already: this replaces it by one that shows figures under the pointer
const spec = JSON.parse(document.getElementById('spec').textContent)
const place = document.createElement('div')
new vega.View(vega.parse(spec), { renderer: 'svg', container: place, hover: true })
  .runAsync()
  .then(() => document.getElementById('picture').replaceChildren(place))
</script>
</body>
</html>
`
}

const SILENT = Object.fromEntries(
  ['level', 'error', 'warn', 'info', 'debug'].map(name => [name, () => SILENT]),
) as Record<string, () => unknown>

const escaped = (text: string) =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')

/** JSON that cannot end the script element it stands in. */
const inScript = (json: string) => json.replaceAll('<', '\\u003c')
