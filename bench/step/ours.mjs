// Our own engine as one of those that are timed.

/** Rows of the table that are ours: the name and what differs from the plain step. The first is what all are compared with. */
export const VARIANTS = {
  ours: {},
  'ours, sigmoid': { estimator: 'sigmoid', gradientWidth: 0.5 },
  'ours, rectangle': { estimator: 'rectangle', gradientWidth: 0.5 },
  'ours, bf16': { precision: 'bf16' },
}

/**
 * What training with the default recipe ends with on layer 20 of examples/data: 3.8 % of the bits are on, and in a batch of
 * 512 rows 39 % of the features are on in some rows but not in all.
 */
export const REAL = { density: 0.038, live: 0.39 }

/** Weights of the penalties: far above any recipe's, so that each term shows in the gradients that are compared. */
const WEIGHTS = { entropyWeight: 1e-2, covarianceWeight: 5e-4 }

/** So small that the codes keep the density they begin with over all the steps that are timed. */
export const LEARNING_RATE = 1e-6

/** The settings of one run of `bench()` for a shape `{ dIn, dSae, batchSize }` and a density `{ density, live }`. */
export function settings({ dIn, dSae, batchSize }, { density, live }, threads) {
  return {
    ...{ dIn, dSae, batchSize, density, live, threads, ...WEIGHTS },
    ...{ learningRate: LEARNING_RATE, seed: 0, estimator: 'reference-sigmoid', precision: 'f32' },
    ...{ steps: 1, warmUp: 0 },
  }
}

/** A runner for `rounds`; `last` keeps the whole report of its last turn. */
export function runner(bench, name, given) {
  const self = {
    name,
    async time(steps, warmUp) {
      self.last = await bench({ ...given, steps, warmUp })
      return self.last.seconds.map(seconds => seconds * 1000)
    },
  }
  return self
}
