/**
 * Figures to compare the entropy of codes with: of the hidden states themselves, and the bits that a Gaussian of their
 * covariance needs at the error that the model makes. Entropies and rates are in bits, the model's in bits a row. A figure
 * that is not defined is null, and {@link Yardsticks.missing} says why. `docs/entropy.md` has each formula.
 */
export interface Yardsticks {
  /** Rows measured, n. */
  rows: number
  /** Width of a row, d. With n not much above d, all figures of the spectrum come out too low: it is that of these rows, not of their source. */
  dIn: number
  /** Sum over features of the marginal entropy of the codes, in bits a row (plug-in). */
  entropyBits: number
  /** ε²: the mean over rows of `|x - x̂|²`, summed over dimensions, in squared units of the input. */
  squaredError: number
  /** ε² over the mean of `|x - mean|²`. Null where the rows are all alike. */
  fvu: number | null
  /** Of the second moments `Σ x xᵀ / n`, where the mean takes part. */
  raw: Spectrum
  /** Of the covariance `Σ (x - mean)(x - mean)ᵀ / n`. */
  centred: Spectrum
  /** What a Gaussian of this covariance needs at the same error. */
  gaussian: {
    /** Its rate–distortion function at ε², by reverse water-filling, in bits a row (Cover & Thomas, theorem 10.3.3). */
    bits: number | null
    /** `entropyBits` over it: how many times the bits at the same error. */
    ratio: number | null
  }
  /** The intrinsic dimension by the two nearest neighbours (Facco et al. 2017). Descriptive: it moves with the number of rows and says nothing about bits. */
  twoNn: {
    /** Slope of `-ln(1 - F(μ))` against `ln μ`, through the origin; μ is the distance to the second neighbour over that to the first. */
    dimension: number | null
    /** Rows drawn, at most 4,096, without replacement. */
    rows: number
    /** Of these, left out because an earlier row is the same. */
    duplicates: number
    /** Share of the rows that is left out of the fit, those with the largest μ. */
    discardFraction: number
    /** Of the draw. */
    seed: number
  }
  /** Why a figure is null, by its name: `fvu`, `raw`, `centred.codingRateBits`, `gaussian`, `gaussian.ratio`, `twoNn.dimension`, … */
  missing: Record<string, string>
}

/** Figures of a second-moment matrix M with eigenvalues λ and p = λ / Σλ. All but the rank are null where M is 0. */
export interface Spectrum {
  /** Eigenvalues above the rounding error, `max(n, d) 2⁻⁵² λ_max`; the others count as 0. */
  rank: number
  /** Von Neumann entropy `-Σ p log₂ p` of M over its trace, in bits. */
  vonNeumannBits: number | null
  /** Matrix-based Rényi entropy of order 2, `-log₂ Σ p²`, in bits (Giraldo et al. 2015). */
  renyi2Bits: number | null
  /** Effective rank (RankMe, Garrido et al. 2023): `exp(-Σ q ln q)` with q the singular values `√λ` over their sum; between 1 and `rank`. */
  rankMe: number | null
  /** Participation ratio `(Σλ)² / Σλ²`: 2 to the power of `renyi2Bits`. */
  participationRatio: number | null
  /** Coding rate `½ log₂ det(I + d/ε² M)` in bits a row (MCR², Yu et al. 2020) at the model's own ε². Null, with a reason, where the reconstruction is exact. */
  codingRateBits: number | null
}
