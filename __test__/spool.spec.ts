// More rows than memory is given for. In a process of its own: its memory and its open files are looked at.
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { expect, test } from 'vitest'
import { folder } from './data.js'

const dist = (name: string) =>
  JSON.stringify(pathToFileURL(join(import.meta.dirname, '..', 'dist', name)).href)

/** 300 items of a mebibyte each, of which 8 are to stay in memory; `write` only, or what a training makes of them. */
const PROGRAM = `
import { readdirSync, readlinkSync } from 'node:fs'
import { runJob } from ${dist('job.js')}
import native from ${dist('native.js')}
import { withStates } from ${dist('states.js')}
const MIB = 2 ** 20
const shape = [1024, 256]
async function* items() {
  let state = 1
  for (let item = 0; item < 300; item++) {
    const data = new Float32Array(MIB / 4)
    for (let i = 0; i < data.length; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      data[i] = state / 2 ** 31 - 1
    }
    yield { data, shape }
  }
}
const train = states => {
  const settings = { preset: 'reference', steps: 20, dSae: 8, batchSize: 64, threads: 1, device: 'cpu', memory: 8 * MIB }
  return runJob(on => native.startTrain(states, undefined, JSON.stringify(settings), on))
}
// the code's own pages are no matter of the rows
await withStates({ data: new Float32Array(MIB / 4).map((_, i) => Math.sin(i * i)), shape }, {}, train)
const before = process.memoryUsage.rss()
let most = before
const watch = setInterval(() => {
  most = Math.max(most, process.memoryUsage.rss())
}, 5)
const report = {}
try {
  const { json } = await withStates(items(), { memory: 8 * MIB }, train)
  report.steps = JSON.parse(json).steps
} catch ({ code, message }) {
  Object.assign(report, { code, message })
}
clearInterval(watch)
report.grownMiB = Math.round((Math.max(most, process.memoryUsage.rss()) - before) / MIB)
if (process.platform === 'linux') {
  const deleted = fd => {
    try {
      return readlinkSync('/proc/self/fd/' + fd).endsWith('(deleted)')
    } catch {
      return false
    }
  }
  report.leftOpen = readdirSync('/proc/self/fd').filter(deleted).length
}
console.log(JSON.stringify(report))
`

async function run(command: string, args: string[], env: NodeJS.ProcessEnv = {}) {
  const child = spawn(command, args, { env: { ...process.env, ...env } })
  let [stdout, stderr] = ['', '']
  child.stdout.setEncoding('utf8').on('data', text => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', text => {
    stderr += text
  })
  const ended = await new Promise(resolve =>
    child.on('close', (status, signal) => resolve({ status, signal, stderr })),
  )
  expect(ended).toEqual({ status: 0, signal: null, stderr: '' })
  return JSON.parse(stdout) as Record<string, unknown>
}

const NODE = ['--input-type=module', '--eval', PROGRAM]

test('300 MiB of rows train in a fraction of that', async () => {
  const { steps, grownMiB, leftOpen } = await run(process.execPath, NODE)
  expect(steps).toBe(20)
  // some 64 MiB of arrays lie about before Node frees them
  expect(grownMiB).toBeLessThan(150)
  expect(leftOpen ?? 0).toBe(0)
})

test('a temporary folder that cannot be written in', async () => {
  const gone = join(folder(), 'gone')
  const { code, message } = await run(process.execPath, NODE, { TMPDIR: gone, TEMP: gone, TMP: gone })
  expect(code).toBe('IO')
  expect(message).toContain(`cannot keep rows in the temporary folder ${gone}: `)
})

test.skipIf(process.platform === 'win32')('a disk that takes no more than 64 MiB', async () => {
  // a file that must not grow further is refused as it is on a full disk, once the signal about it is ignored
  const script = 'trap \'\' XFSZ; ulimit -f 131072; exec "$0" "$@"'
  const { code, message, leftOpen } = await run('sh', ['-c', script, process.execPath, ...NODE])
  expect(code).toBe('IO')
  expect(message).toMatch(/^cannot keep rows in the temporary folder .*; make room there, or set TMPDIR/)
  expect(leftOpen ?? 0).toBe(0)
})
