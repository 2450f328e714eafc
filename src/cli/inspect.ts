import process from 'node:process'
import type { Command } from 'commander'
import { type CpuInfo, cpu, inspect as describe } from '../index.js'
import { type Run, UsageError } from './output.js'
import { count, table } from './text.js'

export function inspect(program: Command, run: Run): Command {
  return program
    .command('inspect')
    .description('say what a file or folder is and what is in it, from its headers alone')
    .argument('[path]', 'a model folder, a codes file, or hidden states')
    .option('--cpu', 'say instead which instruction set and how many threads are used on this machine')
    .action(
      run(async ({ signal, result }, path: string | undefined, options: { cpu?: boolean }) => {
        if (options.cpu && path !== undefined) {
          throw new UsageError('a path and --cpu contradict each other: give one of them')
        }
        if (options.cpu) {
          const info = cpu()
          return result(info, ['CPU', ...table(cpuRows(info))])
        }
        if (path === undefined) throw new UsageError('a path or --cpu is needed; see --help')
        const description = await describe(path, { signal })
        result(description, [
          path,
          ...table(Object.entries(description).flatMap(([name, value]) => lines(name, value))),
        ])
      }),
    )
}

function cpuRows({ arch, simd, available, cores, threads }: CpuInfo): [string, string][] {
  const wanted = process.env.BAE_SIMD
  return [
    ['architecture', arch],
    ['instruction sets', available.join(', ')],
    ['in use', simd],
    ['BAE_SIMD', wanted || 'not set: the last of these is used'],
    ['cores', `${count(cores.physical)}, ${count(cores.logical)} with hardware threads`],
    ['threads', `${count(threads)} unless --threads says otherwise`],
  ]
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
