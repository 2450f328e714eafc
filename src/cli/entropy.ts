import type { Command } from 'commander'
import { BinaryAutoencoder } from '../index.js'
import { type Measuring, measuring } from './options.js'
import type { Run } from './output.js'
import { figure, leftOut, plural, sparsityRows, table } from './text.js'

export function entropy(program: Command, run: Run): Command {
  return measuring(program, 'entropy')
    .description('entropy, in bits, and sparsity of the codes of hidden states, counted over all rows')
    .action(
      run(async ({ signal, progress, result }, dir: string, data: string[], chosen: Measuring) => {
        using model = await BinaryAutoencoder.load(dir, { signal })
        const report = await model.entropy(data, {
          signal,
          ...chosen,
          onProgress: progress.rows,
        })
        result(report, [
          `${plural(report.rows, 'row')}, ${plural(report.features, 'feature')}`,
          ...leftOut(report),
          ...table([
            ['entropy', `${figure(report.entropyBits)} bits (sum over features of the marginal entropy)`],
            ...sparsityRows(report, report.features),
          ]),
        ])
      }),
    )
}
