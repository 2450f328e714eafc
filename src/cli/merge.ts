import { realpathSync } from 'node:fs'
import type { Command } from 'commander'
import { CodeStatistics, checkOutputFile } from '../index.js'
import { entropyLines } from './entropy-text.js'
import { overwrite as overwriting } from './options.js'
import { type Run, UsageError } from './output.js'

interface Options {
  out?: string
  overwrite?: boolean
}

export function merge(program: Command, run: Run): Command {
  return program
    .command('merge')
    .argument('<counts...>', 'files that `bae entropy --out` wrote, in any order')
    .description('add counts of codes that were made apart, and say what they say together')
    .option('--out <file>', 'keep the counts in a file (safetensors)')
    .addOption(overwriting('a file'))
    .action(
      run(async ({ signal, progress, result }, files: string[], { out, overwrite }: Options) => {
        const [first, ...others] = files
        if (first === undefined) throw new UsageError('name at least one file of counts')
        checkTwice(files)
        if (out !== undefined) await checkOutputFile(out, { overwrite })
        using all = await CodeStatistics.load(first, { signal })
        for (const [index, file] of others.entries()) {
          using part = await CodeStatistics.load(file, { signal })
          try {
            await all.merge(part, { signal })
          } catch (error) {
            if (error instanceof Error) error.message = `${file}: ${error.message}`
            throw error
          }
          progress.update(index + 2, files.length, `${index + 2} of ${files.length} files`)
        }
        if (out !== undefined) await all.save(out, { signal, overwrite })
        const report = await all.report({ signal })
        result(report, [...entropyLines(report), ...(out === undefined ? [] : [`The counts are in ${out}.`])])
      }),
    )
}

/** Counts of a whole do not know what they are of: the same file twice would count its rows twice. */
function checkTwice(files: string[]): void {
  const seen = new Set<string>()
  for (const file of files) {
    let path: string
    try {
      path = realpathSync(file)
    } catch {
      // whoever reads it says what is wrong
      continue
    }
    if (seen.has(path)) throw new UsageError(`${file} is named twice: its rows would be counted twice`)
    seen.add(path)
  }
}
