// What pictures need beside our own code. Plain CommonJS, because it has to work from ES modules and from CommonJS alike:
// vega can only be imported (it awaits at its top level), which TypeScript's CommonJS output would turn into `require`, and only
// CommonJS can say where files lie.
const { dirname, join } = require('node:path')

/** Loads the plotting library: late, because most callers never draw. */
exports.loadVega = () => Promise.all([import('vega'), import('vega-lite')])

/** Loads what makes pixels of SVG. */
exports.loadResvg = () => import('@resvg/resvg-js')

/** Path of the font of PNG pictures: bundled, so that labels show, and look alike, on machines without fonts. */
exports.font = join(__dirname, 'Inter-Regular.ttf')

/** Path of the plotting library as one script for browsers. */
exports.vegaScript = () => join(dirname(require.resolve('vega')), 'vega.min.js')
