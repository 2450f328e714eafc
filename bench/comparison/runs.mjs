// What is trained.

export const LAYERS = ['10', '20']
export const SEEDS = [0, 1, 2]

/** Each architecture over a small grid of what sets its sparsity or its rate. */
const GRID = [
  ['bae', 'entropyWeight', [3e-4, 6e-4, 1.2e-3]],
  ['bae-threshold', 'entropyWeight', [6e-4]],
  ['bae-stochastic', 'entropyWeight', [6e-4]],
  ['ternary', 'entropyWeight', [6e-4]],
  ['kbit', 'entropyWeight', [6e-4]],
  ['topk', 'k', [32, 64]],
  ['batchtopk', 'k', [32]],
  ['matryoshka-batchtopk', 'k', [32]],
  ['relu', 'sparsityWeight', [3e-3]],
  ['jumprelu', 'sparsityWeight', [1e-3]],
  ['gated', 'sparsityWeight', [7e-3]],
  ['pca', 'dSae', [32]],
  ['snmf', 'dSae', [64]],
]

export function allSettings() {
  return GRID.flatMap(([architecture, setting, values]) =>
    values.map(value => ({ architecture, [setting]: value })),
  )
}

/** A run's name in the results. */
export function nameOf(layer, { architecture, ...setting }) {
  return `layer ${layer}, ${architecture}, ${Object.entries(setting)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ')}`
}

/** The families whose points are drawn alike. */
export const FAMILIES = {
  bits: ['bae', 'bae-threshold', 'bae-stochastic'],
  levels: ['ternary', 'kbit'],
  values: ['topk', 'batchtopk', 'matryoshka-batchtopk', 'relu', 'jumprelu', 'gated'],
  factors: ['pca', 'snmf'],
}
