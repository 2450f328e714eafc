import { type Command, Option } from 'commander'
import {
  architectures,
  type BenchReport,
  type BenchSettings,
  bench as measure,
  type StepStages,
} from '../index.js'
import { device, integer, number, threads } from './options.js'
import type { Run } from './output.js'
import { count, figure, percent, place, table } from './text.js'

type Options = BenchSettings & { stages?: boolean }

const SETTINGS = [
  new Option('--architecture <name>', 'what is trained (default: bae)').choices(architectures()),
  new Option('--k <n>', 'features that are on in a row: topk and its kin (default: 32)').argParser(
    integer({ above: 0 }),
  ),
  new Option('--d-in <n>', 'width of a hidden state (default: 576)').argParser(integer({ above: 0 })),
  new Option('--d-sae <n>', 'features (default: 2304)').argParser(integer({ above: 0 })),
  new Option('--batch-size <rows>', 'rows a step (default: 512)').argParser(integer({ above: 0 })),
  new Option(
    '--density <x>',
    'share of bits that are on, or of pre-activations above 0 (default: 0.1)',
  ).argParser(number({ above: 0, below: 1 })),
  new Option('--live <x>', 'share of features that are ever on (default: 1)').argParser(
    number({ above: 0, atMost: 1 }),
  ),
  new Option('--steps <n>', 'steps to time (default: 10)').argParser(integer({ above: 0 })),
  new Option('--estimator <name>', 'gradient estimator (default: reference-sigmoid)').choices([
    'identity',
    'sigmoid',
    'rectangle',
    'reference-sigmoid',
    'squarewave',
  ]),
  new Option('--gradient-width <w>', 'width of the sigmoid and rectangle estimators').argParser(
    number({ above: 0 }),
  ),
  new Option('--clip-norm <x>', "largest norm of a step's gradient (default: none)").argParser(
    number({ above: 0 }),
  ),
  new Option('--precision <p>', 'precision of the products (default: f32)').choices(['f32', 'bf16', 'f16']),
  new Option('--encode-rows <n>', 'rows to encode after the steps').argParser(integer({ atLeast: 0 })),
  new Option('--seed <n>', 'whole number that decides hidden states and model').argParser(
    integer({ atLeast: 0 }),
  ),
  device('cpu'),
  threads(),
]

export function bench(program: Command, run: Run): Command {
  const command = program
    .command('bench')
    .description('time training steps on this machine, on random hidden states and codes of a given density')
    .option('--stages', 'show where the time of a step goes')
  for (const option of SETTINGS) command.addOption(option)
  return command.action(
    run(async ({ signal, progress, result }, { stages, ...settings }: Options) => {
      const report = await measure({
        ...settings,
        signal,
        onProgress: ({ steps, total }) => progress.update(steps, total, `${steps} of ${total} steps`),
      })
      result(report, [...summary(report), ...(stages ? table(stageRows(report)) : [])])
    }),
  )
}

const milliseconds = (seconds: number) => `${figure(seconds * 1000)} ms`

function summary(report: BenchReport): string[] {
  const sorted = [...report.seconds].sort((a, b) => a - b)
  const median = sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
  const [least, most] = [sorted[0] ?? Number.NaN, sorted.at(-1) ?? Number.NaN]
  const lines = [
    `A training step of ${count(report.batchSize)} rows, ${count(report.dIn)} values, ${count(report.dSae)} features: ` +
      `${milliseconds(median)} (median of ${sorted.length}, ${milliseconds(least)} to ${milliseconds(most)})`,
    `on ${place(report)}${report.adapter === null ? `, ${report.simd}` : ''}; density ${percent(report.density)}, ` +
      `${percent(report.live)} of the features live` +
      (report.open === null ? '' : `, ${percent(report.open)} of the entries pass gradients`),
  ]
  if (report.peak) {
    const { multiplyAdds, popcounts, floorSeconds } = report.peak
    lines.push(
      `Arithmetic alone would take ${milliseconds(floorSeconds)}: ${figure(multiplyAdds / 1e12)}e12 multiply-adds and ` +
        `${figure(popcounts / 1e12)}e12 popcounts a second; the step takes ${figure(median / floorSeconds)} times that`,
    )
  }
  if (report.encode) {
    const { rows, seconds } = report.encode
    lines.push(`Encoding: ${count(rows / seconds)} rows a second`)
  }
  return lines
}

function stageRows({ stages, seconds }: BenchReport): [string, string][] {
  const whole = seconds.reduce((sum, each) => sum + each, 0) / seconds.length
  const row = (name: string, value: number): [string, string] => [
    name,
    `${milliseconds(value)}  ${percent(value / whole)}`,
  ]
  const names = Object.keys(stages) as (keyof StepStages)[]
  const sum = names.reduce((sum, name) => sum + stages[name], 0)
  return [...names.map(name => row(name, stages[name])), row('all stages', sum), row('mean step', whole)]
}
