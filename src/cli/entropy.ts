import { type Command, InvalidArgumentError } from 'commander'
import { BinaryAutoencoder, checkPlot, plotEntropy } from '../index.js'
import { type Measuring, measuring, overwrite as overwriting } from './options.js'
import type { Run } from './output.js'
import { figure, leftOut, plural, sparsityRows, table } from './text.js'

interface Options extends Measuring {
  plot?: string
  overwrite?: boolean
}

export function entropy(program: Command, run: Run): Command {
  return measuring(program, 'entropy')
    .description('entropy, in bits, and sparsity of the codes of hidden states, counted over all rows')
    .option(
      '--plot <file>',
      'draw the report: .svg, .png, or .html, which needs no network and shows figures under the pointer',
      picture,
    )
    .addOption(overwriting('a picture'))
    .action(
      run(async ({ signal, progress, result }, dir: string, data: string[], options: Options) => {
        const { plot, overwrite, ...chosen } = options
        // says no before all rows are read
        if (plot !== undefined) await checkPlot(plot, { overwrite })
        using model = await BinaryAutoencoder.load(dir, { signal })
        const report = await model.entropy(data, {
          signal,
          ...chosen,
          onProgress: progress.rows,
        })
        if (plot !== undefined) await plotEntropy(report, plot, { overwrite })
        result(report, [
          `${plural(report.rows, 'row')}, ${plural(report.features, 'feature')}`,
          ...leftOut(report),
          ...table([
            ['entropy', `${figure(report.entropyBits)} bits (sum over features of the marginal entropy)`],
            ...sparsityRows(report, report.features),
          ]),
          ...(plot === undefined ? [] : [`The picture is in ${plot}.`]),
        ])
      }),
    )
}

function picture(path: string): string {
  if (/\.(svg|png|html)$/i.test(path)) return path
  throw new InvalidArgumentError('Its name must end in .svg, .png or .html.')
}
