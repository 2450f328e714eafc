import { BaeError, describe } from './errors.js'
import { positiveInteger } from './job.js'
import type { LeftOut } from './states.js'

/** What a row is said to be. */
export type ProbeLabel = number | string

/** What to probe for, and on which rows. */
export interface ProbeSettings {
  /**
   * The label of each row of the data, in its order: a column that the data brings (`group`, `layer`, `position`, `sequence`, `token`); a file
   * with one for each row, as `FILE.jsonl#FIELD` (a JSON object a line), `FILE.safetensors#NAME` or `FILE.npy` (whole numbers `[rows]`); or
   * an array of whole numbers, strings or booleans, with null for rows that have none. At most 50 different ones among the rows taken.
   */
  label: string | readonly (ProbeLabel | boolean | null | undefined)[]
  /** Rows drawn from those that have a label, at most 65,536; they are kept in memory. Default 4096. */
  rows?: number | undefined
  /** Random divisions into rows to train on and rows to test on, at most 100. Default 5. */
  splits?: number | undefined
  /** Whole number that decides the rows drawn, the splits, and the draws of the controls. Default 0. */
  seed?: number | undefined
}

/** A figure over splits, or over models. */
export interface Spread {
  /** Mean. */
  mean: number
  /** Standard deviation, its divisor one less than their number; null of a single one. Splits share rows: it is no standard error. */
  deviation: number | null
}

/** How well two classes are told apart, on rows that were not trained on. Both figures are ½ by chance, whatever the sizes of the classes. */
export interface ProbeScore {
  /** Mean of the shares of both classes that are recognised. Always giving the commoner class's answer has ½. */
  balancedAccuracy: Spread
  /** Area under the receiver operating characteristic: how probably a row of the class scores above one of the others. */
  auc: Spread
}

/** A probe beside its control. */
export interface Probe extends ProbeScore {
  /** The same, trained on labels that were shuffled: what there is by chance. */
  shuffled: ProbeScore
}

/** A probe that reads few features, beside its controls. */
export interface SparseProbe extends Probe {
  /** Features that it reads. */
  k: number
  /** Those that were chosen in most splits, at most k, with how many; absent from a mean over classes. */
  features?: { feature: number; splits: number }[]
  /** Trained on k features drawn at random from those that vary. */
  random: ProbeScore
}

/** Probes for one question, each beside its controls. `docs/probing.md` has the formulas. */
export interface Probes {
  /** Logistic regression on the k = 1, 2 and 5 features whose means differ most between the classes. */
  sparse: SparseProbe[]
  /** Logistic regression on all features. */
  dense: Probe
  /** Logistic regression on the hidden states, standardised. */
  hiddenStates: Probe
  /** The hidden states, standardised, along the difference of the classes' means. */
  differenceOfMeans: Probe
}

/** How well labels can be read off features and hidden states. */
export interface ProbeReport extends LeftOut {
  /** The label, as it was named; null where an array was given. */
  label: string | null
  /** Rows probed. */
  rows: number
  /** Rows that have a label, of which these were drawn. */
  labelledRows: number
  /** Rows without a label, which take no part. */
  unlabelledRows: number
  /** Random divisions into rows to train on and rows to test on. */
  splits: number
  /** Share of the rows that are tested on. */
  testFraction: number
  /** What the splits keep together: sequences where all of the data says what they are and there are several. */
  splitBy: 'row' | 'sequence'
  /** Of the draws. */
  seed: number
  /** Each class against all other rows; of two classes the second alone, for the first is the same question. */
  classes: (Probes & { value: ProbeLabel; rows: number })[]
  /** Means over the classes; deviations are those over splits of this mean. */
  mean: Probes
  /** Classes with too few rows to be probed. Their rows are among the others of each class. */
  leftOut: { value: ProbeLabel; rows: number }[]
}

/**
 * Means over several models of what the reports say in the mean over classes, and the deviation over models: how far another seed of the
 * training would move the figures. The probes of hidden states do not depend on the model.
 *
 * @param reports of the same label, data, rows, splits and seed.
 * @throws BaeError `INVALID_ARGUMENT` where there is none, or they are of different ones.
 */
export function probesOverModels(reports: readonly ProbeReport[]): Probes {
  const [first] = reports
  if (!first) throw new BaeError('INVALID_ARGUMENT', 'no reports given: probe at least one model')
  for (const name of ['label', 'rows', 'labelledRows', 'splits', 'seed'] as const) {
    const other = reports.find(report => report[name] !== first[name])
    if (!other) continue
    const message = `the reports are not of the same probes: ${name} is ${first[name]} and ${other[name]}`
    throw new BaeError('INVALID_ARGUMENT', message)
  }
  const score = (of: (probes: Probes) => ProbeScore): ProbeScore => ({
    balancedAccuracy: spread(reports.map(({ mean }) => of(mean).balancedAccuracy.mean)),
    auc: spread(reports.map(({ mean }) => of(mean).auc.mean)),
  })
  const probe = (of: (probes: Probes) => Probe): Probe => ({
    ...score(of),
    shuffled: score(probes => of(probes).shuffled),
  })
  return {
    sparse: first.mean.sparse.map(({ k }, at) => {
      const of = ({ sparse }: Probes) => sparse[at] as SparseProbe
      return { k, ...probe(of), random: score(probes => of(probes).random) }
    }),
    dense: probe(({ dense }) => dense),
    hiddenStates: probe(({ hiddenStates }) => hiddenStates),
    differenceOfMeans: probe(({ differenceOfMeans }) => differenceOfMeans),
  }
}

function spread(values: number[]): Spread {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  if (values.length === 1) return { mean, deviation: null }
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0)
  return { mean, deviation: Math.sqrt(squares / (values.length - 1)) }
}

/** @internal Settings as the addon takes them. */
export function probeRequest({ label, rows = 4096, splits = 5, seed = 0 }: ProbeSettings) {
  if (!Number.isSafeInteger(seed) || seed < 0) {
    const shown = typeof seed === 'number' ? seed : describe(seed)
    throw new BaeError('INVALID_ARGUMENT', `seed must be a whole number of at least 0, not ${shown}`)
  }
  const counts = { rows: atMost('rows', rows, 65_536), splits: atMost('splits', splits, 100), seed }
  return typeof label === 'string' ? { label, ...counts } : { ...labelsOf(label), ...counts }
}

function atMost(name: string, value: number, most: number): number {
  if (positiveInteger(name, value) <= most) return value
  throw new BaeError('INVALID_ARGUMENT', `${name} must be at most ${most}, not ${value}`)
}

/** The different labels of an array, and of each row which of them it has. */
function labelsOf(labels: unknown): { values: ProbeLabel[]; labelOfRow: Int32Array } {
  if (!Array.isArray(labels)) {
    throw new BaeError(
      'INVALID_ARGUMENT',
      `label must name a column or a file of labels, or be an array with one for each row, not ${describe(labels)}`,
    )
  }
  const numbers = new Map<ProbeLabel, number>()
  const labelOfRow = Int32Array.from(labels, (label: unknown, row) => {
    if (label === null || label === undefined) return -1
    const value = typeof label === 'boolean' ? String(label) : label
    if (typeof value !== 'string' && !Number.isSafeInteger(value)) {
      const shown = typeof value === 'number' ? value : describe(value)
      throw new BaeError(
        'INVALID_ARGUMENT',
        `label, row ${row} is ${shown}; labels are whole numbers, strings or booleans`,
      )
    }
    const number = numbers.get(value as ProbeLabel) ?? numbers.size
    numbers.set(value as ProbeLabel, number)
    return number
  })
  return { values: [...numbers.keys()], labelOfRow }
}
