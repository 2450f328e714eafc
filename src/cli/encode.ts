import type { Command } from 'commander'
import { BinaryAutoencoder } from '../index.js'
import { measuring, overwrite } from './options.js'
import type { Run } from './output.js'
import { count, plural } from './text.js'

interface Options {
  out: string
  overwrite?: boolean
  device?: string
  threads?: number
}

export function encode(program: Command, run: Run): Command {
  return measuring(program, 'encode')
    .description('encode hidden states to bits, into a codes file')
    .requiredOption(
      '--out <file>',
      'codes file to write: safetensors, eight bits to a byte, least significant first',
    )
    .addOption(overwrite('a file'))
    .action(
      run(async ({ signal, progress, result }, dir: string, data: string[], options: Options) => {
        using model = await BinaryAutoencoder.load(dir, { signal })
        const done = await model.encodeToFile(data, options.out, {
          signal,
          device: options.device,
          threads: options.threads,
          overwrite: options.overwrite,
          model: dir,
          onProgress: progress.rows,
        })
        result(done, [`${plural(done.rows, 'row')} of ${count(done.dSae)} bits written to ${done.out}`])
      }),
    )
}
