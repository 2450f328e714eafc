import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { BaeError, BinaryCodes } from '../src/index.js'
import { folder, framed, safetensors } from './data.js'

// two rows of ten bits: 1100000001 and 0010000010
const BYTES = Uint8Array.of(0b00000011, 0b10, 0b00000100, 0b01)
const codes = () => BinaryCodes.fromBytes(BYTES, 2, 10)

test('bits are read from the least significant on', () => {
  using two = codes()
  expect([two.rows, two.dSae]).toEqual([2, 10])
  expect([...two.row(0)]).toEqual([1, 1, 0, 0, 0, 0, 0, 0, 0, 1])
  expect([...two.row(1)]).toEqual([0, 0, 1, 0, 0, 0, 0, 0, 1, 0])
  expect([...two.active(0)]).toEqual([0, 1, 9])
  expect([...two.active(1)]).toEqual([2, 8])
  expect([two.get(0, 9), two.get(1, 9)]).toEqual([true, false])
  expect(two.bytes).toEqual(BYTES)
  expect(two.active(0)).toBeInstanceOf(Uint32Array)
})

test('entropy counts', async () => {
  using two = codes()
  expect(await two.entropy()).toMatchObject({
    rows: 2,
    features: 10,
    entropyBits: 5,
    l0: 2.5,
    density: 0.25,
    deadFraction: 0.5,
    alwaysOnFraction: 0,
    denseFraction: 0,
  })
})

test('saved and loaded they are the same', async () => {
  const dir = folder()
  const path = join(dir, 'c.safetensors')
  using two = codes()
  await two.save(path, { model: 'somewhere' })
  using again = await BinaryCodes.load(path)
  expect([again.rows, again.dSae, again.bytes]).toEqual([2, 10, BYTES])
  await expect(two.save(path)).rejects.toMatchObject({ code: 'IO' })
  await two.save(path, { overwrite: true })
  expect(readdirSync(dir)).toEqual(['c.safetensors'])
})

test('the bytes given are copied', () => {
  const bytes = BYTES.slice()
  using two = BinaryCodes.fromBytes(bytes, 2, 10)
  bytes.fill(0)
  expect(two.bytes).toEqual(BYTES)
})

test.each<[string, unknown[], string]>([
  ['too few bytes', [BYTES.subarray(1), 2, 10], 'SHAPE_MISMATCH'],
  ['no rows', [BYTES, 0, 10], 'INVALID_ARGUMENT'],
  ['a fraction of a row', [BYTES, 1.5, 10], 'INVALID_ARGUMENT'],
  ['no bytes', [[3, 2, 4, 1], 2, 10], 'INVALID_ARGUMENT'],
])('fromBytes refuses %s', (_, args, code) => {
  const make = () => BinaryCodes.fromBytes(...(args as Parameters<typeof BinaryCodes.fromBytes>))
  expect(make).toThrow(expect.objectContaining({ code }))
})

test.each([-1, 2, 0.5, Number.NaN])('there is no row %s', index => {
  using two = codes()
  for (const read of [() => two.row(index), () => two.active(index), () => two.get(index, 0)]) {
    expect(read).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  }
  expect(() => two.get(0, 10)).toThrow(/feature 10 is not within 0 … 9/)
})

test('after dispose there is nothing left', async () => {
  const two = codes()
  two.dispose()
  two.dispose()
  const disposed = expect.objectContaining({ code: 'DISPOSED' })
  expect(() => two.bytes).toThrow(disposed)
  expect(() => two.row(0)).toThrow(disposed)
  await expect(two.entropy()).rejects.toEqual(disposed)
  await expect(two.save('x')).rejects.toEqual(disposed)
  {
    await using used = codes()
    expect(used.rows).toBe(2)
  }
})

describe('broken codes files', () => {
  const meta = { rows: '2', d_sae: '10', model: '' }
  const file = (
    shape: number[],
    data: Uint8Array,
    metadata: Record<string, string> | undefined = meta,
    dtype = 'U8',
  ) => safetensors({ codes: { dtype, shape, data } }, metadata)
  test.each<[string, Buffer, string[]]>([
    ['empty', Buffer.alloc(0), ['CORRUPT_FILE']],
    ['truncated', file([2, 2], BYTES).subarray(0, -1), ['CORRUPT_FILE']],
    ['no codes in it', safetensors({ x: { dtype: 'U8', shape: [4], data: BYTES } }), ['UNSUPPORTED_FORMAT']],
    [
      'no metadata',
      safetensors({ codes: { dtype: 'U8', shape: [2, 2], data: BYTES } }),
      ['UNSUPPORTED_FORMAT', 'CORRUPT_FILE'],
    ],
    ['another width', file([2, 2], BYTES, { ...meta, d_sae: '20' }), ['CORRUPT_FILE']],
    ['more rows than there are', file([2, 2], BYTES, { ...meta, rows: '3' }), ['CORRUPT_FILE']],
    ['bits set past the width', file([2, 2], Uint8Array.of(0, 0xff, 0, 0xff)), ['CORRUPT_FILE']],
    [
      'another type',
      file([2], Uint8Array.of(0, 0, 0, 0), meta, 'F16'),
      ['UNSUPPORTED_FORMAT', 'CORRUPT_FILE'],
    ],
    [
      'a hostile header',
      framed(
        '{"codes":{"dtype":"U8","shape":[18446744073709551615,2],"data_offsets":[0,4]}}',
        Buffer.from(BYTES),
      ),
      ['CORRUPT_FILE', 'UNSUPPORTED_FORMAT'],
    ],
  ])('%s', async (_, bytes, expected) => {
    const path = join(folder(), 'c.safetensors')
    writeFileSync(path, bytes)
    const error = await BinaryCodes.load(path).catch(error => error)
    expect(error).toBeInstanceOf(BaeError)
    expect(expected).toContain(error.code)
    expect(error.message).toContain(path)
  })

  test('no file', async () => {
    await expect(BinaryCodes.load('nowhere.safetensors')).rejects.toMatchObject({ code: 'IO' })
  })
})
