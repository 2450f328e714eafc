import { type Command, Option } from 'commander'
import {
  BinaryAutoencoder,
  type Probe,
  type ProbeReport,
  type ProbeScore,
  type Probes,
  probesOverModels,
  type RowsProgress,
} from '../index.js'
import { integer, type Measuring, measuring } from './options.js'
import type { Run } from './output.js'
import { count, leftOut, percent, plural } from './text.js'

interface Options extends Measuring {
  label: string
  rows?: number
  splits?: number
  seed?: number
  reseeded?: string[]
}

export function probe(program: Command, run: Run): Command {
  return measuring(program, 'probe')
    .description(
      'how well a label can be read off few features, off all, and off the hidden states themselves',
    )
    .addOption(
      new Option(
        '--label <column>',
        'what to read off: a column of the data, or for all rows in order FILE.jsonl#FIELD, FILE.safetensors#NAME or FILE.npy',
      ).makeOptionMandatory(),
    )
    .addOption(
      new Option('--rows <n>', 'rows drawn, at most (default: 4096)').argParser(
        integer({ above: 0, atMost: 65_536 }),
      ),
    )
    .addOption(
      new Option('--splits <n>', 'random divisions into training and test rows (default: 5)').argParser(
        integer({ above: 0, atMost: 100 }),
      ),
    )
    .addOption(
      new Option('--seed <n>', 'decides rows, splits and controls (default: 0)').argParser(
        integer({ atLeast: 0 }),
      ),
    )
    .addOption(
      new Option(
        '--reseeded <model>',
        'another model to probe in the same way, as one trained with another seed, for the deviation over models; may be given several times',
      ).argParser((model: string, others: string[] | undefined) => [...(others ?? []), model]),
    )
    .action(
      run(async ({ signal, progress, result }, dir: string, data: string[], options: Options) => {
        const { reseeded = [], ...chosen } = options
        const reports: ProbeReport[] = []
        // most of it is fitting, which is counted as if rows were read again
        const onProgress = ({ rows, total }: RowsProgress) =>
          progress.update(rows, total, 'reading and fitting')
        for (const each of [dir, ...reseeded]) {
          using model = await BinaryAutoencoder.load(each, { signal })
          reports.push(await model.probe(data, { signal, ...chosen, onProgress }))
        }
        const [report] = reports as [ProbeReport]
        const models = reports.map(({ mean }, at) => ({ model: [dir, ...reseeded][at], mean }))
        const overModels = reseeded.length > 0 ? { models, mean: probesOverModels(reports) } : undefined
        result({ ...report, overModels }, [
          ...heading(report),
          ...leftOut(report),
          '',
          ...scores(about(report), report.mean),
          ...(overModels
            ? ['', ...scores(`mean and deviation over ${reports.length} models`, overModels.mean)]
            : []),
          '',
          ...classes(report),
        ])
      }),
    )
}

function heading(report: ProbeReport): string[] {
  const { rows, labelledRows, unlabelledRows, splits, testFraction, splitBy } = report
  const drawn = labelledRows > rows ? `, drawn from ${count(labelledRows)}` : ''
  const none = unlabelledRows > 0 ? `; ${plural(unlabelledRows, 'row')} without a label` : ''
  const whole = splitBy === 'sequence' ? ' of whole sequences' : ''
  const small = report.leftOut.map(({ value, rows }) => `${value} (${rows})`)
  return [
    `${report.label}: ${plural(rows, 'row')}${drawn}${none}; ` +
      `${plural(splits, 'random split')}${whole}, ${percent(testFraction)} of the rows to test on`,
    ...(small.length > 0 ? [`too few rows to be probed: ${small.join(', ')}`] : []),
  ]
}

const about = ({ classes: [only, ...more] }: ProbeReport) =>
  more.length > 0
    ? `mean over ${more.length + 1} classes, each against the others`
    : `${only?.value} against the other`

/** Each probe beside its controls. */
function scores(what: string, probes: Probes): string[] {
  const row = (name: string, probe: Probe, random?: ProbeScore) => [
    name,
    share(probe.balancedAccuracy),
    share(probe.auc),
    share(probe.shuffled.auc),
    random ? share(random.auc) : '',
  ]
  return columns([
    [what, 'balanced accuracy', 'AUC', 'AUC, shuffled labels', 'AUC, random features'],
    ...probes.sparse.map(probe => row(plural(probe.k, 'feature'), probe, probe.random)),
    row('all features', probes.dense),
    row('hidden states', probes.hiddenStates),
    row('difference of means', probes.differenceOfMeans),
  ])
}

/** A line for each class: its AUCs, each beside that of shuffled labels. */
function classes(report: ProbeReport): string[] {
  const auc = (probe: Probe) => `${probe.auc.mean.toFixed(3)} (${probe.shuffled.auc.mean.toFixed(3)})`
  const best = ({ sparse: [one] }: Probes) => {
    const [chosen] = one?.features ?? []
    return chosen ? `${chosen.feature} (${chosen.splits}/${report.splits})` : 'none'
  }
  return columns([
    [
      'AUC (shuffled labels)',
      'rows',
      'feature (splits)',
      ...report.mean.sparse.map(({ k }) => plural(k, 'feature')),
      'all features',
      'hidden states',
      'difference of means',
    ],
    ...report.classes.map(each => [
      String(each.value),
      count(each.rows),
      best(each),
      ...each.sparse.map(auc),
      auc(each.dense),
      auc(each.hiddenStates),
      auc(each.differenceOfMeans),
    ]),
  ])
}

const share = ({ mean, deviation }: { mean: number; deviation: number | null }) =>
  deviation === null ? mean.toFixed(3) : `${mean.toFixed(3)} ± ${deviation.toFixed(3)}`

/** The first column to the left, the others to the right. */
function columns(rows: string[][]): string[] {
  const widths = (rows[0] ?? []).map((_, at) => Math.max(...rows.map(row => row[at]?.length ?? 0)))
  const padded = (text: string, at: number) =>
    at === 0 ? text.padEnd(widths[at] ?? 0) : text.padStart(widths[at] ?? 0)
  return rows.map(row => `  ${row.map(padded).join('  ').trimEnd()}`)
}
