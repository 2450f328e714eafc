import type { BinaryAutoencoder, Sparsity } from '../index.js'

/** 12345 as `12,345`. */
export const count = (value: number): string => Math.round(value).toLocaleString('en-US')

/** A figure that is not a count: enough digits to compare two of them. */
export const figure = (value: number): string =>
  Math.abs(value) >= 1000 ? count(value) : String(Number(value.toPrecision(3)))

/** 0.1234 as `12.3 %`. */
export const percent = (value: number): string =>
  `${Math.abs(value) < 100 ? (100 * value).toFixed(1).replace(/^-0\.0$/, '0.0') : (100 * value).toPrecision(3)} %`

/** A share of the variance explained, which rows that are all alike do not have. */
export const explained = (share: number): string =>
  Number.isNaN(share) ? 'not defined: the rows are all alike' : `${percent(share)} of the variance explained`

/** A time in seconds as `45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`. */
export function duration(seconds: number): string {
  const [minutes, hours, days] = [seconds / 60, seconds / 3600, seconds / 86_400].map(Math.floor) as [
    number,
    number,
    number,
  ]
  if (minutes < 1) return `${Math.ceil(seconds)} s`
  if (hours < 1) return `${minutes} min`
  if (days < 1) return `${hours} h ${minutes % 60} min`
  return `${days} d ${hours % 24} h`
}

/** `1 row`, `2 rows`. */
export const plural = (number: number, noun: string): string =>
  `${count(number)} ${noun}${number === 1 ? '' : 's'}`

/** An argument as a shell takes it. */
export const quoted = (argument: string): string =>
  /^[\w./:@%+=,-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", "'\\''")}'`

/** Says what was left out, where anything was. */
export function leftOut({
  filteredRows = 0,
  invalidRows = 0,
}: {
  filteredRows?: number
  invalidRows?: number
}): string[] {
  const lines: string[] = []
  if (filteredRows > 0) lines.push(`left out by --where: ${plural(filteredRows, 'row')}`)
  if (invalidRows > 0) lines.push(`left out because a value is not finite: ${plural(invalidRows, 'row')}`)
  return lines
}

/** Labels and what they label, in two columns. */
export function table(rows: [label: string, text: string][]): string[] {
  const width = Math.max(...rows.map(([label]) => label.length))
  return rows.map(([label, text]) => `  ${label.padEnd(width)}  ${text}`)
}

/** Rows of cells under each other: the first of each to the left, the others to the right. */
export function columns(rows: string[][]): string[] {
  const widths = (rows[0] ?? []).map((_, at) => Math.max(...rows.map(row => (row[at] ?? '').length)))
  const padded = (text: string, at: number) => {
    const width = widths[at] ?? 0
    return at === 0 ? text.padEnd(width) : text.padStart(width)
  }
  return rows.map(row => `  ${row.map(padded).join('  ').trimEnd()}`)
}

/** The figures that every count of codes gives, in plain words. */
export function sparsityRows(figures: Omit<Sparsity, 'rows'>, features: number): [string, string][] {
  const of = (fraction: number) => `${count(fraction * features)} (${percent(fraction)})`
  return [
    [
      'on in a row',
      `${figure(figures.l0)} of ${count(features)} features (density ${percent(figures.density)})`,
    ],
    [
      'features',
      `${of(figures.deadFraction)} dead, ${of(figures.alwaysOnFraction)} always on, ` +
        `${of(figures.denseFraction)} dense (on in more than half of the rows)`,
    ],
  ]
}

/** What has to be known of codes that are no bits, where only bits are counted or kept. */
export const bitsOnly = ({ config: { architecture } }: BinaryAutoencoder): string[] =>
  /^bae(_|$)/.test(architecture)
    ? []
    : [
        `Codes of ${architecture} models hold values; this is of which features are on. \`bae evaluate\` says what the values cost.`,
      ]

/** Where something ran, and why not on a GPU if one was looked for. */
export function place(on: {
  device: string
  adapter: string | null
  reason: string | null
  threads: number
}): string {
  if (on.adapter !== null) return `${on.device} ${on.adapter}`
  return `${on.device}, ${plural(on.threads, 'thread')}${on.reason === null ? '' : ` (${on.reason})`}`
}

/** A number of bytes, in the largest unit that leaves it above 1. */
export function bytes(count: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB']
  const power = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, count)) / 10)))
  return `${figure(count / 1024 ** power)} ${units[power]}`
}
