import { type Command, Option } from 'commander'
import {
  synthetic as measure,
  type SyntheticReport,
  type SyntheticSettings,
  type TrainEvent,
} from '../index.js'
import { integer, number } from './options.js'
import type { Run } from './output.js'
import { count, figure, percent, place, plural, table } from './text.js'
import { SETTINGS } from './train.js'

type Options = Omit<SyntheticSettings, 'learningRate'> & { lr?: number }

const DRAWN = [
  new Option('--kind <name>', 'how the bits depend on one another (default: independent)').choices([
    'independent',
    'pairs',
    'sparse',
    'common-cause',
    'markov',
  ]),
  new Option('--rank <r>', 'bits, and directions that they switch (default: 4)').argParser(
    integer({ above: 0 }),
  ),
  new Option('--d-in <n>', 'width of a hidden state (default: 64)').argParser(integer({ above: 0 })),
  new Option('--rows <n>', 'hidden states (default: 5120)').argParser(integer({ above: 0 })),
  new Option(
    '--noise <x>',
    'standard deviation of the noise on each value; directions have length 1 (default: 0)',
  ).argParser(number({ atLeast: 0 })),
  new Option(
    '--directions <how>',
    'whether directions lie at right angles or at random (default: orthogonal)',
  ).choices(['orthogonal', 'random']),
  new Option('--preset <name>', 'the recipe of the training (default: minimal)').choices([
    'default',
    'minimal',
    'reference',
  ]),
  new Option('--out <dir>', 'folder to save the model to'),
]

/** Those of a training's options that a benchmark needs. */
const TRAINING = [
  '--overwrite',
  '--expansion',
  '--d-sae',
  '--epochs',
  '--steps',
  '--batch-size',
  '--lr',
  '--entropy-weight',
  '--covariance-weight',
  '--validation-fraction',
  '--seed',
  '--device',
  '--precision',
  '--threads',
]

export function synthetic(program: Command, run: Run): Command {
  const command = program
    .command('synthetic')
    .description('train on hidden states whose entropy is known, and say how near the code comes')
  const training = SETTINGS.filter(({ long }) => TRAINING.includes(long ?? ''))
  for (const option of [...DRAWN, ...training]) command.addOption(option)
  return command
    .addHelpText(
      'after',
      '\nHidden states are sums of random directions switched by bits. pairs, common-cause and markov flip a bit with\n' +
        'probability .1, sparse bits are on with probability .05; all others are fair. Entropies are in bits a row.',
    )
    .action(
      run(async ({ signal, progress, result }, { lr, ...settings }: Options) => {
        const report = await measure({
          ...settings,
          ...(lr === undefined ? {} : { learningRate: lr }),
          signal,
          onEvent: (event: TrainEvent) => {
            if (event.type === 'warning') progress.note(`warning: ${event.message}`)
            if (event.type !== 'step') return
            progress.update(event.step, event.steps, `epoch ${event.epoch} of ${event.epochs}`)
          },
        })
        progress.stop()
        result(report, summary(report))
      }),
    )
}

function summary(report: SyntheticReport): string[] {
  const { recovery, training } = report
  const low = report.plugInTrueBits < 0.95 * report.trueBits
  return [
    `Trained for ${plural(training.steps, 'step')} in ${figure(training.seconds)} s on ${place({ ...training, reason: null })}.`,
    ...table([
      [
        'truth',
        `${figure(report.trueBits)} bits jointly, ${figure(report.trueMarginalBits)} summed over the bits`,
      ],
      ['code', `${figure(report.entropyBits)} bits summed over ${count(report.liveFeatures)} live features`],
      ...jointRows(report),
      [
        'joint, plug-in',
        `${figure(report.patterns.plugIn)} bits; of the true bits on these rows ${figure(report.plugInTrueBits)}` +
          (low ? ': too few rows for so many bits' : ''),
      ],
      [
        'reconstruction',
        `${percent(1 - report.fvu)} of the variance explained (FVU ${figure(report.fvu)}); ` +
          `${percent(report.noiseFraction)} is noise`,
      ],
      [
        'recovery',
        `F1 ${figure(recovery.f1)}, MCC ${figure(recovery.mcc)} of the bits; |cosine| ${figure(recovery.cosine)} of the directions`,
      ],
    ]),
  ]
}

function jointRows({ jointBits, joint, patterns }: SyntheticReport): [string, string][] {
  if (jointBits === null) return []
  const how =
    jointBits === patterns.nsb
      ? 'NSB'
      : jointBits === patterns.chaoShen
        ? 'Chao and Shen'
        : 'held-out tree of features'
  const between = joint ? `; between ${figure(joint.lowerBits)} and ${figure(joint.upperBits)}` : ''
  return [['joint, estimated', `${figure(jointBits)} bits (${how})${between}`]]
}
