import type { CodeFigures, EntropyReport, Spectrum, SweepEntropyReport, Yardsticks } from '../index.js'
import { count, figure, percent, plural, sparsityRows, table } from './text.js'

/** An entropy report in plain words. */
export function entropyLines(report: EntropyReport & { yardsticks?: Yardsticks }): string[] {
  const missing = report.shards?.missing ?? []
  return [
    `${plural(report.rows, 'row')}, ${plural(report.features, 'feature')}`,
    ...(missing.length
      ? [`${count(missing.length)} of ${count(report.shards?.of ?? 0)} parts are missing: ${runs(missing)}`]
      : []),
    ...table([
      ...entropyRows(report),
      ...sparsityRows(report, report.features),
      ...limitRows(report),
      ...jointRows(report),
      ...yardstickRows(report.yardsticks),
    ]),
    ...dependencies(report),
    ...groupLines(report),
  ]
}

function entropyRows({ entropyBits, estimates, interval, batch }: EntropyReport): [string, string][] {
  const rows: [string, string][] = [
    ['entropy', `${figure(entropyBits)} bits in these rows (sum over features of the marginal entropy)`],
    ['estimate', `${figure(interval?.estimate ?? estimates.jackknife)} bits (jackknife)${around(interval)}`],
  ]
  if (batch) {
    rows.push([
      'by batches',
      `${figure(batch.entropyBits)} bits on average over batches of ${batch.size} rows, as published: ${signed(batch.biasBits)} bits`,
    ])
  }
  return rows
}

function around(interval: CodeFigures['interval']): string {
  if (!interval) return ', with too few independent rows for an interval'
  const { lower, upper, level, clusters } = interval
  return `, ${share(level)} interval ${figure(lower)} to ${figure(upper)} (independent: ${clusters}s)`
}

function limitRows({ neverOn, alwaysOn }: EntropyReport): [string, string][] {
  const rows: [string, string][] = []
  if (neverOn.features && neverOn.rateBelow !== null) {
    rows.push([
      'never on',
      `${count(neverOn.features)}: each of them in less than ${share(neverOn.rateBelow)} of all rows`,
    ])
  }
  if (alwaysOn.features && alwaysOn.rateAbove !== null) {
    rows.push([
      'always on',
      `${count(alwaysOn.features)}: each of them in more than ${share(alwaysOn.rateAbove)} of all rows`,
    ])
  }
  return rows
}

function jointRows({ joint, pairs, subset }: EntropyReport): [string, string][] {
  const rows: [string, string][] = []
  if (joint) {
    const { lowerBits, upperBits, level, collision, tree } = joint
    rows.push([
      'whole codes',
      `between ${figure(lowerBits)} and ${figure(upperBits)} bits (${share(level)}; ${count(collision.collisions)} of ` +
        `${count(collision.pairs)} pairs of rows are alike, a tree of features codes unseen rows in ${figure(tree.bits)} bits)`,
    ])
  } else if (joint === null) rows.push(['whole codes', 'too few independent rows to bound their entropy'])
  if (pairs?.totalCorrelation) {
    const { lowerBits, upperBits } = pairs.totalCorrelation
    rows.push([
      'shared',
      `${figure(lowerBits)} to ${figure(upperBits)} bits are said by more than one feature`,
    ])
  }
  if (subset) {
    rows.push([
      'subset',
      `${figure(subset.plugIn)} bits in these rows, ${figure(subset.chaoShen)} (Chao-Shen), ${figure(subset.nsb.mean)} ± ` +
        `${figure(subset.nsb.standardDeviation)} (NSB): features ${subset.features.join(', ')}, ${plural(subset.patterns, 'pattern')}`,
    ])
  }
  return rows
}

/** Lines to compare with: the one that is in the same unit first. */
function yardstickRows(yardsticks: Yardsticks | undefined): [string, string][] {
  if (!yardsticks) return []
  const { fvu, gaussian, raw, centred, twoNn, missing } = yardsticks
  const rows: [string, string][] = []
  if (gaussian.bits !== null && fvu !== null) {
    const ratio = gaussian.ratio === null ? '' : `; these codes take ${figure(gaussian.ratio)} times that`
    rows.push(['Gaussian', `${figure(gaussian.bits)} bits at the same error (FVU ${figure(fvu)})${ratio}`])
  }
  for (const [name, spectrum] of Object.entries({ centred, raw })) {
    const text = spectrumText(spectrum)
    if (text) rows.push([name, text])
  }
  if (twoNn.dimension !== null) rows.push(['dimension', `${figure(twoNn.dimension)} (TwoNN, descriptive)`])
  for (const [name, why] of Object.entries(missing)) rows.push(['not defined', `${name}: ${why}`])
  return rows
}

/** A figure that is null is left out: `missing` says why. */
function spectrumText(spectrum: Spectrum): string {
  const { vonNeumannBits, renyi2Bits, rankMe, participationRatio, codingRateBits } = spectrum
  const parts: [string, number | null, string][] = [
    ['von Neumann', vonNeumannBits, ' bits'],
    ['Rényi-2', renyi2Bits, ' bits'],
    ['RankMe', rankMe, ''],
    ['participation ratio', participationRatio, ''],
    ['coding rate', codingRateBits, ' bits'],
  ]
  return parts
    .flatMap(([name, value, unit]) => (value === null ? [] : [`${name} ${figure(value)}${unit}`]))
    .join(', ')
}

/** What is said of a group. */
type Group = SweepEntropyReport['groups'][number]

/** Pairs that are shown. */
const SHOWN = 8

function dependencies({ pairs }: EntropyReport): string[] {
  if (!pairs?.strongest.length) return []
  const shown = pairs.strongest.slice(0, SHOWN)
  return [
    'strongest dependencies',
    ...table(
      shown.map(({ features: [i, j], phi, mutualInformationBits, both }): [string, string] => [
        `${i} and ${j}`,
        `φ ${phi.toFixed(3)}, ${figure(mutualInformationBits)} bits in common, both on in ${plural(both, 'row')}`,
      ]),
    ),
  ]
}

/** A line for each group. */
export function groupLines({ by, groups = [] }: Pick<EntropyReport, 'by'> & { groups?: Group[] }): string[] {
  if (!groups.length) return []
  return [
    `by ${by}`,
    ...table(
      groups.map((group): [string, string] => [
        String(group.value),
        `${figure(group.interval?.estimate ?? group.estimates.jackknife)} bits` +
          (group.interval ? ` (${figure(group.interval.lower)} to ${figure(group.interval.upper)})` : '') +
          `, density ${percent(group.density)}, ${plural(group.rows, 'row')}${beside(group)}`,
      ]),
    ),
  ]
}

/** What was asked for beside the sum over features. */
function beside({ joint, subset, yardsticks }: Group): string {
  const gaussian = yardsticks?.gaussian
  return [
    joint ? `, whole codes between ${figure(joint.lowerBits)} and ${figure(joint.upperBits)}` : '',
    subset ? `, subset ${figure(subset.plugIn)}` : '',
    typeof gaussian?.bits === 'number' ? `, a Gaussian ${figure(gaussian.bits)}` : '',
  ].join('')
}

/** Entropy by the models of a sweep: a line for each. */
export function sweepLines(report: SweepEntropyReport): string[] {
  const { notDone } = report
  return [
    ...groupLines(report),
    ...(notDone.length ? [`left out, not trained to the end: ${notDone.join(', ')}`] : []),
  ]
}

/** 2, 3, 4, 7 as `2–4, 7`. */
function runs(numbers: number[]): string {
  const all: [from: number, to: number][] = []
  for (const number of numbers) {
    const last = all.at(-1)
    if (last && number === last[1] + 1) last[1] = number
    else all.push([number, number])
  }
  return all.map(([from, to]) => (from === to ? count(from) : `${count(from)}–${count(to)}`)).join(', ')
}

const signed = (bits: number) => `${bits < 0 ? '−' : '+'}${figure(Math.abs(bits))}`

/** 0.00034 as `0.034 %`. */
const share = (fraction: number) => `${Number((100 * fraction).toPrecision(fraction > 0.9 ? 4 : 2))} %`
