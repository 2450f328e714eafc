import type { Command } from 'commander'
import { inspect as describe } from '../index.js'
import type { Run } from './output.js'
import { table } from './text.js'

export function inspect(program: Command, run: Run): Command {
  return program
    .command('inspect')
    .description('say what a file or folder is and what is in it, from its headers alone')
    .argument('<path>', 'a model folder, a codes file, or hidden states')
    .action(
      run(async ({ signal, result }, path: string) => {
        const description = await describe(path, { signal })
        result(description, [
          path,
          ...table(Object.entries(description).flatMap(([name, value]) => lines(name, value))),
        ])
      }),
    )
}

/** A field and what is below it, one line each. */
function lines(name: string, value: unknown): [string, string][] {
  if (typeof value !== 'object' || value === null) return [[name, String(value)]]
  const entries = Object.entries(value)
  if (Array.isArray(value) && value.every(each => typeof each !== 'object')) return [[name, value.join(', ')]]
  return entries.flatMap(([key, each]) =>
    lines(Array.isArray(value) ? `${name}[${key}]` : `${name}.${key}`, each),
  )
}
