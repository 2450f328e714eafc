import type { Command } from 'commander'
import { BinaryAutoencoder } from '../index.js'
import { type Measuring, measuring, target } from './options.js'
import type { Run } from './output.js'
import { count, explained, figure, leftOut, plural, sparsityRows, table } from './text.js'

export function evaluate(program: Command, run: Run): Command {
  return measuring(program, 'evaluate')
    .description('how well a model makes hidden states again, and how sparse its codes are')
    .addOption(target())
    .action(
      run(
        async (
          { signal, progress, result },
          dir: string,
          data: string[],
          chosen: Measuring & { target?: string[] },
        ) => {
          using model = await BinaryAutoencoder.load(dir, { signal })
          const report = await model.evaluate(data, {
            signal,
            ...chosen,
            onProgress: progress.rows,
          })
          result(report, [
            `${plural(report.rows, 'row')} of ${count(model.dIn)} values${chosen.target ? `, targets of ${count(model.dOut)}` : ''}, ${plural(model.dSae, 'feature')}`,
            ...leftOut(report),
            ...table([
              [
                'reconstruction',
                `${explained(report.explainedVariance)} (mean squared error ${figure(report.mse)})`,
              ],
              ['entropy', `${figure(report.entropyBits)} bits`],
              ...sparsityRows(report, model.dSae),
            ]),
          ])
        },
      ),
    )
}
