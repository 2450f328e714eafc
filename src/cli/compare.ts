import { type Command, Option } from 'commander'
import {
  BinaryAutoencoder,
  type Comparison,
  compare as compareModels,
  type FeatureClass,
  type FractionRange,
  type Likeness,
  type MatchedFigures,
  type Stability,
  stability,
} from '../index.js'
import { choosing, DATA, device, type Measuring, MODEL, number, threads } from './options.js'
import { type Run, UsageError } from './output.js'
import { count, figure, leftOut, percent, plural, table } from './text.js'

interface Options extends Measuring {
  data?: string[]
  cosineThreshold?: number
  phiThreshold?: number
}

/** Examples of each kind that the text shows. */
const SHOWN = 3

const CLASSES: FeatureClass[] = ['shared', 'split', 'merged', 'missing', 'constant']

export function compare(program: Command, run: Run): Command {
  const command = program
    .command('compare')
    .description('which features two models share, by decoder and by code; how stable they are over more')
    .argument('<models...>', `two models or more, each a ${MODEL}`)
    .option('--data <data...>', `${DATA}; without it, models are compared by decoder alone`)
    .addOption(threshold('cosine', 'cosine of their decoder rows', 0.7))
    .addOption(threshold('phi', 'φ coefficient of their codes', 0.5))
  for (const option of [...choosing(), device('cpu'), threads()]) command.addOption(option)
  return command.action(
    run(async ({ signal, progress, result }, dirs: string[], { data, ...chosen }: Options) => {
      if (dirs.length < 2) throw new UsageError('two models at least can be compared: name another')
      for (const name of ['where', 'skipInvalid', 'phiThreshold'] as const) {
        if (data === undefined && chosen[name] !== undefined) {
          throw new UsageError(`--${name.replace(/[A-Z]/g, '-$&').toLowerCase()} is for codes: give --data`)
        }
      }
      const comparisons: (Comparison & { a: string; b: string })[] = []
      for (const [at, a] of dirs.entries()) {
        for (const b of dirs.slice(at + 1)) {
          using one = await BinaryAutoencoder.load(a, { signal })
          using other = await BinaryAutoencoder.load(b, { signal })
          if (dirs.length > 2) progress.note(`${a} and ${b}`)
          const found = await compareModels(one, other, {
            signal,
            ...chosen,
            data,
            onProgress: progress.rows,
          })
          comparisons.push({ a, b, ...found })
        }
      }
      const over = dirs.length > 2 ? stability(comparisons) : null
      const lines = comparisons.flatMap(each => [...comparisonLines(each), ''])
      result(
        { models: dirs, comparisons, stability: over },
        over ? [...lines, ...stabilityLines(over, dirs.length)] : lines.slice(0, -1),
      )
    }),
  )
}

function threshold(name: string, of: string, usual: number): Option {
  return new Option(
    `--${name}-threshold <number>`,
    `from which ${of} on features are alike (default: ${usual})`,
  ).argParser(number({ atLeast: 0.01, atMost: 1 }))
}

function comparisonLines(found: Comparison & { a: string; b: string }): string[] {
  const { a, b, rows, decoder, codes, matchedByBoth } = found
  return [
    `A: ${a}, ${plural(decoder.a.classes.length, 'feature')}`,
    `B: ${b}, ${plural(decoder.b.classes.length, 'feature')}`,
    rows === null ? 'No data given (--data): compared by decoder alone.' : `Codes of ${plural(rows, 'row')}.`,
    ...leftOut(found),
    `By decoder (cosine of decoder rows, alike from ${decoder.threshold} on):`,
    ...likenessLines(decoder),
    ...(codes ? [`By code (φ, alike from ${codes.threshold} on):`, ...likenessLines(codes)] : []),
    ...(matchedByBoth === null ? [] : [`Matched by both: ${plural(matchedByBoth, 'pair')}.`]),
  ]
}

function likenessLines(found: Likeness): string[] {
  const chance = (of: (figures: MatchedFigures) => string) => `${of(found)} (by chance ${of(found.chance)})`
  const classes = (side: 'a' | 'b') =>
    CLASSES.filter(name => name !== 'constant' || found[side].constant > 0)
      .map(name => `${count(found[side][name])} ${name}`)
      .join(', ')
  const pairs = found.pairs.slice(0, SHOWN).map(pairText)
  const families = found.families.slice(0, SHOWN).map(({ a, b }) => `A ${a.join(', ')} – B ${b.join(', ')}`)
  return table([
    [
      'matched one to one',
      `${plural(found.matched, 'pair')}, ${chance(each => share(each.matchedFraction))}`,
    ],
    ['mean likeness of these', chance(each => shown(each.meanMatched))],
    ['mean likeness to the nearest', chance(({ meanNearest: [a, b] }) => `A ${shown(a)}, B ${shown(b)}`)],
    ['A', classes('a')],
    ['B', classes('b')],
    ...(pairs.length ? [['most alike', pairs.join('; ')] satisfies [string, string]] : []),
    ...(families.length ? [['split or merged', families.join('; ')] satisfies [string, string]] : []),
  ])
}

function pairText({ a, b, cosine, phi }: Likeness['pairs'][number]): string {
  const codes = phi === null ? '' : `, φ ${figure(phi)}`
  return `A ${a} – B ${b} (cosine ${figure(cosine)}${codes})`
}

function stabilityLines({ pairs, decoder, codes }: Stability, models: number): string[] {
  const text = (of: FractionRange & { chance: FractionRange }) =>
    `${share(of.mean)}, from ${share(of.lowest)} to ${share(of.highest)} (by chance ${share(of.chance.mean)})`
  return [
    `Stability: the share of features that are matched, over ${plural(pairs, 'pair')} of ${models} models`,
    ...table([
      ['by decoder', text(decoder)],
      ...(codes ? [['by code', text(codes)] satisfies [string, string]] : []),
    ]),
  ]
}

const share = (fraction: number | null): string => (fraction === null ? 'none' : percent(fraction))

const shown = (value: number | null): string => (value === null ? 'none' : figure(value))
