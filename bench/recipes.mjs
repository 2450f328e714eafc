// What the recipes of the architectures were chosen from: trains each on two layers of the bundled hidden states, as it is and with other
// settings, and prints the table of docs/architectures.md. Seven minutes on 2 idle cores.
//
//   npm run build && node bench/recipes.mjs
import { fileURLToPath } from 'node:url'
import { train } from '../dist/index.js'

const LAYERS = ['10', '20']

/** For each architecture the settings tried; none are those of its recipe. */
const TRIED = {
  bae: [{}],
  'bae-threshold': [{}],
  'bae-stochastic': [{}],
  kbit: [{}, { learningRate: 1e-3 }],
  ternary: [{}, { learningRate: 1e-3 }],
  topk: [{}, { learningRate: 1e-3 }, { learningRate: 5e-4 }],
  batchtopk: [{}],
  'matryoshka-batchtopk': [{}],
  jumprelu: [{}, { sparsityWeight: 5e-4 }, { learningRate: 1e-3 }],
  gated: [{}, { sparsityWeight: 5e-3 }, { learningRate: 1e-3 }],
  relu: [{}, { sparsityWeight: 2e-3 }, { learningRate: 1e-3 }],
}

console.log('| architecture | tried | layer | FVU | of rows trained on | L0 | dead |')
console.log('|---|---|---|---|---|---|---|')
for (const [architecture, tried] of Object.entries(TRIED)) {
  for (const settings of tried) {
    for (const layer of LAYERS) {
      const states = fileURLToPath(
        new URL(`../examples/data/glosses/layer${layer}.safetensors`, import.meta.url),
      )
      const { model, result } = await train(states, { architecture, dSae: 2304, ...settings })
      model.dispose()
      const { fvu, l0, deadFraction } = result.validation
      const cells = [
        `\`${architecture}\``,
        Object.entries(settings)
          .map(([name, value]) => `\`${name}\` ${value.toExponential()}`)
          .join(', '),
        Number(layer),
        share(fvu),
        share(1 - result.train.explainedVariance),
        l0.toFixed(0),
        share(deadFraction),
      ]
      console.log(`| ${cells.join(' | ')} |`)
    }
  }
}

/** A share, without its leading 0. */
function share(value) {
  return value.toFixed(3).replace(/^0/, '')
}
