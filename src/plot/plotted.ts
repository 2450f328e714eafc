/**
 * What is drawn of an entropy report: the names are those of `EntropyReport`. What is missing, or null, is left out of the picture.
 * All entropies are in bits.
 */
export interface PlottedReport extends Partial<PlottedFigures> {
  /** `features[i]` are on in a share of the rows from `edges[i]` to below `edges[i + 1]`; without those never or always on. */
  densityHistogram?: { edges: number[]; features: number[] } | undefined
  neverOn?: { features: number } | undefined
  alwaysOn?: { features: number } | undefined
  /** `counts[i]` rows have i features on; the second quartile is the median. */
  l0Distribution?: { quartiles: number[]; counts: number[] } | null | undefined
  /** The average over batches of `size` rows. */
  batch?: { size: number; entropyBits: number | null } | undefined
  joint?: { lowerBits: number | null; upperBits: number | null } | null | undefined
  pairs?: { block?: { features: number[]; phi: (number | null)[][] } | undefined } | undefined
  /** What a Gaussian needs at the model's error. */
  yardsticks?: { gaussian: { bits: number | null } } | undefined
  /** What the groups differ in: `layer`, `position`, … */
  by?: string | undefined
  groups?: (PlottedFigures & { value: number | string | boolean })[] | undefined
}

/** The figures of one group, or of all rows. */
export interface PlottedFigures {
  rows?: number | undefined
  features?: number | undefined
  entropyBits: number | null
  density: number | null
  estimates?:
    | Partial<Record<'plugIn' | 'millerMadow' | 'jackknife' | 'grassberger', number | null>>
    | undefined
  interval?:
    | {
        estimate?: number | null | undefined
        lower: number | null
        upper: number | null
        level?: number | undefined
      }
    | null
    | undefined
}
