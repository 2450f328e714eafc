import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { type Command, InvalidArgumentError, Option } from 'commander'
import {
  BaeError,
  BinaryAutoencoder,
  checkOutputFile,
  checkPlot,
  pairBytes,
  plotEntropy,
  type StatisticsOptions,
  sweepEntropy,
} from '../index.js'
import { entropyLines, sweepLines } from './entropy-text.js'
import { DATA, type Measuring, MODEL, measuring, overwrite as overwriting } from './options.js'
import { type Context, Incomplete, type Run, UsageError } from './output.js'
import { bitsOnly, bytes, leftOut } from './text.js'

interface Options extends Measuring {
  yardsticks?: boolean
  by?: StatisticsOptions['by']
  pairs?: boolean
  subset?: number[]
  shard?: { shard: number; of: number }
  out?: string
  plot?: string
  overwrite?: boolean
}

export function entropy(program: Command, run: Run): Command {
  return measuring(program, 'entropy', {
    model: `${MODEL}, or of a sweep: then a line for each of its models`,
    data: `${DATA}; of a sweep's models each one's own, unless given`,
    optional: true,
  })
    .description('entropy, in bits, and sparsity of the codes of hidden states, counted over all rows')
    .addOption(
      new Option(
        '--by <column>',
        'figures for each group of rows too: by a column of the data, or by file; by layer also of [tokens, layers, d_in]',
      ).choices(['layer', 'position', 'group', 'sequence', 'token', 'file']),
    )
    .option(
      '--pairs',
      'count all pairs of features: the strongest dependencies, and bounds of the entropy of whole codes; takes 8 d_sae² bytes, with --by for each group',
    )
    .option(
      '--subset <features>',
      'entropy of these features taken together, as 3,17,42 (at most 20)',
      features,
    )
    .option(
      '--yardsticks',
      'lines to compare with: spectra of the hidden states, their intrinsic dimension, the bits a Gaussian needs at the same error',
    )
    .option('--shard <part>', 'count one part of the rows, as 3/16, to be merged by `bae merge`', part)
    .option('--out <file>', 'keep the counts in a file (safetensors), for `bae merge`')
    .option(
      '--plot <file>',
      'draw the report, as its name ends: .svg, .png, or .html, which needs no network and shows figures under the pointer',
      picture,
    )
    .addOption(overwriting('a file'))
    .action(
      run(async (context, dir: string, data: string[], options: Options) => {
        const { out, plot, overwrite } = options
        // says no before all rows are read
        if (plot !== undefined) await checkPlot(plot, { overwrite })
        if (out !== undefined) await checkOutputFile(out, { overwrite })
        if (out !== undefined && plot !== undefined && resolve(out) === resolve(plot)) {
          throw new UsageError(`--out and --plot are both ${out}: counts and picture need a file each`)
        }
        const { report, lines } = existsSync(join(dir, 'sweep.json'))
          ? await ofSweep(context, dir, data, options)
          : await ofModel(context, dir, data, options)
        if (plot === undefined) return context.result(report, lines)
        try {
          await plotEntropy(report, plot, { overwrite })
        } catch (error) {
          // what was counted is not lost with its picture
          context.result(report, lines)
          throw error instanceof BaeError
            ? new Incomplete(error.code, error.message, { cause: error })
            : error
        }
        context.result(report, [...lines, `The picture is in ${plot}.`])
      }),
    )
}

async function ofModel({ signal, progress }: Context, dir: string, data: string[], options: Options) {
  const { out, plot, overwrite, yardsticks = false, ...chosen } = options
  if (data.length === 0) throw new UsageError('missing required argument data: files of hidden states')
  if (yardsticks && chosen.shard) {
    throw new UsageError(
      '--yardsticks is of all rows and cannot be merged: leave out --shard, or measure it apart',
    )
  }
  using model = await BinaryAutoencoder.load(dir, { signal })
  if (chosen.pairs) {
    progress.note(`counts of all pairs take ${bytes(pairBytes(model.dSae))}${chosen.by ? ' a group' : ''}`)
  }
  const { by, shard, pairs, subset, ...rows } = chosen
  using counts = await model.statistics(data, { signal, ...chosen, onProgress: progress.rows })
  if (out !== undefined) await counts.save(out, { signal, overwrite })
  const report = {
    ...(await counts.report({ signal })),
    ...(yardsticks && {
      yardsticks: await model.yardsticks(data, { signal, ...rows, onProgress: progress.rows }),
    }),
  }
  const lines = [
    ...entropyLines(report),
    ...leftOut(report),
    ...bitsOnly(model),
    ...(out === undefined ? [] : [`The counts are in ${out}.`]),
  ]
  return { report, lines }
}

async function ofSweep({ signal, progress }: Context, dir: string, data: string[], options: Options) {
  const { by, out, plot, overwrite, shard, ...chosen } = options
  for (const [name, value] of Object.entries({ by, out, shard })) {
    if (value !== undefined)
      throw new UsageError(`--${name} is for one model; ${dir} is a sweep, one group for each of its models`)
  }
  const report = await sweepEntropy(dir, {
    signal,
    ...chosen,
    ...(data.length && { data }),
    onProgress: progress.rows,
  })
  return { report, lines: sweepLines(report) }
}

function features(text: string): number[] {
  const list = text.split(',').map(feature => (feature.trim() === '' ? Number.NaN : Number(feature)))
  if (list.every(feature => Number.isSafeInteger(feature) && feature >= 0)) return list
  throw new InvalidArgumentError('It must be features, numbered from 0, as 3,17,42.')
}

function part(text: string): { shard: number; of: number } {
  const [, shard, of] = /^(\d+)\/(\d+)$/.exec(text.trim())?.map(Number) ?? []
  if (shard && of && shard <= of) return { shard, of }
  throw new InvalidArgumentError('It must be a part of a whole, as 3/16: parts are numbered from 1.')
}

function picture(path: string): string {
  if (/\.(svg|png|html)$/i.test(path)) return path
  throw new InvalidArgumentError('Its name must end in .svg, .png or .html.')
}
