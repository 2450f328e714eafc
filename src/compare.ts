import { deviceOf } from './devices.js'
import { BaeError, describe } from './errors.js'
import { checked, runJob, threadsOf } from './job.js'
import { BinaryAutoencoder, type InputOptions, nativeModel } from './model.js'
import native, { type States } from './native.js'
import { type LeftOut, type StatesInput, withStates } from './states.js'

/** What to compare two models by. */
export interface CompareOptions extends InputOptions {
  /** Hidden states that both encode; without them models are compared by their decoders alone. */
  data?: StatesInput | undefined
  /** From which cosine of decoder rows on two features are alike (0.7): 0.01 to 1. */
  cosineThreshold?: number | undefined
  /** From which φ of their codes on (0.5): 0.01 to 1. */
  phiThreshold?: number | undefined
}

/** What has become of a feature of one model in the other; `docs/comparing.md` defines each. */
export type FeatureClass = 'shared' | 'split' | 'merged' | 'missing' | 'constant'

/** Which features two models share. */
export interface Comparison extends LeftOut {
  /** Rows that both have encoded; `null` without data. */
  rows: number | null
  /** By the cosines of decoder rows. */
  decoder: Likeness
  /** By the φ coefficients of codes (on or off); `null` without data. */
  codes: Likeness | null
  /** Pairs that both match, the same way around; `null` without data. */
  matchedByBoth: number | null
}

/** Pairs of alike features, matched one to one so that the sum of their likenesses is the largest there is. */
export interface MatchedFigures {
  /** Matched pairs. */
  matched: number
  /** Twice the matched pairs over the features of both models that change; `null` where none does. */
  matchedFraction: number | null
  /** Mean likeness of matched pairs; `null` where there are none. */
  meanMatched: number | null
  /** Mean over features that change of the largest likeness to any of the other model, of the first model and of the second. */
  meanNearest: [number | null, number | null]
}

/** What is shared by one measure. */
export interface Likeness extends MatchedFigures {
  threshold: number
  /** Whether a feature and the same one turned around are one, because the code of one of the models at least is bits. */
  turning: boolean
  /** The same figures by chance: with the hidden dimensions of the second decoder, or the rows of the second code, shuffled. */
  chance: MatchedFigures
  /** The features of the first model. */
  a: ComparedFeatures
  /** The features of the second model. */
  b: ComparedFeatures
  /** Matched pairs, the most alike first. A negative figure says that they are alike turned around. */
  pairs: { a: number; b: number; cosine: number; phi: number | null }[]
  /** Matched pairs (the first of each list) with features that are left over and most like one of the two, the largest first. */
  families: { a: number[]; b: number[] }[]
}

/** The features of one model: how many of each class, and one by one. */
export interface ComparedFeatures extends Record<FeatureClass, number> {
  /** The class of each feature. */
  classes: FeatureClass[]
  /** The feature of the other model that each is most like; `null` where it is like none. */
  nearest: (number | null)[]
  /** The cosine or φ of the two; negative where they are alike turned around. */
  similarity: number[]
}

/** How much of their features several models share, over all pairs of them. */
export interface Stability {
  /** Pairs of models. */
  pairs: number
  /** `matchedFraction` by decoders, and by chance. */
  decoder: FractionRange & { chance: FractionRange }
  /** The same by codes; `null` without data. */
  codes: (FractionRange & { chance: FractionRange }) | null
}

/** A mean and the range that it is of; `null` where no feature changes. */
export interface FractionRange {
  mean: number | null
  lowest: number | null
  highest: number | null
}

/**
 * Which features two models share: by the cosines of their decoder rows and, with data, by the φ coefficients of their codes.
 *
 * @throws BaeError `SHAPE_MISMATCH` where the models are of different width, or the data; `INVALID_ARGUMENT`, `DISPOSED`,
 *   `OUT_OF_MEMORY` (counts of pairs take 8 bytes for each); for data as {@link BinaryAutoencoder.encode}.
 */
export async function compare(
  a: BinaryAutoencoder,
  b: BinaryAutoencoder,
  options: CompareOptions = {},
): Promise<Comparison> {
  for (const [name, model] of Object.entries({ a, b })) {
    if (!(model instanceof BinaryAutoencoder)) {
      throw new BaeError('INVALID_ARGUMENT', `${name} must be a BinaryAutoencoder, not ${describe(model)}`)
    }
    nativeModel(model)
  }
  const { data, signal, device, threads, onProgress, dIn = a.dIn, where, skipInvalid } = checked(options)
  signal?.throwIfAborted()
  const request = {
    cosineThreshold: thresholdOf('cosineThreshold', options.cosineThreshold ?? 0.7),
    phiThreshold: thresholdOf('phiThreshold', options.phiThreshold ?? 0.5),
  }
  const place = { device: deviceOf(device), threads: threadsOf(threads) }
  const over = (states: States | null) =>
    // looked up again: they may have been disposed of while the input was coming in
    runJob(on => native.startCompare(nativeModel(a), nativeModel(b), states, request, place, on), {
      signal,
      progress: onProgress,
    })
  const { json } =
    data === undefined
      ? await over(null)
      : await withStates(data, { dIn, signal, where, skipInvalid }, states => over(states))
  return JSON.parse(json) as Comparison
}

/** How stable features are over models that should be alike, such as one training with several seeds. */
export function stability(comparisons: Comparison[]): Stability {
  const of = (likenesses: Likeness[]) => ({
    ...spread(likenesses.map(each => each.matchedFraction)),
    chance: spread(likenesses.map(each => each.chance.matchedFraction)),
  })
  const codes = comparisons.flatMap(each => each.codes ?? [])
  return {
    pairs: comparisons.length,
    decoder: of(comparisons.map(each => each.decoder)),
    codes: codes.length === 0 ? null : of(codes),
  }
}

function spread(fractions: (number | null)[]): FractionRange {
  const values = fractions.filter(each => each !== null)
  if (values.length === 0) return { mean: null, lowest: null, highest: null }
  return {
    mean: values.reduce((sum, value) => sum + value, 0) / values.length,
    lowest: Math.min(...values),
    highest: Math.max(...values),
  }
}

function thresholdOf(name: string, value: number): number {
  if (typeof value === 'number' && value >= 0.01 && value <= 1) return value
  const shown = typeof value === 'number' ? value : describe(value)
  throw new BaeError('INVALID_ARGUMENT', `${name} must be a number from 0.01 to 1, not ${shown}`)
}
