import { type Command, Option } from 'commander'
import { BinaryAutoencoder, type ModelFormat } from '../index.js'
import { MODEL, overwrite as overwriting } from './options.js'
import type { Run } from './output.js'
import { count } from './text.js'

const FORMATS = ['saelens', 'sparsify', 'dictionary_learning', 'published']

interface Options {
  to?: ModelFormat
  out: string
  overwrite?: boolean
}

export function convert(program: Command, run: Run): Command {
  return program
    .command('convert')
    .description("write a model of ours or another tool's as another tool reads it, to compute the same")
    .argument('<model>', MODEL)
    .addOption(new Option('--to <tool>', 'whose folder to write (default: our own)').choices(FORMATS))
    .requiredOption('--out <dir>', 'folder to write the model to')
    .addOption(overwriting('a model'))
    .action(
      run(async ({ signal, result }, dir: string, { to, out, overwrite }: Options) => {
        using model = await BinaryAutoencoder.load(dir, { signal })
        await model.save(out, { signal, overwrite, format: to })
        const { architecture } = model.config
        const { dIn, dSae } = model
        result({ model: out, format: to ?? null, architecture, dIn, dSae }, [
          `${architecture} model of ${count(dIn)} values and ${count(dSae)} features written to ${out}`,
        ])
      }),
    )
}
