// The memory that a training by the real command takes, against what it was given.
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { bae } from '../cli/bae.js'
import { half, rows } from '../data.js'

const MIB = 2 ** 20
const D_IN = 512

/** Written by a process as it ends: what it took at the most. Of the process alone, as `maxRSS` is not. */
const TELLS_PEAK = `data:text/javascript,${encodeURIComponent(`
import { readFileSync, writeFileSync } from 'node:fs'
process.on('exit', () => {
  const [, kilobytes] = /VmHWM:\\s*(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))
  writeFileSync(process.env.BAE_TEST_PEAK, kilobytes)
})`)}`

/** Writes float16 rows of 512 values, the same 64 MiB of them again and again. */
export function writeLarge(path: string, bytes: number): void {
  const block = Buffer.from(half(rows((64 * MIB) / (2 * D_IN), D_IN).data).buffer)
  const text = `{'descr': '<f2', 'fortran_order': False, 'shape': (${bytes / (2 * D_IN)}, ${D_IN}), }`
  const header = `${text.padEnd(117)}\n`
  const file = openSync(path, 'w')
  writeSync(
    file,
    Buffer.from([0x93, ...Buffer.from('NUMPY'), 1, 0, header.length & 0xff, header.length >> 8]),
  )
  writeSync(file, header)
  for (let written = 0; written < bytes; written += block.length) writeSync(file, block)
  closeSync(file)
}

/** Bytes that a command takes at the most. It must succeed. */
async function peakOf(dir: string, args: string[]): Promise<number> {
  const path = join(dir, 'peak')
  const env = { NODE_OPTIONS: `--import=${TELLS_PEAK}`, BAE_TEST_PEAK: path }
  expect(await bae(args, dir, env)).toMatchObject({ status: 0, stderr: '' })
  return 1024 * Number(readFileSync(path, 'utf8'))
}

/** What a training takes, and what Node itself does, in MiB. */
export interface Taken {
  peak: number
  node: number
  memory: number
  bufferBytes: number
  modelBytes: number
}

/** Trains on x.npy in `dir` with so many MiB. */
export async function take(dir: string, memory: number, ...more: string[]): Promise<Taken> {
  const [out, common] = [join(dir, 'run'), ['--device', 'cpu', '--quiet', '--json']]
  const node = await peakOf(dir, ['inspect', 'x.npy', '--json'])
  const args = ['train', 'x.npy', '--out', 'run', '--overwrite', '--memory', `${memory}M`, '--d-sae', '1024']
  const peak = await peakOf(dir, [...args, ...common, ...more])
  const [start] = readFileSync(join(out, 'metrics.jsonl'), 'utf8').split('\n')
  const { bufferBytes, modelBytes } = JSON.parse(start as string)
  const taken = { peak, node, bufferBytes, modelBytes }
  const inMib = Object.entries(taken).map(([name, bytes]) => [name, Math.round(bytes / MIB)])
  return { ...Object.fromEntries(inMib), memory }
}
