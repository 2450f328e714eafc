import { type Command, Option } from 'commander'
import {
  BinaryAutoencoder,
  type Evaluation,
  type EvaluationControl,
  type EvaluationFigures,
  type GroupBy,
  type Reconstruction,
} from '../index.js'
import { type Measuring, measuring, target } from './options.js'
import type { Run } from './output.js'
import { columns, count, figure, leftOut, percent, plural, sparsityRows, table } from './text.js'

interface Options extends Measuring {
  by?: GroupBy
  target?: string[]
}

export function evaluate(program: Command, run: Run): Command {
  return measuring(program, 'evaluate')
    .description('how well a model makes hidden states again, and how sparse its codes are, beside controls')
    .addOption(target())
    .addOption(
      new Option(
        '--by <column>',
        'figures for each group of rows too: by a column of the data, or by file; by layer also of [tokens, layers, d_in]',
      ).choices(['layer', 'position', 'group', 'sequence', 'token', 'file']),
    )
    .action(
      run(async ({ signal, progress, result }, dir: string, data: string[], chosen: Options) => {
        using model = await BinaryAutoencoder.load(dir, { signal })
        const report = await model.evaluate(data, {
          signal,
          ...chosen,
          onProgress: progress.rows,
        })
        result(report, [
          `${plural(report.rows, 'row')} of ${count(model.dIn)} values${chosen.target ? `, targets of ${count(model.dOut)}` : ''}, ${plural(model.dSae, 'feature')}`,
          ...leftOut(report),
          ...scores(report),
          ...table(sparsityRows(report, model.dSae)),
          ...notes(report),
          ...groupLines(report),
        ])
      }),
    )
}

type Column = Reconstruction & Pick<EvaluationControl, 'l0' | 'entropyBits' | 'rateBits'>

/** What scores are, in the order of the table. */
const SCORES: [label: string, score: keyof Column, shown: (value: number) => string][] = [
  ['explained variance', 'explainedVariance', percent],
  ['per row (legacy)', 'explainedVarianceLegacy', percent],
  ['unexplained (FVU)', 'fvu', figure],
  ['mean squared error', 'mse', figure],
  ['cosine', 'cosine', figure],
  ['relative bias', 'relativeBias', figure],
  ['features on (L0)', 'l0', figure],
  ['entropy, bits', 'entropyBits', figure],
  ['rate, bits', 'rateBits', figure],
]

const NAMES = {
  meanPrediction: 'mean',
  pca: 'PCA',
  shuffledCodes: 'shuffled',
  frozenEncoder: 'frozen encoder',
  frozenDecoder: 'frozen decoder',
} as const

/** Each score of the model beside those of its controls. */
function scores(report: EvaluationFigures): string[] {
  const { controls } = report
  const names = Object.keys(NAMES) as (keyof typeof NAMES)[]
  const shown = (figures: Column | null, score: keyof Column, as: (value: number) => string) => {
    const value = figures?.[score] ?? null
    return value === null || Number.isNaN(value) ? '–' : as(value)
  }
  return columns([
    [
      '',
      'model',
      ...names.map(name =>
        name === 'pca' && controls.pca ? `PCA (${count(controls.pca.rank)})` : NAMES[name],
      ),
    ],
    ...SCORES.map(([label, score, as]) => [
      label,
      shown(report, score, as),
      ...names.map(name => shown(controls[name], score, as)),
    ]),
  ])
}

/** What has to be known to read the table. */
function notes({ explainedVariance, controls, missing, rateStep }: Evaluation): string[] {
  const lines = controls.pca
    ? [`PCA: ${plural(controls.pca.rank, 'component')}, as many as features are on in a row`]
    : []
  if (Number.isNaN(explainedVariance))
    lines.push('the variance explained is not defined: the rows are all alike')
  for (const [name, why] of Object.entries(missing)) {
    lines.push(`no ${NAMES[name as keyof typeof NAMES]}: ${why}`)
  }
  for (const name of ['frozenEncoder', 'frozenDecoder'] as const) {
    const control = controls[name]
    if (!control) continue
    const { rows, steps, explainedVariance: flattered } = control.fitted
    lines.push(
      `${NAMES[name]}: ${steps === undefined ? 'its decoder fitted' : `its encoder trained in ${count(steps)} steps`} on ${plural(rows, 'row')}, ` +
        `measured on ${count(control.rows)} others` +
        (Number.isNaN(flattered) ? '' : ` (on those it was fitted to it explains ${percent(flattered)})`),
    )
  }
  if (rateStep)
    lines.push(
      `rate: values nearer to each other than ${figure(rateStep)} count as one, which may add 1 % to the error`,
    )
  return lines.map(line => `  ${line}`)
}

/** A line for each group: how much is explained, by the model and by its controls. */
function groupLines({ by, groups = [] }: Evaluation): string[] {
  if (by === undefined) return []
  const explained = (figures: Reconstruction | null) =>
    figures === null || Number.isNaN(figures.explainedVariance) ? '–' : percent(figures.explainedVariance)
  return [
    `by ${by}: the variance explained by the model, and by its controls`,
    ...columns([
      [by, 'rows', 'model', 'mean', 'PCA', 'shuffled', 'L0', 'rate, bits'],
      ...groups.map(({ value, controls, ...figures }) => [
        String(value),
        count(figures.rows),
        explained(figures),
        explained(controls.meanPrediction),
        explained(controls.pca),
        explained(controls.shuffledCodes),
        figure(figures.l0),
        figure(figures.rateBits),
      ]),
    ]),
  ]
}
