import { type Command, InvalidArgumentError, Option } from 'commander'
import {
  type BaeErrorCode,
  type SweepEvent,
  type SweepOptions,
  type SweepReport,
  type SweepRun,
  sweep as start,
} from '../index.js'
import { DATA, overwrite } from './options.js'
import { type Context, Incomplete, Interruption, type Run, UsageError } from './output.js'
import { figure, percent, plural, quoted } from './text.js'
import { config, SETTINGS, settingsOf, type Options as TrainingOptions } from './train.js'

type Options = TrainingOptions & {
  by?: 'file' | 'layer'
  vary?: Vary
}

type Vary = Record<string, (number | string | boolean)[]>

/** Options of training that say where results go and which rows are taken: they cannot vary. */
const FIXED = ['out', 'overwrite', 'resume', 'where', 'skipInvalid']

const OWN = [
  new Option(
    '--out <dir>',
    'folder of the sweep: a folder for each model, and sweep.json, the table (needed)',
  ),
  new Option(
    '--by <what>',
    'one model for each: file, or layer (of [tokens, layers, d_in], or by the column `layer`)',
  ).choices(['file', 'layer']),
  new Option(
    '--vary <setting=values>',
    'one model for each value of a setting, as entropy-weight=3e-4,6e-4; given several times, for each combination',
  ).argParser(varied),
  overwrite('a sweep'),
  new Option(
    '--resume',
    'go on with the sweep in the folder: what is finished is kept, the model that was interrupted goes on from its last checkpoint',
  ),
]

export function sweep(program: Command, run: Run): Command {
  const own = OWN.map(option => option.attributeName())
  const command = program
    .command('sweep')
    .description('train one model for each file, layer or value of a setting, reading the data once')
    .argument('<data...>', DATA)
  const shared = SETTINGS.filter(option => !own.includes(option.attributeName()))
  for (const option of [...OWN, config(), ...shared]) command.addOption(option)
  return command
    .addHelpText(
      'after',
      '\nThe other options are those of `bae train`, for all models alike. The models are those that trainings of their own would give, to the ' +
        'same bits.\nFiles of up to --memory bytes are kept in memory from one model to the next, beside what each training takes.\n' +
        'A training that fails does not stop the others: the exit status is 1 then. After Ctrl-C, --resume goes on.',
    )
    .action(
      run(async (context, data: string[], options: Options) => {
        const { by, vary = {}, ...rest } = options
        const settings = await settingsOf(rest, command.getOptionValueSource('shuffle') === 'cli')
        const { out, ...given } = settings
        if (!out) throw new UsageError('--out DIR is needed: the folder of the sweep')
        if (by === undefined && Object.keys(vary).length === 0) {
          throw new UsageError(
            '--by or --vary is needed: what the models are to differ in; for one model there is `bae train`',
          )
        }
        await follow(context, data, { ...given, out, by, vary: vary as SweepOptions['vary'] })
      }),
    )
}

/** Trains, and tells about it. */
async function follow(
  { signal, progress, result }: Context,
  data: string[],
  options: SweepOptions,
): Promise<void> {
  let ended = 0
  const onEvent = (event: SweepEvent) => {
    const which = `model ${event.index + 1} of ${event.total}, ${event.label}`
    if (event.type === 'run') {
      if (event.status === 'running') progress.note(which)
      else if (event.status === 'done') ended++
      else if (event.status === 'failed') progress.note(`${which}: failed`)
    } else if (event.event.type === 'step') {
      const { step, steps, epoch, epochs } = event.event
      progress.update(step, steps, `${which}: epoch ${epoch} of ${epochs}`)
    } else if (event.event.type === 'warning') {
      progress.note(`warning, ${which}: ${event.event.message}`)
    }
  }
  let report: SweepReport
  try {
    report = await start(data, { ...options, signal, onEvent })
  } catch (error) {
    if (signal.reason instanceof Interruption && error === signal.reason) {
      signal.reason.message = `interrupted after ${plural(ended, 'model')}; what is done is in ${options.out}, and --resume goes on`
      signal.reason.details = { done: ended, out: options.out }
    }
    throw error
  }
  progress.stop()
  result(report, [
    ...figures(report),
    ...ofValues([options.architecture, ...(options.vary?.architecture ?? [])]),
    '',
    `The models and their table, sweep.json, are in ${options.out}.`,
    `Next:\n  npx bae entropy ${quoted(options.out)}`,
  ])
  const failed = report.runs.filter(({ status }) => status === 'failed')
  if (failed.length === 0) return
  const which = failed.map(({ label, error }) => `${label} (${error?.message})`).join('; ')
  const trained = plural(report.runs.length - failed.length, 'model')
  throw new Incomplete(
    failed[0]?.error?.code as BaeErrorCode,
    `${plural(failed.length, 'training')} failed, ${trained} trained: ${which}; --resume tries again`,
  )
}

/** The table: a model a line. */
function figures({ runs }: SweepReport): string[] {
  const lines = [
    ['model', 'FVU', 'entropy (bits)', 'density', 'dead', 'always on', 'seconds'],
    ...runs.map(cells),
  ]
  const widths = (lines[0] as string[]).map((_, at) => Math.max(...lines.map(line => line[at]?.length ?? 0)))
  return lines.map(([label = '', ...others]) =>
    [label.padEnd(widths[0] as number), ...others.map((cell, at) => cell.padStart(widths[at + 1] as number))]
      .join('  ')
      .trimEnd(),
  )
}

/** What the entropy is of, where codes hold values: it says nothing of these. */
function ofValues(architectures: unknown[]): string[] {
  const names = architectures.filter(name => typeof name === 'string' && !name.startsWith('bae'))
  if (names.length === 0) return []
  return [
    `Codes of ${names.join(', ')} hold values; entropy is of which features are on. \`bae evaluate\` says what the values cost.`,
  ]
}

function cells({ label, status, validation, seconds }: SweepRun): string[] {
  if (status !== 'done') return [label, status]
  if (!validation) return [label, '', '', '', '', '', figure(seconds ?? 0)]
  const { fvu, entropyBits, density, deadFraction, alwaysOnFraction } = validation
  return [
    label,
    Number.isNaN(fvu) ? '–' : fvu.toFixed(3),
    figure(entropyBits),
    ...[density, deadFraction, alwaysOnFraction].map(percent),
    figure(seconds ?? 0),
  ]
}

/** `entropy-weight=3e-4,6e-4`, by the name that the command line or Node has for the setting. */
function varied(text: string, before: Vary = {}): Vary {
  const [name, values] = split(text)
  const option = SETTINGS.find(each =>
    [
      each.attributeName(),
      each.name(),
      ...(each.attributeName() === 'lr' ? ['learningRate', 'learning-rate'] : []),
    ]
      .concat(each.negate ? [each.attributeName()] : [])
      .includes(name),
  )
  if (!option || FIXED.includes(option.attributeName())) {
    const known = SETTINGS.map(each => each.name()).filter(each => !FIXED.map(hyphenated).includes(each))
    throw new InvalidArgumentError(
      `There is no setting ${name} that can vary; there are ${known.join(', ')}.`,
    )
  }
  const setting = option.attributeName() === 'lr' ? 'learningRate' : option.attributeName()
  if (before[setting]) throw new InvalidArgumentError(`${name} is given twice.`)
  const parsed = values.split(',').map(value => {
    try {
      return parsedValue(option, value)
    } catch (error) {
      throw new InvalidArgumentError(`${name}=${value}: ${(error as Error).message}`)
    }
  })
  return { ...before, [setting]: parsed }
}

function split(text: string): [name: string, values: string] {
  const at = text.indexOf('=')
  if (at > 0 && at < text.length - 1) return [text.slice(0, at), text.slice(at + 1)]
  throw new InvalidArgumentError('It must be a setting and its values, as entropy-weight=3e-4,6e-4.')
}

function parsedValue(option: Option, value: string): number | string | boolean {
  if (!option.required && !option.optional) {
    if (value === 'true' || value === 'false') return value === 'true'
    throw new InvalidArgumentError('It must be true or false.')
  }
  return option.parseArg ? option.parseArg<number | string>(value, '') : value
}

const hyphenated = (name: string) => name.replace(/[A-Z]/g, letter => `-${letter.toLowerCase()}`)
