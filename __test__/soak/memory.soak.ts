// Memory over a long time, and of data much larger than it.
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { describe, expect, test } from 'vitest'
import { startProgram } from '../cli/bae.js'
import { folder, rows, writeNpy } from '../data.js'
import { take, writeLarge } from '../faults/memory.js'

/** What may be gained between the first window and the last. */
const GROWTH = 1.02

const median = (values: number[]) => values.toSorted((a, b) => a - b)[values.length >> 1] as number

/** Medians of ten windows of these samples. */
function windows(samples: number[]): number[] {
  const length = Math.floor(samples.length / 10)
  return Array.from({ length: 10 }, (_, at) => median(samples.slice(at * length, (at + 1) * length)))
}

function flat(samples: number[], what: string): void {
  const medians = windows(samples)
  const [first, last] = [medians[0] as number, medians.at(-1) as number]
  console.log(`${what}, resident KiB in ten windows: ${medians.join(' ')}: ${(last / first).toFixed(4)}`)
  expect(last / first).toBeLessThan(GROWTH)
}

/** Runs a program that fills `samples`. */
async function sampled(program: string): Promise<number[]> {
  const dist = JSON.stringify(pathToFileURL(join(import.meta.dirname, '..', '..', 'dist', 'index.js')).href)
  const text = `import { BinaryAutoencoder, train } from ${dist}
    const samples = []
    ${program}
    console.log(JSON.stringify(samples))`
  // what V8 and the C library keep for themselves grows for a while: it is no leak, and hides one
  const flags = ['--expose-gc', '--max-semi-space-size=1', '--input-type=module', '--eval', text]
  const env = { MALLOC_ARENA_MAX: '1' }
  const ended = await startProgram(process.execPath, flags, undefined, env).ended
  expect(ended).toMatchObject({ status: 0, stderr: '' })
  return JSON.parse(ended.stdout)
}

describe.skipIf(process.platform !== 'linux')('resident memory', () => {
  test('10,000 steps take as much at their end as after 4,096', async () => {
    const dir = folder()
    writeNpy(join(dir, 'x.npy'), rows(40_000, 64))
    // few passes, as of real data: what is told of each of them is kept
    const samples = await sampled(`
      let seen = 0
      const onEvent = ({ type, step }) => {
        // of the last 4,096 steps what was told is kept: there is growth until then
        if (type !== 'step' || ++seen % 10 || seen < 4096) return
        // what Node has not collected yet is no growth
        gc()
        samples.push(process.memoryUsage.rss() / 1024)
      }
      const [path, out] = ${JSON.stringify([join(dir, 'x.npy'), join(dir, 'run')])}
      const settings = { dSae: 256, batchSize: 64, steps: 10000, memory: 2 ** 21, device: 'cpu', checkpointEvery: 500 }
      ;(await train(path, { ...settings, out, onEvent })).model.dispose()`)
    flat(samples, '10,000 steps')
  })

  test.each([
    ['train', "(await train(states, { steps: 3, dSae: 64, batchSize: 64, device: 'cpu' })).model.dispose()"],
    [
      'load and encode',
      'const model = await BinaryAutoencoder.load(out); await model.encode(states); model.dispose()',
    ],
  ])('1,000 times: %s, dispose', async (what, work) => {
    const samples = await sampled(`
      const data = new Float32Array(512 * 64).map((_, i) => Math.sin(i * i))
      const states = { data, shape: [512, 64] }
      const out = ${JSON.stringify(join(folder(), 'model'))}
      const first = await train(states, { steps: 3, dSae: 64, device: 'cpu', out })
      first.model.dispose()
      for (let cycle = 0; cycle < 1200; cycle++) {
        ${work}
        gc()
        // the first ones warm up: compiled code, the allocator's pools
        if (cycle >= 200) samples.push(process.memoryUsage.rss() / 1024)
      }`)
    flat(samples, what)
  })

  test.each([
    ['200 steps', ['--steps', '200']],
    ['a whole pass', ['--epochs', '1']],
  ])('4 GiB are trained on in 256 MiB beside the model: %s', async (what, more) => {
    const dir = folder()
    writeLarge(join(dir, 'x.npy'), 2 ** 32)
    const taken = await take(dir, 256, ...more)
    console.log(`${what}, in MiB: ${JSON.stringify(taken)}`)
    expect(taken.peak).toBeLessThan(taken.memory + taken.modelBytes)
  })
})
