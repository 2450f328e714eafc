import { type BinaryCodes, nativeCodes, type PackedCodes } from './codes.js'
import { BaeError, describe, fromNative } from './errors.js'
import {
  type CallOptions,
  checked,
  ofType,
  pathOf,
  positiveInteger,
  type RowsProgress,
  runJob,
  taken,
} from './job.js'
import native, { type Statistics } from './native.js'
import type { LeftOut } from './states.js'

/** How much codes say, and how sparse they are, counted over all rows named. */
export interface Sparsity {
  /** Rows counted. */
  rows: number
  /** Sum over features of the marginal entropy, Σ_j H(p_j), as it is in these rows (plug-in). */
  entropyBits: number
  /** Mean number of ones in a row. */
  l0: number
  /** `l0 / dSae`: the share of ones. */
  density: number
  /** Share of features that are 0 in every row. */
  deadFraction: number
  /** Share of features that are 1 in every row. */
  alwaysOnFraction: number
  /** Share of features that are 1 in more than half of the rows, always-on ones included. */
  denseFraction: number
}

/** What is said about codes, counted over all rows named. Entropies are in bits. */
export interface CodeFigures extends Sparsity {
  /** Features counted: `dSae`. */
  features: number
  /** Σ_j H(p_j) of what the rows are a sample of, by four estimators; the plug-in one runs low when rows are few. */
  estimates: { plugIn: number; millerMadow: number; jackknife: number; grassberger: number }
  /** Where Σ_j H(p_j) lies; `null` where rows are of fewer than about ten clusters. */
  interval: {
    /** The jackknife over random groups of clusters, in its middle: the best single figure. */
    estimate: number
    lower: number
    upper: number
    /** How often such an interval holds the truth. */
    level: number
    /** Clustered: to first order that of the mean length of a row's code, each feature coded for itself. */
    standardError: number
    /** What is taken for independent: whole sequences where the data says what they are, rows otherwise. */
    clusters: 'sequence' | 'row'
    degreesOfFreedom: number
  } | null
  /** What published code reports: the average of Σ_j H(p_j) over batches of `size` rows. Not for groups. */
  batch?: {
    size: number
    entropyBits: number
    /** How far that is from the best estimate over all rows: that of the interval, where there is one. */
    biasBits: number
  }
  /** Features that are 0 in every row; with 95 % confidence each of them is on in less than `rateBelow` (3 / rows) of all rows. */
  neverOn: { features: number; rateBelow: number | null }
  /** Features that are 1 in every row; with 95 % confidence each of them is on in more than `rateAbove` of all rows. */
  alwaysOn: { features: number; rateAbove: number | null }
  /** Features by the share of rows they are on in: `features[i]` from `edges[i]` to below `edges[i + 1]`, those never and always on left out. */
  densityHistogram: { edges: number[]; features: number[] }
  /** Ones in a row: `counts[i]` rows have i of them. */
  l0Distribution: {
    minimum: number
    quartiles: [number, number, number]
    maximum: number
    counts: number[]
  } | null
  /** Where the entropy of whole codes lies, with `pairs`; `null` where there are too few rows. */
  joint?: JointEntropy | null
  /** Dependence between features, with `pairs`. */
  pairs?: PairFigures
  /** The features asked for, taken together. */
  subset?: SubsetEntropy
}

/** An interval for the entropy of whole codes: no single figure can be trusted. */
export interface JointEntropy {
  lowerBits: number
  upperBits: number
  /** How often such an interval holds the truth, at least. */
  level: number
  /** The lower end: −log2 of the Clopper–Pearson limit of the chance that two rows of different clusters have the same code. */
  collision: { pairs: number; collisions: number }
  /** The upper end: the code length, in bits a row, of a Chow–Liu tree on rows that it was not learned from, with its standard error. */
  tree: { folds: number; bits: number; standardError: number }
}

/** How features depend on each other, two by two. */
export interface PairFigures {
  /** Bytes that the counts take. */
  memoryBytes: number
  /** Where Σ_j H(p_j) − H(code) lies; `null` where there are too few rows. */
  totalCorrelation: { lowerBits: number; upperBits: number } | null
  /** The pairs that say most about each other. */
  strongest: {
    features: [number, number]
    /** Correlation of the two bits. */
    phi: number
    /** Plug-in. */
    mutualInformationBits: number
    /** Rows in which both are on. */
    both: number
  }[]
  /** φ between features of the strongest pairs, dependent ones beside each other. */
  block: { features: number[]; phi: number[][] }
}

/** Entropy of a few features taken together. */
export interface SubsetEntropy {
  features: number[]
  /** Patterns that occur. */
  patterns: number
  plugIn: number
  millerMadow: number
  /** Chao & Shen 2003. */
  chaoShen: number
  /** Nemenman, Shafee & Bialek 2002: posterior mean and standard deviation. */
  nsb: { mean: number; standardDeviation: number }
}

/** Entropy and sparsity of codes, counted over all rows, and over groups of them where asked for. */
export interface EntropyReport extends CodeFigures, LeftOut {
  /** What the groups differ in. */
  by?: string
  /** The same figures for each group. */
  groups?: (CodeFigures & { value: number | string })[]
  /** Where a part of the rows was counted: parts there are, and those that are missing, from 1. */
  shards?: { of: number; missing: number[] }
}

/** What to count beside ones. */
export interface CountingOptions {
  /** All pairs of features: dependence, and bounds of the joint entropy. Takes 8 dSae² bytes. Default false. */
  pairs?: boolean | undefined
  /** Features whose joint entropy is wanted, at most 20. */
  subset?: readonly number[] | undefined
}

/** Options of {@link CodeStatistics.add}. */
export interface AddOptions extends CallOptions {
  /**
   * Which sequence (document, request, prompt) each row is of: rows of one sequence are like each other, which intervals must know.
   * With it or without it, but all codes alike.
   */
  sequences?: readonly (number | bigint)[] | Int32Array | Uint32Array | BigInt64Array | undefined
  /** Number of the first row; by default rows are numbered on. Parts of one count that are merged need numbers of their own. */
  firstRow?: number | undefined
  /** Called now and then while the call runs. What it throws is ignored. */
  onProgress?: ((progress: RowsProgress) => void) | undefined
}

/** @internal Wraps counts that the addon made. */
export let wrapStatistics: (statistics: Statistics, leftOut?: LeftOut) => CodeStatistics

/**
 * Counts of codes: integers that can be added to, merged in any order, and kept in a file. Memory does not grow with the rows.
 *
 * Holds memory outside the JavaScript heap: call `dispose()`, or use `using`, when done with it.
 */
export class CodeStatistics implements Disposable, AsyncDisposable {
  static {
    wrapStatistics = (statistics, leftOut) => {
      const wrapped = new CodeStatistics(statistics.dSae, statistics)
      wrapped.#leftOut = leftOut
      return wrapped
    }
  }

  /** Features a row, in bits. */
  readonly dSae: number
  #native: Statistics | null
  #leftOut: LeftOut | undefined

  /**
   * No rows yet.
   *
   * @param dSae bits of a code.
   * @throws BaeError `INVALID_ARGUMENT`, `OUT_OF_MEMORY` (pairs of too many features).
   */
  constructor(dSae: number, options?: CountingOptions)
  /** @internal */
  constructor(dSae: number, statistics: Statistics)
  constructor(dSae: number, options: CountingOptions | Statistics = {}) {
    if (options instanceof native.Statistics) {
      this.#native = options
    } else {
      dSaeOf(dSae)
      const request = countRequest(options)
      try {
        this.#native = new native.Statistics(dSae, request)
      } catch (error) {
        throw fromNative(error)
      }
    }
    this.dSae = dSae
  }

  /**
   * Reads counts from a file that {@link save} or `bae entropy --out` wrote.
   *
   * @throws BaeError `INVALID_ARGUMENT` (no path), `IO`, `CORRUPT_FILE`, `UNSUPPORTED_FORMAT`.
   */
  static async load(path: string, options: CallOptions = {}): Promise<CodeStatistics> {
    const { signal } = checked(options)
    pathOf('path', path)
    const { job } = await runJob(on => native.startLoadStatistics(path, on), { signal })
    return wrapStatistics(taken(job.takeStatistics(), 'counts'))
  }

  /** Rows counted, by the calls that have ended. */
  get rows(): number {
    return this.#live().rows
  }

  /** For each feature, the rows in which it is on, `[dSae]`. */
  async ones(options: CallOptions = {}): Promise<Float64Array> {
    const { signal } = checked(options)
    const counts = this.#live()
    const { json } = await runJob(on => native.startOnes(counts, on), { signal })
    return Float64Array.from(JSON.parse(json) as number[])
  }

  /**
   * Counts codes onto what was counted before. An aborted call leaves the rows counted that it had come to.
   *
   * @param codes {@link BinaryCodes}, or any `{ bytes, rows, dSae }` (copied).
   * @throws BaeError `SHAPE_MISMATCH` where `dSae` is another; `INVALID_ARGUMENT`, also where sequences are given for some codes and not
   *   for others; `DISPOSED`.
   */
  async add(codes: BinaryCodes | PackedCodes, options: AddOptions = {}): Promise<void> {
    const { signal, sequences, firstRow, onProgress } = checked(options)
    const counts = this.#live()
    if (firstRow !== undefined && !(Number.isSafeInteger(firstRow) && firstRow >= 0)) {
      throw new BaeError('INVALID_ARGUMENT', `firstRow must be a whole number from 0 on, not ${firstRow}`)
    }
    const { codes: packed, owned } = nativeCodes(codes)
    try {
      const of = sequences && sequencesOf(sequences, codes.rows)
      await runJob(on => native.startCountCodes(counts, packed, of, firstRow, on), {
        signal,
        progress: onProgress,
      })
    } finally {
      if (owned) packed.dispose()
    }
  }

  /**
   * Adds the counts of `other`, which stays as it is. Any order and any grouping gives the same counts.
   *
   * @throws BaeError `SHAPE_MISMATCH`; `INVALID_ARGUMENT` where different things were counted, or the same part twice; `DISPOSED`.
   */
  async merge(other: CodeStatistics, options: CallOptions = {}): Promise<void> {
    const { signal } = checked(options)
    if (!(other instanceof CodeStatistics)) {
      throw new BaeError('INVALID_ARGUMENT', `other must be CodeStatistics, not ${describe(other)}`)
    }
    const [counts, others] = [this.#live(), other.#live()]
    await runJob(on => native.startMerge(counts, others, on), { signal })
    // parts of one whole each know of all rows that were left out of it
    this.#leftOut = undefined
  }

  /** Says what the counts say. */
  async report(options: CallOptions = {}): Promise<EntropyReport> {
    const { signal } = checked(options)
    const counts = this.#live()
    const { json } = await runJob(on => native.startReport(counts, on), { signal })
    return { ...(JSON.parse(json) as EntropyReport), ...this.#leftOut }
  }

  /**
   * Writes the counts as safetensors of integers. The file appears whole or not at all.
   *
   * @throws BaeError `INVALID_ARGUMENT`; `IO`, also where the file is there already and `overwrite` is not set; `DISPOSED`.
   */
  async save(path: string, options: CallOptions & { overwrite?: boolean | undefined } = {}): Promise<void> {
    const { signal, overwrite = false } = checked(options)
    pathOf('path', path)
    ofType('overwrite', 'boolean', overwrite)
    const counts = this.#live()
    await runJob(on => native.startSaveStatistics(counts, path, overwrite, on), { signal })
  }

  /** Frees the native memory; using the counts afterwards is an error of code `DISPOSED`. */
  dispose(): void {
    this.#native?.dispose()
    this.#native = null
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose()
  }

  #live(): Statistics {
    if (this.#native) return this.#native
    throw new BaeError('DISPOSED', 'these counts were disposed of')
  }
}

/** @internal The options as the addon takes them. */
export function countRequest({ pairs = false, subset = [] }: CountingOptions) {
  ofType('pairs', 'boolean', pairs)
  const isFeature = (feature: unknown) =>
    Number.isInteger(feature) && (feature as number) >= 0 && (feature as number) < 2 ** 32
  if (!Array.isArray(subset) || !subset.every(isFeature)) {
    const wrong = Array.isArray(subset) ? subset.find(each => !isFeature(each)) : subset
    throw new BaeError(
      'INVALID_ARGUMENT',
      `subset must be an array of features, whole numbers from 0 on, not ${typeof wrong === 'number' ? wrong : describe(wrong)}`,
    )
  }
  return { pairs, subset: [...subset] as number[] }
}

/** Bytes that {@link CountingOptions.pairs} takes for codes of so many bits. */
export function pairBytes(dSae: number): number {
  return native.pairBytes(dSaeOf(dSae))
}

/** Bits of a code; those that no count has are refused here, since the addon takes 32 bits. */
function dSaeOf(dSae: number): number {
  if (positiveInteger('dSae', dSae) <= MOST_FEATURES) return dSae
  throw new BaeError('INVALID_ARGUMENT', `dSae must be at most ${MOST_FEATURES}, not ${dSae}`)
}

const MOST_FEATURES = 2 ** 24

function sequencesOf(sequences: NonNullable<AddOptions['sequences']>, rows: number): BigInt64Array {
  const wrong = (what: string) =>
    new BaeError('INVALID_ARGUMENT', `sequences must be ${rows} whole numbers, one a row; ${what}`)
  if (sequences.length !== rows) throw wrong(`there are ${sequences.length}`)
  if (sequences instanceof BigInt64Array) return sequences
  const of = new BigInt64Array(rows)
  for (const [row, sequence] of sequences.entries()) {
    if (typeof sequence !== 'bigint' && !Number.isSafeInteger(sequence))
      throw wrong(`sequences[${row}] is ${describe(sequence)}`)
    of[row] = BigInt(sequence)
  }
  return of
}
