// Counts and their files, used wrongly, at once, or not to the end.
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { BinaryAutoencoder, BinaryCodes, CodeStatistics, train } from '../src/index.js'
import { bae, start } from './cli/bae.js'
import { folder, nested, random, rows, safetensors, writeRows } from './data.js'

const QUICK = { epochs: 2, batchSize: 64, dSae: 40, device: 'cpu' } as const
let home: string
let data: string
let model: BinaryAutoencoder

beforeAll(async () => {
  home = folder({ keep: true })
  data = writeRows(join(home, 'states.safetensors'), rows(2000))
  model = (await train(data, { ...QUICK, out: join(home, 'model') })).model
  ;(await train(data, { ...QUICK, seed: 1, out: join(home, 'other') })).model.dispose()
}, 60_000)
afterAll(() => {
  model.dispose()
  rmSync(home, { recursive: true, force: true })
})

function codes(count: number, dSae = 40): BinaryCodes {
  const next = random(5)
  const bytes = Uint8Array.from({ length: count * Math.ceil(dSae / 8) }, () => 256 * next() * next())
  return BinaryCodes.fromBytes(bytes, count, dSae)
}

const entropy = (...args: string[]) =>
  bae(['entropy', 'model', 'states.safetensors', '--quiet', ...args], home)

describe('bae entropy', () => {
  test('prints the same on any number of threads, all it can say', async () => {
    const all = ['--pairs', '--yardsticks', '--subset', '0,7,39', '--by', 'file', '--json']
    const [one, two] = [await entropy(...all, '--threads', '1'), await entropy(...all, '--threads', '2')]
    expect(one.status).toBe(0)
    expect(two.stdout).toBe(one.stdout)
    expect(JSON.parse(one.stdout)).toMatchObject({
      by: 'file',
      groups: [{ value: 'states', rows: 2000 }],
      yardsticks: { rows: 2000 },
      joint: {},
    })
  })

  test('says the lines to compare with in words, and why one is missing', async () => {
    const { stdout } = await entropy('--yardsticks')
    expect(stdout).toMatch(/^ {2}Gaussian +[\d.]+ bits at the same error \(FVU .*times that$/m)
    expect(stdout).toMatch(/^ {2}centred +von Neumann .*RankMe .*coding rate [\d.]+ bits$/m)
    expect(stdout).toMatch(/^ {2}dimension +[\d.]+ \(TwoNN, descriptive\)$/m)
    writeRows(join(home, 'one.safetensors'), rows(1))
    const one = await bae(['entropy', 'model', 'one.safetensors', '--yardsticks', '--quiet'], home)
    expect(one.stdout).toMatch(/not defined +gaussian: there is one row$/m)
    expect(one.stdout).not.toMatch(/NaN|null|undefined/)
  })

  test('names missing parts as ranges', async () => {
    const { stdout } = await entropy('--shard', '3/50000')
    expect(stdout).toContain('\n49,999 of 50,000 parts are missing: 1–2, 4–50,000\n')
  })

  test.each([
    [2, /--out and --plot are both a\.svg/, ['--out', 'a.svg', '--plot', './a.svg', '--overwrite']],
    [2, /--yardsticks is of all rows/, ['--yardsticks', '--shard', '1/2']],
    [2, /parts are numbered from 1/, ['--shard', '0/3']],
    [2, /parts are numbered from 1/, ['--shard', '4/3']],
    [2, /numbered from 0/, ['--subset', '1,,2']],
    [2, /Allowed choices are layer, position/, ['--by', 'weather']],
    [1, /whole numbers from 0 on, not 99999999999/, ['--subset', '99999999999']],
    [1, /no feature 40, the last one is 39/, ['--subset', '40']],
    [1, /feature 3 is given twice/, ['--subset', '3,3']],
    [1, /21 features are more than 20/, ['--subset', Array.from({ length: 21 }, (_, j) => j).join()]],
    [1, /no column position/, ['--by', 'position']],
    [1, /its folder is not there/, ['--out', 'none/counts.safetensors']],
    [1, /is a folder/, ['--out', 'model', '--overwrite']],
  ])('ends with %i, in one line that says %s', async (status, message, args) => {
    const ended = await entropy(...args)
    expect([ended.status, ended.stderr, ended.stdout]).toEqual([status, expect.stringMatching(message), ''])
    expect(ended.stderr).toMatch(/^bae: .*\n$/)
    expect(readdirSync(home).filter(name => /svg|counts|^\.bae/.test(name))).toEqual([])
  })

  test('says that a file is there before it reads', async () => {
    writeFileSync(join(home, 'mine'), 'mine')
    const { status, stderr } = await bae(['entropy', 'model', 'no.safetensors', '--out', 'mine'], home)
    expect([status, stderr]).toEqual([1, expect.stringContaining('mine already exists')])
    expect(readFileSync(join(home, 'mine'), 'utf8')).toBe('mine')
  })

  test('leaves nothing behind after Ctrl-C', async () => {
    const dir = folder()
    writeRows(join(dir, 'wide.safetensors'), rows(40_000))
    const options = ['--pairs', '--yardsticks', '--out', 'counts', '--plot', 'a.svg']
    const { child, ended, says } = start(
      ['entropy', join(home, 'model'), 'wide.safetensors', 'wide.safetensors', ...options],
      dir,
    )
    await says('counts of all pairs')
    child.kill('SIGINT')
    const { status, stderr } = await ended
    expect([status, stderr]).toEqual([130, expect.stringMatching(/bae: interrupted\n$/)])
    // the counts are there whole, or not at all
    const left = readdirSync(dir).filter(name => name !== 'wide.safetensors')
    expect(left.filter(name => name !== 'counts')).toEqual([])
    if (left.length) expect((await bae(['merge', join(dir, 'counts')])).status).toBe(0)
  })
})

describe('bae merge', () => {
  test('refuses parts that do not belong together, and the same file twice', async () => {
    const dir = folder()
    const count = async (name: string, ...args: string[]) => {
      const { status } = await bae(
        [
          'entropy',
          join(home, args.includes('other') ? 'other' : 'model'),
          data,
          '--out',
          name,
          '--quiet',
        ].concat(args.filter(each => each !== 'other')),
        dir,
      )
      expect(status).toBe(0)
    }
    await count('whole')
    await count('1of2', '--shard', '1/2')
    await count('2of2', '--shard', '2/2')
    await count('2of3', '--shard', '2/3')
    await count('pairs', '--shard', '2/2', '--pairs')
    await count('subset', '--shard', '2/2', '--subset', '1')
    await count('files', '--shard', '2/2', '--by', 'file')
    await count('other', '--shard', '2/2', 'other')
    const refused = async (...files: string[]) => {
      const { status, stderr, stdout } = await bae(['merge', ...files, '--out', 'all', '--quiet'], dir)
      expect([status !== 0, stdout, existsSync(join(dir, 'all'))]).toEqual([true, '', false])
      expect(stderr).toMatch(/^bae: .*\n$/)
      return stderr
    }
    expect(await refused('1of2', '2of3')).toMatch(/2of3: one of 3 parts cannot be added to one of 2/)
    expect(await refused('1of2', 'whole')).toMatch(/a whole cannot be added/)
    expect(await refused('1of2', 'pairs')).toMatch(/pairs: pairs, batches or a subset/)
    expect(await refused('1of2', 'subset')).toMatch(/subset: /)
    expect(await refused('1of2', 'files')).toMatch(/grouped by file/)
    expect(await refused('1of2', 'other')).toMatch(/another model/)
    expect(await refused('whole', './whole')).toMatch(/named twice/)
    expect(await refused('1of2', 'none')).toMatch(/cannot read none/)
    expect(await refused(data)).toMatch(/no counts of codes/)
    const there = await bae(['merge', '1of2', 'none', '--out', '2of2', '--quiet'], dir)
    expect(there.stderr).toContain('2of2 already exists')
    expect((await bae(['merge', '2of2', '1of2', '--out', 'all', '--quiet'], dir)).status).toBe(0)
    const [merged, whole] = await Promise.all(
      ['all', 'whole'].map(async name => JSON.parse((await bae(['merge', name, '--json'], dir)).stdout)),
    )
    expect(merged).toEqual({ ...whole, shards: { of: 2, missing: [] } })
  })

  test('refuses a file with any byte of its counts changed', async () => {
    const dir = folder()
    const file = join(dir, 'counts')
    using statistics = new CodeStatistics(40, { subset: [1, 2] })
    await statistics.add(codes(700))
    await statistics.save(file)
    const bytes = readFileSync(file)
    const begin = 8 + Number(bytes.readBigUInt64LE(0))
    const next = random(11)
    for (let time = 0; time < 60; time++) {
      const at = begin + Math.floor(next() * (bytes.length - begin))
      const bad = Buffer.from(bytes)
      bad[at]! ^= 1 << Math.floor(8 * next())
      writeFileSync(file, bad)
      // patterns that never were are the one thing that nothing contradicts
      const { code } = await CodeStatistics.load(file).then(
        async read => ({ code: (await read.report()).rows === 700 ? 'same rows' : 'others' }),
        error => error,
      )
      expect(['CORRUPT_FILE', 'same rows']).toContain(code)
    }
  })
})

describe('counts of hidden states', () => {
  test('in memory: without columns, and without files to group by', async () => {
    const some = { data: rows(50).data, shape: [50, 16] as const }
    const refuses = (by: 'file' | 'position' | 'layer', message: RegExp) =>
      expect(model.entropy(some, { by })).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(message),
      })
    await refuses('file', /grouping by file takes files/)
    await refuses('position', /no column position/)
    await refuses('layer', /no column layer/)
    expect(await model.entropy(nested(rows(50)))).toEqual(await model.entropy(some))
  })

  test('all of one sequence have no interval; all alike have no entropy', async () => {
    const [file, alike] = ['a', 'b'].map(name => join(folder(), `${name}.safetensors`)) as [string, string]
    const { data: values, shape } = rows(90)
    const sequence = { dtype: 'I64', shape: [90], data: new BigInt64Array(90) }
    writeFileSync(file, safetensors({ hidden_states: { dtype: 'F32', shape, data: values }, sequence }))
    const one = await model.entropy(file, { pairs: true })
    expect(one).toMatchObject({ rows: 90, interval: null, joint: null, pairs: { totalCorrelation: null } })
    expect(one.estimates.jackknife).toBeGreaterThan(one.entropyBits)
    const row = values.subarray(0, 16)
    writeRows(alike, { data: Float32Array.from({ length: 1440 }, (_, at) => row[at % 16]!), shape })
    const none = await model.entropy(alike, { pairs: true, subset: [0] })
    expect(none).toMatchObject({ entropyBits: 0, interval: { lower: 0, upper: 0 }, subset: { plugIn: 0 } })
    expect(none.joint).toMatchObject({ lowerBits: 0, collision: { pairs: 45, collisions: 45 } })
    expect(none.pairs?.strongest).toEqual([])
    expect(none.neverOn.features + none.alwaysOn.features).toBe(40)
    expect(JSON.stringify([one, none])).not.toMatch(/NaN|Infinity/)
  })

  test('with NaN are refused, or counted without those rows', async () => {
    const broken = rows(90)
    broken.data[5 * 16 + 3] = Number.NaN
    const file = writeRows(join(folder(), 'nan.safetensors'), broken)
    await expect(model.entropy(file)).rejects.toMatchObject({
      code: 'NOT_FINITE',
      message: expect.stringMatching(/row 5, column 3/),
    })
    const report = await model.entropy(file, { skipInvalid: true })
    expect([report.rows, report.invalidRows]).toEqual([89, 1])
  })
})

describe('while a call runs', () => {
  test('counts may be added to, merged and reported at once: nothing is lost, and nothing waits for ever', async () => {
    using some = codes(3000)
    using one = new CodeStatistics(40, { pairs: true })
    using two = new CodeStatistics(40, { pairs: true })
    await Promise.all([one.add(some), one.add(some), two.add(some), one.report()])
    expect([one.rows, two.rows]).toEqual([6000, 3000])
    await Promise.all([one.merge(two), two.merge(one)])
    // each added the other as it was then, before that was changed or after
    expect([9000, 12_000, 15_000]).toEqual(expect.arrayContaining([one.rows, two.rows]))
    expect(Math.min(one.rows, two.rows)).toBe(9000)
  })

  test('what it works with may be disposed of', async () => {
    const some = codes(3000)
    const statistics = new CodeStatistics(40, { pairs: true })
    const added = statistics.add(some)
    some.dispose()
    await added
    expect(statistics.rows).toBe(3000)
    const report = statistics.report()
    statistics.dispose()
    expect((await report).rows).toBe(3000)
    await expect(statistics.add(codes(1))).rejects.toMatchObject({ code: 'DISPOSED' })
    const loaded = await BinaryAutoencoder.load(join(home, 'model'))
    const counted = loaded.statistics(data)
    loaded.dispose()
    using counts = await counted
    expect(counts.rows).toBe(2000)
  })

  test('it ends with the reason of its signal', async () => {
    const reason = new Error('enough')
    const aborted = AbortSignal.abort(reason)
    using some = codes(100)
    using statistics = new CodeStatistics(40)
    for (const call of [
      () => statistics.add(some, { signal: aborted }),
      () => statistics.report({ signal: aborted }),
      () => statistics.ones({ signal: aborted }),
      () => statistics.save(join(home, 'aborted'), { signal: aborted }),
      () => model.statistics(data, { signal: aborted }),
      () => model.yardsticks(data, { signal: aborted }),
      () => CodeStatistics.load(join(home, 'aborted'), { signal: aborted }),
    ])
      await expect(call()).rejects.toBe(reason)
    expect([statistics.rows, existsSync(join(home, 'aborted'))]).toEqual([0, false])
    const stop = new AbortController()
    const running = model.statistics(Array(50).fill(data), { pairs: true, signal: stop.signal })
    stop.abort(reason)
    await expect(running).rejects.toBe(reason)
  })

  test('in worker threads it gives the same', async () => {
    const addon = new URL('../dist/index.js', import.meta.url).href
    const script = `const { parentPort, workerData } = require('node:worker_threads')
      import(workerData.addon).then(async ({ BinaryAutoencoder }) => {
        const model = await BinaryAutoencoder.load(workerData.model)
        parentPort.postMessage(await model.entropy(workerData.data, { pairs: true }))
      })`
    const workerData = { addon, model: join(home, 'model'), data }
    const worker = () =>
      new Promise((resolve, reject) => {
        new Worker(script, { eval: true, workerData }).on('message', resolve).on('error', reject)
      })
    const expected = await model.entropy(data, { pairs: true })
    for (const report of await Promise.all([worker(), worker()])) expect(report).toEqual(expected)
  })
})
