import type { Command } from 'commander'
import { BinaryAutoencoder } from '../index.js'
import { type Measuring, measuring, overwrite as overwriting } from './options.js'
import type { Run } from './output.js'
import { bitsOnly, count, leftOut, plural } from './text.js'

interface Options extends Measuring {
  out: string
  overwrite?: boolean
}

export function encode(program: Command, run: Run): Command {
  return measuring(program, 'encode')
    .description('encode hidden states to bits, into a codes file')
    .requiredOption(
      '--out <file>',
      'codes file to write: safetensors, eight bits to a byte, least significant first',
    )
    .addOption(overwriting('a file'))
    .action(
      run(async ({ signal, progress, result }, dir: string, data: string[], options: Options) => {
        const { out, overwrite, ...chosen } = options
        using model = await BinaryAutoencoder.load(dir, { signal })
        const done = await model.encodeToFile(data, out, {
          signal,
          ...chosen,
          overwrite,
          model: dir,
          onProgress: progress.rows,
        })
        result(done, [
          `${plural(done.rows, 'row')} of ${count(done.dSae)} bits written to ${done.out}`,
          ...leftOut(done),
          ...bitsOnly(model),
        ])
      }),
    )
}
