// Memory that is taken away under a call that works on it. In a process of its own: what goes wrong here is a crash.
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { expect, test } from 'vitest'

const INDEX = pathToFileURL(join(import.meta.dirname, '..', 'dist', 'index.js')).href

/** Every call on arrays whose memory is gone once it has returned its promise, beside the same on arrays left alone. */
const PROGRAM = `
import { train } from ${JSON.stringify(INDEX)}
const [, takeAway] = process.argv
const shape = [8192, 256]
const size = shape[0] * shape[1]
const fill = array => {
  let state = 1
  for (let i = 0; i < size; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    // as float32 between -1 and 1; as float16 between 1 and 2
    array[i] = array.BYTES_PER_ELEMENT === 4 ? state / 2 ** 31 - 1 : 0x3c00 | (state >>> 22)
  }
  return array
}
const away = {
  transfer: {
    buffer: bytes => new ArrayBuffer(bytes),
    take: buffer => structuredClone(buffer, { transfer: [buffer] }),
  },
  resize: {
    buffer: bytes => new ArrayBuffer(bytes, { maxByteLength: bytes }),
    take: buffer => buffer.resize(0),
  },
}[takeAway]
const options = { steps: 6, dSae: 32, batchSize: 1024, threads: 1 }
const kinds = {
  float32: buffer => fill(new Float32Array(buffer ?? size)),
  float16: buffer => fill(new Uint16Array(buffer ?? size)),
}
const { model } = await train({ data: kinds.float32(), shape }, options)
const calls = {
  train: async input => {
    const { model, result } = await train(input, options)
    return [model.config, result.train, result.validation].map(each => JSON.stringify(each))
  },
  encode: async input => [Buffer.from((await model.encode(input)).bytes).toString('base64')],
  entropy: async input => [JSON.stringify(await model.entropy(input))],
  evaluate: async input => [JSON.stringify(await model.evaluate(input))],
}
const report = {}
for (const [dtype, make] of Object.entries(kinds)) {
  for (const [name, call] of Object.entries(calls)) {
    const width = dtype === 'float32' ? 4 : 2
    const buffer = away.buffer(width * size)
    const under = call({ data: make(buffer), shape, dtype })
    away.take(buffer)
    gc()
    gc()
    const [got, expected] = [await under, await call({ data: make(), shape, dtype })]
    // the settings hold how long it took
    const same = got.every((each, i) => clean(each) === clean(expected[i]))
    report[name + ' ' + dtype] = buffer.byteLength === 0 && same
  }
}
function clean(text) {
  return text.replace(/"seconds":[^,}]*/g, '')
}
console.log(JSON.stringify(report))
`

test.each(['transfer', 'resize'])('memory that is gone after a call has started: %s', async takeAway => {
  const child = spawn(process.execPath, [
    '--expose-gc',
    '--input-type=module',
    '--eval',
    PROGRAM,
    '--',
    takeAway,
  ])
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
  const calls = ['train', 'encode', 'entropy', 'evaluate']
  const expected = ['float32', 'float16'].flatMap(dtype => calls.map(call => [`${call} ${dtype}`, true]))
  expect(JSON.parse(stdout)).toEqual(Object.fromEntries(expected))
})
