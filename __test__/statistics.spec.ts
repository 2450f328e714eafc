import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  type BinaryAutoencoder,
  BinaryCodes,
  CodeStatistics,
  inspect,
  pairBytes,
  train,
} from '../src/index.js'
import { bae } from './cli/bae.js'
import { folder, random, readSafetensors } from './data.js'

const EXAMPLES = join(import.meta.dirname, '..', 'examples', 'data')
const TOKENS = join(EXAMPLES, 'tokens', 'layer20.safetensors')
const DEMONSTRATIONS = join(EXAMPLES, 'icl', 'layer20_k*.safetensors')
const D_SAE = 300
let home: string
let saved: string
let model: BinaryAutoencoder

beforeAll(async () => {
  home = folder({ keep: true })
  saved = join(home, 'model')
  const options = {
    steps: 4,
    dSae: D_SAE,
    batchSize: 256,
    out: saved,
    where: 'position>0',
    device: 'cpu' as const,
  }
  model = (await train(TOKENS, options)).model
}, 120_000)
afterAll(() => {
  model.dispose()
  rmSync(home, { recursive: true, force: true })
})

/** Codes of which each bit is on with a probability of its own. */
function codes(rows: number, dSae: number, seed = 1): BinaryCodes {
  const next = random(seed)
  const stride = Math.ceil(dSae / 8)
  const bytes = new Uint8Array(rows * stride)
  for (let row = 0; row < rows; row++) {
    for (let j = 0; j < dSae; j++)
      if (next() < j / (dSae - 1)) bytes[row * stride + (j >> 3)]! |= 1 << (j & 7)
  }
  return BinaryCodes.fromBytes(bytes, rows, dSae)
}

const binary = (p: number) => (p === 0 || p === 1 ? 0 : -p * Math.log2(p) - (1 - p) * Math.log2(1 - p))

describe('counts', () => {
  test('are what loops count', async () => {
    using some = codes(700, 21)
    const rows = Array.from({ length: 700 }, (_, row) => some.row(row))
    const ones = Array.from({ length: 21 }, (_, j) => rows.filter(row => row[j]).length)
    const subset = [20, 3, 0]
    const report = await some.entropy({ pairs: true, subset })
    using statistics = new CodeStatistics(21)
    await statistics.add(some)
    expect([statistics.rows, [...(await statistics.ones())]]).toEqual([700, ones])
    expect(report.entropyBits).toBeCloseTo(
      ones.reduce((sum, count) => sum + binary(count / 700), 0),
      9,
    )
    expect(report.estimates.plugIn).toBe(report.entropyBits)
    const live = ones.filter(count => count > 0 && count < 700).length
    expect(report.estimates.millerMadow).toBeCloseTo(report.entropyBits + live / (1400 * Math.LN2), 9)
    expect(report.neverOn).toEqual({ features: 1, rateBelow: 3 / 700 })
    expect(report.alwaysOn).toEqual({ features: 1, rateAbove: 1 - 3 / 700 })
    expect(report.densityHistogram.features.reduce((sum, count) => sum + count)).toBe(19)
    const l0 = rows.map(row => row.reduce((sum, bit) => sum + bit, 0)).sort((a, b) => a - b)
    expect(report.l0Distribution).toMatchObject({
      minimum: l0[0],
      quartiles: [l0[174], l0[349], l0[524]],
      maximum: l0[699],
    })
    expect(report.l0Distribution?.counts.map((count, ones) => [count, ones])).toEqual(
      Array.from({ length: l0[699]! + 1 }, (_, ones) => [l0.filter(of => of === ones).length, ones]),
    )
    for (const {
      features: [i, j],
      phi,
      both,
    } of report.pairs!.strongest) {
      expect(both).toBe(rows.filter(row => row[i] && row[j]).length)
      const [a, b] = [ones[i]!, ones[j]!]
      expect(phi).toBeCloseTo((700 * both - a * b) / Math.sqrt(a * (700 - a) * b * (700 - b)), 9)
    }
    const batches = [rows.slice(0, 512), rows.slice(512)].map(batch =>
      ones.reduce((sum, _, j) => sum + binary(batch.filter(row => row[j]).length / batch.length), 0),
    )
    expect(report.batch?.entropyBits).toBeCloseTo((batches[0]! + batches[1]!) / 2, 5)
    // feature 0 is never on, feature 20 always: all there is to the subset is feature 3
    expect(report.subset).toMatchObject({ features: subset, patterns: 2 })
    expect(report.subset?.plugIn).toBeCloseTo(binary(ones[3]! / 700), 9)
  })

  test('of fair bits and their copies', async () => {
    const next = random(3)
    const bytes = Uint8Array.from({ length: 40_000 }, () => {
      const [a, b] = [next() < 0.5 ? 1 : 0, next() < 0.5 ? 1 : 0]
      return a | (b << 1) | (a << 2) | ((a ^ b) << 3)
    })
    using four = BinaryCodes.fromBytes(bytes, 40_000, 4)
    const { estimates, interval, joint, pairs, subset } = await four.entropy({
      pairs: true,
      subset: [0, 1, 2, 3],
    })
    expect(estimates.jackknife).toBeCloseTo(4, 3)
    expect(interval!.upper - interval!.lower).toBeLessThan(0.01)
    // the tree sees the copy, not the exclusive or; the subset sees both
    expect(joint!.tree.bits).toBeCloseTo(3, 2)
    expect(joint!.lowerBits).toBeGreaterThan(1.9)
    expect(joint!.lowerBits).toBeLessThan(2)
    expect(subset!.nsb.mean).toBeCloseTo(2, 3)
    expect(pairs!.strongest[0]).toMatchObject({ features: [0, 2], phi: 1 })
  })

  test('that were made in parts are those of the whole', async () => {
    using some = codes(2000, 37)
    const sequences = Array.from({ length: 2000 }, (_, row) => Math.floor(row / 9))
    const counting = { pairs: true, subset: [1, 2, 36] }
    const whole = await some.entropy({ ...counting, sequences })
    const part = async (from: number, to: number) => {
      const statistics = new CodeStatistics(37, counting)
      const bytes = some.bytes.subarray(from * 5, to * 5)
      await statistics.add(
        { bytes, rows: to - from, dSae: 37 },
        { firstRow: from, sequences: sequences.slice(from, to) },
      )
      return statistics
    }
    using first = await part(0, 1024)
    using second = await part(1024, 1536)
    using third = await part(1536, 2000)
    await third.merge(first)
    const file = join(folder(), 'counts.safetensors')
    await third.save(file)
    using read = await CodeStatistics.load(file)
    await read.merge(second)
    expect(await read.report()).toEqual(whole)
    expect(whole.interval?.clusters).toBe('sequence')

    // on and on in pieces of any size, without numbers
    using stream = new CodeStatistics(37, counting)
    for (let from = 0; from < 2000; from += 77) {
      const to = Math.min(2000, from + 77)
      const bytes = some.bytes.subarray(from * 5, to * 5)
      await stream.add(
        { bytes, rows: to - from, dSae: 37 },
        { sequences: Int32Array.from(sequences.slice(from, to)) },
      )
    }
    expect(await stream.report()).toEqual(whole)
  })

  test('of nothing are nothing', async () => {
    using statistics = new CodeStatistics(5, { pairs: true, subset: [1] })
    expect(await statistics.report()).toMatchObject({
      rows: 0,
      entropyBits: 0,
      interval: null,
      joint: null,
      neverOn: { features: 0, rateBelow: null },
      l0Distribution: null,
    })
  })

  test('of one row say so much', async () => {
    using one = codes(1, 9)
    const report = await one.entropy({ pairs: true, subset: [0, 4] })
    expect(report).toMatchObject({ rows: 1, entropyBits: 0, interval: null, joint: null })
    expect(JSON.stringify(report)).not.toContain('NaN')
  })
})

describe('counts of hidden states', () => {
  test('by position and file, clustered by sequence, on any number of threads', async () => {
    const report = await model.entropy(TOKENS, { by: 'position', pairs: false, threads: 1 })
    expect(await model.entropy(TOKENS, { by: 'position', pairs: false, threads: 2 })).toEqual(report)
    expect(report).toMatchObject({ rows: 9708, by: 'position', interval: { clusters: 'sequence' } })
    const positions = report.groups!.map(({ value }) => value as number)
    expect(positions).toEqual(positions.toSorted((a, b) => a - b))
    expect(report.groups![0]).toMatchObject({ value: 0, rows: 512 })
    const { by: _, groups: __, batch: ___, ...third } = await model.entropy(TOKENS, { where: 'position=3' })
    const { value, ...group } = report.groups![3]!
    expect(value).toBe(3)
    const { filteredRows, invalidRows, ...alone } = third
    expect([filteredRows, invalidRows]).toEqual([9708 - group.rows, 0])
    expect({ ...group, interval: null }).toEqual({ ...alone, interval: null })

    const files = await model.entropy(DEMONSTRATIONS, { by: 'file' })
    expect(files.groups?.map(({ value, rows }) => [value, rows])).toEqual(
      [0, 1, 2, 4, 8, 16].map(k => [k, 256]),
    )
    await expect(model.entropy(DEMONSTRATIONS, { by: 'layer' })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    })
  })

  test('in parts on the command line, merged in any order', async () => {
    const dir = folder()
    const parts = [1, 2, 3].map(part => join(dir, `part${part}.safetensors`))
    const options = [
      saved,
      TOKENS,
      '--by',
      'position',
      '--pairs',
      '--where',
      'position<3',
      '--quiet',
      '--json',
    ]
    const whole = await bae(['entropy', ...options])
    expect(whole.status).toBe(0)
    for (const [index, part] of parts.entries()) {
      const { status, stdout } = await bae([
        'entropy',
        ...options,
        '--shard',
        `${index + 1}/3`,
        '--out',
        part,
      ])
      expect(status).toBe(0)
      expect(JSON.parse(stdout).shards.missing).toHaveLength(2)
    }
    const { filteredRows, invalidRows, ...expected } = JSON.parse(whole.stdout)
    const merged = await bae(['merge', parts[2]!, parts[0]!, parts[1]!, '--json', '--quiet'])
    const { shards, ...found } = JSON.parse(merged.stdout)
    expect(shards).toEqual({ of: 3, missing: [] })
    expect(found).toEqual(expected)
    expect(await inspect(parts[1]!)).toMatchObject({
      kind: 'statistics',
      by: 'position',
      shards: { of: 3, counted: [2] },
    })

    const some = await bae(['merge', parts[0]!, parts[2]!])
    expect(some.stdout).toMatch(/1 of 3 parts are missing: 2\n/)
    const copy = join(dir, 'copy-of-part1.safetensors')
    copyFileSync(parts[0]!, copy)
    const twice = await bae(['merge', parts[0]!, copy])
    expect([twice.status, twice.stderr]).toEqual([
      1,
      expect.stringMatching(/part1.*part 1\/3 would be added twice/),
    ])
    const none = await bae(['entropy', ...options, '--shard', '1/3', '--out', parts[0]!])
    expect(JSON.parse(none.stdout).error).toMatchObject({ code: 'IO' })
  }, 120_000)
})

test('what is wrong is said', async () => {
  using some = codes(10, 8)
  using statistics = new CodeStatistics(8)
  using pairs = new CodeStatistics(8, { pairs: true })
  const refuses = (work: Promise<unknown>, code: string, message: RegExp) =>
    expect(work).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
  await refuses(statistics.add(some, { sequences: [1] }), 'INVALID_ARGUMENT', /10 whole numbers.*there are 1/)
  await refuses(
    statistics.add(some, { sequences: Array(10).fill(0.5) }),
    'INVALID_ARGUMENT',
    /sequences\[0\]/,
  )
  await refuses(statistics.add(some, { firstRow: -1 }), 'INVALID_ARGUMENT', /firstRow/)
  await statistics.add(some)
  await refuses(statistics.add(some, { sequences: Array(10).fill(1n) }), 'INVALID_ARGUMENT', /sequence/)
  await refuses(statistics.merge(pairs), 'INVALID_ARGUMENT', /pairs/)
  await refuses(statistics.merge(statistics), 'INVALID_ARGUMENT', /themselves/)
  await refuses(statistics.merge({} as CodeStatistics), 'INVALID_ARGUMENT', /other/)
  using wider = codes(10, 9)
  await refuses(statistics.add(wider), 'SHAPE_MISMATCH', /9 features/)
  expect(statistics.rows).toBe(10)
  await refuses(some.entropy({ subset: [8] }), 'INVALID_ARGUMENT', /no feature 8/)
  await refuses(some.entropy({ subset: [0.5] }), 'INVALID_ARGUMENT', /subset/)
  expect(() => new CodeStatistics(2 ** 24, { pairs: true })).toThrow(/do not fit into memory/)
  // not what is left of it in 32 bits
  expect(() => new CodeStatistics(2 ** 32 + 8)).toThrow(/dSae must be at most/)
  const wrapped = { shard: { shard: 1, of: 2 ** 32 + 1 } }
  await refuses(model.entropy(TOKENS, wrapped), 'INVALID_ARGUMENT', /at most 65536/)
  expect(pairBytes(2304)).toBe(8 * 2304 * 2303)
  const by = { by: 'weather' as 'layer' }
  await refuses(model.entropy(TOKENS, by), 'INVALID_ARGUMENT', /weather/)
  await refuses(model.entropy(TOKENS, { shard: { shard: 4, of: 3 } }), 'INVALID_ARGUMENT', /4\/3/)
  await refuses(CodeStatistics.load(TOKENS), 'UNSUPPORTED_FORMAT', /no counts of codes/)
  statistics.dispose()
  await refuses(statistics.report(), 'DISPOSED', /disposed/)
})

test('the file holds integers that others can read', async () => {
  const dir = folder()
  const file = join(dir, 'counts.safetensors')
  using some = codes(600, 5)
  using statistics = new CodeStatistics(5, { pairs: true })
  await statistics.add(some)
  await statistics.save(file)
  const { tensors } = readSafetensors(readFileSync(file))
  expect(Object.keys(tensors)).toEqual(
    expect.arrayContaining([
      'rows',
      'ones',
      'l0',
      'bucket_rows',
      'bucket_ones',
      'pair_rows',
      'pairs',
      'sample',
      'batch_512',
      'batch_88',
    ]),
  )
  expect([tensors.pairs?.dtype, tensors.pairs?.shape]).toEqual(['U32', [4, 10]])
  const bytes = readFileSync(file)
  writeFileSync(file, bytes.subarray(0, bytes.length - 1))
  await expect(CodeStatistics.load(file)).rejects.toMatchObject({ code: 'CORRUPT_FILE' })
})
