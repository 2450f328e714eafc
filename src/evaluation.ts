import type { LeftOut } from './states.js'
import type { CodeFigures, Sparsity } from './statistics.js'

/**
 * How well rows x are made again as x̂, over all rows named. `docs/evaluation.md` has each formula. NaN where a figure is not defined:
 * where the rows are all alike, most of them.
 */
export interface Reconstruction {
  /** Mean squared error over all values, in squared units of the input. */
  mse: number
  /** `1 - fvu`: the share of the variance (about each column's mean) that the reconstruction explains. */
  explainedVariance: number
  /** Mean over rows of `1 - |x - x̂|² / |x - mean|²`: each row counts alike, however far it is from the mean. */
  explainedVarianceLegacy: number
  /** Fraction of variance unexplained, `E|x - x̂|² / (E|x|² - |E x|²)`. */
  fvu: number
  /** Mean over rows of the cosine between x and x̂. */
  cosine: number
  /** Relative reconstruction bias `E|x̂|² / E(x · x̂)`: below 1 where reconstructions are too short. */
  relativeBias: number
}

/** What one control makes of rows. */
export interface EvaluationControl extends Reconstruction {
  /** Rows measured. */
  rows: number
  /** Mean number of features on in a row; null where the control has no codes. */
  l0: number | null
  /** As the model's; null where the control has no codes. */
  entropyBits: number | null
  /** As the model's; null where the control has no codes. */
  rateBits: number | null
}

/** A control that was fitted to a sample of the rows; it is measured on others of the sample. */
export interface FittedControl extends EvaluationControl {
  fitted: Reconstruction & {
    /** Rows that it was fitted to. The figures beside are of these rows, which flatters it. */
    rows: number
    /** Steps of training, where it was trained. */
    steps?: number
  }
}

/** What scores are to be compared with. Null where there can be none: `missing` says why. */
export interface EvaluationControls {
  /** Each row as the mean of all. */
  meanPrediction: EvaluationControl
  /** Each row in as many principal components as features are on in a row, on average. */
  pca: (EvaluationControl & { rank: number }) | null
  /** Each row made from another row's code. */
  shuffledCodes: EvaluationControl | null
  /** An encoder of random directions, each feature on as often as in the model; its decoder is fitted. */
  frozenEncoder: FittedControl | null
  /** A decoder of random directions; its encoder is trained. */
  frozenDecoder: FittedControl | null
}

/** How well a model makes rows again, how sparse its codes are and what they cost, beside controls. */
export interface EvaluationFigures extends Sparsity, Reconstruction {
  /** Sum over pairs of features of the absolute covariance (of the first 16,384 rows where there are more); null where codes are no bits. */
  covariance: number | null
  /** Bits a row, each feature coded for itself: of bits `entropyBits`, of values `Σ_j H(active_j) + p_j H(value_j | active_j)`, rounded to steps. */
  rateBits: number
  /** The step that values are rounded to, in units of the reconstruction; null where codes are bits. */
  rateStep: number | null
  /** Features by the share of rows they are on in, those never and always on left out. */
  densityHistogram: CodeFigures['densityHistogram']
  controls: EvaluationControls
  /** Why a control is null, by its name. */
  missing: { [name in keyof EvaluationControls]?: string }
}

/** {@link EvaluationFigures} over all rows, and over groups of them where asked for. */
export interface Evaluation extends EvaluationFigures, LeftOut {
  /** What the groups differ in. */
  by?: string
  /** The same figures for each group. */
  groups?: (EvaluationFigures & { value: number | string })[]
}

/** @internal Figures as the addon gives them, with NaN for what is no number: JSON has none, it says null. */
export function asEvaluation(figures: Evaluation): Evaluation {
  for (const each of [figures, ...(figures.groups ?? [])]) {
    const controls = Object.values(each.controls) as (EvaluationControl | FittedControl | null)[]
    const fitted = controls.map(control => (control && 'fitted' in control ? control.fitted : null))
    for (const part of [each, ...controls, ...fitted]) {
      if (part) for (const name of NUMBERS) part[name] ??= Number.NaN
    }
  }
  return figures
}

const NUMBERS = [
  'mse',
  'explainedVariance',
  'explainedVarianceLegacy',
  'fvu',
  'cosine',
  'relativeBias',
] as const
