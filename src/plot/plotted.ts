/**
 * What is drawn of an entropy report: the names are those of `EntropyReport`. What is missing is left out of the picture.
 * All entropies are in bits.
 */
export interface PlottedReport extends PlottedFigures {
  /** Number of features at each number of rows: see {@link PlottedFigures}. */
  densityHistogram?: { edges: number[]; features: number[] } | undefined
  l0Distribution?: { quartiles: number[]; counts: number[] } | undefined
  joint?: { lowerBits: number; upperBits: number; level?: number | undefined } | undefined
  pairs?: { block?: { features: number[]; phi: (number | null)[][] } | undefined } | undefined
  /** What the groups differ in: `layer`, `position`, … */
  by?: string | undefined
  groups?: (PlottedFigures & { value: number | string })[] | undefined
}

/** The figures of one curve point, or of all rows. */
export interface PlottedFigures {
  rows?: number | undefined
  features?: number | undefined
  entropyBits: number | null
  density: number | null
  estimates?:
    | Partial<Record<'plugIn' | 'millerMadow' | 'jackknife' | 'grassberger', number | null>>
    | undefined
  interval?: { lower: number | null; upper: number | null; level?: number | undefined } | undefined
  batch?: { size: number; entropyBits: number | null } | undefined
  neverOn?: { features: number } | undefined
  alwaysOn?: { features: number } | undefined
}
