import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { ReadableStream } from 'node:stream/web'
import { pathToFileURL } from 'node:url'
import {
  type DataType,
  Field,
  FixedSizeList,
  Float16,
  Float32,
  Float64,
  Int32,
  List,
  makeData,
  Vector,
  vectorFromArray,
} from 'apache-arrow'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { BaeError, type BinaryAutoencoder, type StatesInput, train } from '../src/index.js'
import { runJob } from '../src/job.js'
import { wrapModel } from '../src/model.js'
import native from '../src/native.js'
import { withStates } from '../src/states.js'
import { brain, folder, half, nested, type Rows, rows, writeNpy, writeRows } from './data.js'

const { data, shape } = rows()
const [count, dIn] = shape
const toStates = (input: StatesInput, options: Parameters<typeof withStates>[1]) =>
  withStates(input, options, states => states)
const parts = async (input: StatesInput, options: { dIn?: number } = {}) => {
  const { parts } = await toStates(input, options)
  return parts!
}
const refusal = (input: unknown, options: { dIn?: number } = {}) =>
  toStates(input as StatesInput, options).then(
    () => expect.fail('it was accepted'),
    (error: unknown) => {
      expect(error).toBeInstanceOf(BaeError)
      return error as BaeError
    },
  )

/** An Arrow column of lists of `size`. */
function arrow(type: DataType, values: ArrayLike<number>, size: number, chunks = 1) {
  const lists = values.length / size / chunks
  const list = new FixedSizeList(size, new Field('item', type, false))
  return new Vector(
    Array.from({ length: chunks }, (_, chunk) => {
      const own = Array.prototype.slice.call(values, chunk * lists * size, (chunk + 1) * lists * size)
      const array =
        type instanceof Float16
          ? Uint16Array.from(own)
          : type instanceof Float64
            ? Float64Array.from(own)
            : Float32Array.from(own)
      const child = makeData({
        type: type as Float32,
        length: array.length,
        nullCount: 0,
        data: array as Float32Array,
      })
      return makeData({ type: list, length: lists, nullCount: 0, child })
    }),
  )
}

describe('what is handed over as it is', () => {
  test('shaped float32', async () => {
    expect(await parts({ data, shape })).toEqual([
      { name: 'data', values: data, dtype: 'float32', dIn, shared: false },
    ])
    expect((await parts({ data, shape }))[0]!.values).toBe(data)
  })

  test('a tensor of onnxruntime or transformers.js', async () => {
    expect((await parts({ data, dims: shape, type: 'float32' }))[0]!.values).toBe(data)
    const bits = half(data)
    const [part] = await parts({ data: bits, dims: shape, type: 'float16' })
    expect(part!.values).toBe(bits)
    expect(part!.dtype).toBe('float16')
  })

  test.each(['float16', 'bfloat16'] as const)('%s as Uint16Array', async dtype => {
    const bits = dtype === 'float16' ? half(data) : brain(data)
    const [part] = await parts({ data: bits, shape, dtype })
    expect(part).toEqual({ name: 'data', values: bits, dtype, dIn, shared: false })
    expect(part!.values).toBe(bits)
  })

  test('Float16Array, where there is one', async () => {
    class Float16Array extends Uint16Array {
      override get [Symbol.toStringTag]() {
        return 'Float16Array' as 'Uint16Array'
      }
    }
    const bits = new Float16Array(half(data))
    const [part] = await parts({ data: bits, shape })
    expect(part!.dtype).toBe('float16')
    expect(part!.values.buffer).toBe(bits.buffer)
  })

  test('a typed array with dIn, also a view with an offset', async () => {
    expect((await parts(data, { dIn }))[0]!.values).toBe(data)
    const view = data.subarray(dIn, 3 * dIn)
    const [part] = await parts(view, { dIn })
    expect(part!.values).toBe(view)
  })

  test('shared memory', async () => {
    const shared = new Float32Array(new SharedArrayBuffer(4 * data.length))
    const [part] = await parts({ data: shared, shape })
    expect(part!.values).toBe(shared)
    expect(part!.shared).toBe(true)
  })

  test('shared memory that can grow is no memory to rely on', async () => {
    const GrowableBuffer = SharedArrayBuffer as new (bytes: number, options: object) => SharedArrayBuffer
    const size = 4 * data.length
    const growable = new Float32Array(new GrowableBuffer(size, { maxByteLength: 2 * size }))
    expect((await parts({ data: growable, shape }))[0]!.shared).toBe(false)
  })

  test('an Arrow FixedSizeList column, chunk by chunk', async () => {
    const column = arrow(new Float32(), data, dIn, 2)
    const got = await parts(column)
    expect(got.map(({ name, dtype, dIn }) => ({ name, dtype, dIn }))).toEqual([
      { name: 'data, chunk 0', dtype: 'float32', dIn },
      { name: 'data, chunk 1', dtype: 'float32', dIn },
    ])
    expect(Float32Array.from(got.flatMap(part => [...part.values]))).toEqual(data)
    expect(got[0]!.values.buffer).toBe(column.data[0]!.children[0]!.values.buffer)
  })

  test('a slice of an Arrow column', async () => {
    const [part] = await parts(arrow(new Float32(), data, dIn).slice(2, 5))
    expect(part!.values).toEqual(data.subarray(2 * dIn, 5 * dIn))
  })

  test('an Arrow column of float16', async () => {
    const [part] = await parts(arrow(new Float16(), half(data), dIn))
    expect(part!.dtype).toBe('float16')
    expect(part!.values).toEqual(half(data))
  })

  test('an Arrow column that arrow built itself', async () => {
    const type = new FixedSizeList(dIn, new Field('item', new Float32(), false))
    const [part] = await parts(vectorFromArray(nested({ data, shape }), type))
    expect(part!.values).toEqual(data)
  })
})

describe('what is converted to float32', () => {
  test.each<[string, StatesInput, { dIn?: number }]>([
    ['number[][]', nested({ data, shape }), {}],
    ['Float64Array', Float64Array.from(data), { dIn }],
    ['shaped Float64Array', { data: Float64Array.from(data), shape }, {}],
    ['shaped number[]', { data: [...data], shape }, {}],
    ['a float64 tensor', { data: Float64Array.from(data), dims: shape, type: 'float64' }, {}],
    ['number[] with dIn', [...data], { dIn }],
    ['an Arrow column of float64', arrow(new Float64(), data, dIn), {}],
  ])('%s', async (_, input, options) => {
    expect(await parts(input, options)).toEqual([
      { name: 'data', values: data, dtype: 'float32', dIn, shared: false },
    ])
  })
})

/** The bits of a model trained on hidden states: other ones, or in another order, give other bits. */
async function weights(input: StatesInput, options: Parameters<typeof withStates>[1] = {}): Promise<Buffer> {
  const settings = { steps: 3, dSae: 8, batchSize: 16, validationFraction: 0, threads: 1, device: 'cpu' }
  const { job } = await withStates(input, options, states =>
    runJob(on => native.startTrain(states, undefined, JSON.stringify(settings), on)),
  )
  using model = wrapModel(job.takeModel()!)
  const path = join(folder(), 'model')
  await model.save(path)
  return readFileSync(join(path, 'sae_weights.safetensors'))
}

describe('series', () => {
  const given = { data: data.subarray(0, 24 * dIn), shape: [24, dIn] }
  const pieces = Array.from({ length: 24 }, (_, row) => data.subarray(row * dIn, (row + 1) * dIn))
  async function* slowly() {
    for (const piece of pieces) {
      await new Promise(resolve => setImmediate(resolve))
      yield piece
    }
  }

  test.each<[string, () => StatesInput]>([
    ['an array of rows', () => pieces],
    ['a generator', () => pieces.values()],
    ['an async generator', () => slowly()],
    ['a Node stream', () => Readable.from(slowly())],
    ['a web stream', () => ReadableStream.from(slowly())],
    ['rows as number[]', () => pieces.map(piece => [...piece]).values()],
    ['shaped rows', () => pieces.map(piece => ({ data: piece, shape: [dIn] }))],
    ['Arrow batches', () => pieces.map(piece => arrow(new Float32(), piece, dIn))],
    ['an Arrow column of chunks', () => [arrow(new Float32(), given.data, dIn, 4)]],
    [
      'half floats',
      () => pieces.map(piece => ({ data: half(piece), shape: [dIn], dtype: 'float16' as const })),
    ],
    [
      'one type of number after another',
      () =>
        pieces.map((piece, at) => {
          if (at % 3 === 0) return piece
          return at % 3 === 1
            ? { data: half(piece), shape: [1, dIn], dtype: 'float16' as const }
            : { data: Float64Array.from(piece), shape: [1, dIn] }
        }),
    ],
  ])('%s', async (_, input) => {
    expect(await weights(input())).toEqual(await weights(given))
  })

  test('rows in another order are other data', async () => {
    expect(await weights([...pieces].reverse())).not.toEqual(await weights(given))
  })

  test('with dIn an item may hold many rows', async () => {
    expect(await weights([given.data.subarray(0, 2 * dIn), given.data.subarray(2 * dIn)], { dIn })).toEqual(
      await weights(given),
    )
  })

  test('an item may be changed once the next one is asked for', async () => {
    const reusing = async function* () {
      const buffer = new Float32Array(dIn)
      for (const piece of pieces) {
        buffer.set(piece)
        yield buffer
        buffer.fill(Number.NaN)
      }
    }
    expect(await weights(reusing())).toEqual(await weights(given))
  })

  test.each<[string, (buffer: ArrayBuffer) => void]>([
    ['transferred', buffer => structuredClone(buffer, { transfer: [buffer] })],
    ['resized', buffer => (buffer as ArrayBuffer & { resize(to: number): void }).resize(4 * dIn)],
  ])('or be %s', async (_, takeAway) => {
    const ResizableBuffer = ArrayBuffer as new (bytes: number, options: object) => ArrayBuffer
    const giving = async function* () {
      const first = new Float32Array(new ResizableBuffer(8 * dIn, { maxByteLength: 8 * dIn }))
      first.set(data.subarray(0, 2 * dIn))
      yield { data: first, shape: [2, dIn] }
      takeAway(first.buffer)
      yield* pieces.slice(2)
    }
    expect(await weights(giving())).toEqual(await weights(given))
  })

  test('rows beyond the limit come from the disk as they went there', async () => {
    const large = rows(4096, 256)
    const all = await weights(large)
    // items of one row, of a little more than a mebibyte, and of whatever is left
    const cuts = [0, 1, 2, 1100, 1101, 2300, 2301, 4096]
    const items = cuts.slice(1).map((end, at) => {
      const values = large.data.subarray((cuts[at] as number) * 256, end * 256)
      const shape = [values.length / 256, 256]
      return at % 2 ? { data: half(values), shape, dtype: 'float16' as const } : { data: values, shape }
    })
    for (const memory of [0, 1.5 * 2 ** 20, 2 ** 30]) expect(await weights(items, { memory })).toEqual(all)
  })

  test('an item that is not finite, has other widths or no rows is named, whatever is on the disk by then', async () => {
    const width = 1 << 16
    const giving = async function* (last: unknown) {
      for (let item = 0; item < 37; item++) yield new Float32Array(width)
      yield last as Float32Array
      expect.fail('asked for more')
    }
    const bad = new Float32Array(8 * width)
    bad[5 * width + 2] = Number.NaN
    const refused = (last: unknown) => weights(giving(last), { memory: 0 })
    await expect(refused({ data: bad, shape: [8, width] })).rejects.toMatchObject({
      name: 'BaeError',
      code: 'NOT_FINITE',
      message: expect.stringMatching(/^data\[37\]: row 5, column 2 is NaN/),
    })
    await expect(refused(new Float32Array(width - 1))).rejects.toMatchObject({
      name: 'BaeError',
      code: 'SHAPE_MISMATCH',
      message: expect.stringMatching(
        /^data\[0\] has hidden states of width 65536, data\[37\] of width 65535;/,
      ),
    })
    await expect(refused({ data: new Float32Array(), shape: [0, width] })).rejects.toMatchObject({
      name: 'BaeError',
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/^data\[37\]: no hidden states in it, its shape is \[0, 65536\]/),
    })
  })

  test('an error of the producer arrives as it is', async () => {
    const error = new Error('the database is gone')
    const failing = async function* () {
      yield pieces[0]!
      throw error
    }
    await expect(toStates(failing(), {})).rejects.toBe(error)
  })

  test('an abort ends it also while rows are written', async () => {
    const controller = new AbortController()
    let returned = false
    const endless = async function* () {
      try {
        for (let item = 0; ; item++) {
          if (item === 5) queueMicrotask(() => controller.abort(new Error('enough')))
          yield new Float32Array(1 << 19)
        }
      } finally {
        returned = true
      }
    }
    const { signal } = controller
    await expect(toStates(endless(), { signal, memory: 0 })).rejects.toThrow('enough')
    expect(returned).toBe(true)
  })

  test('an abort ends the wait for an item that never comes, and tells the producer', async () => {
    const controller = new AbortController()
    let returned = false
    const hanging: AsyncIterable<Float32Array> = {
      [Symbol.asyncIterator]: () => ({
        next: () => new Promise(() => {}),
        return: async () => {
          returned = true
          return { done: true, value: undefined }
        },
      }),
    }
    const reason = new Error('enough')
    setTimeout(() => controller.abort(reason), 5)
    await expect(toStates(hanging, { signal: controller.signal })).rejects.toBe(reason)
    expect(returned).toBe(true)
  })
})

describe('paths', () => {
  test('go to the addon as they are', async () => {
    expect(await toStates('a/*.npy#x', {})).toMatchObject({ files: ['a/*.npy#x'] })
    expect(await toStates(['a', 'b'], {})).toMatchObject({ files: ['a', 'b'] })
    expect(await toStates(pathToFileURL('/a b/c.npy'), {})).toMatchObject({ files: ['/a b/c.npy'] })
    expect(await toStates(new Set(['a', 'b']), {})).toMatchObject({ files: ['a', 'b'] })
  })

  test('are not mixed with arrays', async () => {
    expect(await refusal(['a.npy', { data, shape }])).toMatchObject({ code: 'INVALID_ARGUMENT' })
    expect(await refusal([{ data, shape }, 'a.npy'])).toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: 'data[1]: files and rows in memory cannot be mixed in one call',
    })
  })
})

describe('what is refused', () => {
  const row = data.subarray(0, dIn)
  test.each<[string, unknown, { dIn?: number }, string, RegExp]>([
    ['rank 3', { data, shape: [2, 8, 256] }, {}, 'SHAPE_MISMATCH', /\[2, 8, 256\] has rank 3/],
    ['rank 3 as dims', { data, dims: [1, count, dIn], type: 'float32' }, {}, 'SHAPE_MISMATCH', /rank 3/],
    ['rank 3 as arrays', [[[1]]], {}, 'SHAPE_MISMATCH', /row 0 is an array of arrays/],
    ['rank 0', { data: row, shape: [] }, {}, 'SHAPE_MISMATCH', /rank 0/],
    [
      'a shape that needs more',
      { data, shape: [count + 1, dIn] },
      {},
      'SHAPE_MISMATCH',
      /needs 4112 values, the data has 4096/,
    ],
    ['a negative shape', { data, shape: [-1, dIn] }, {}, 'INVALID_ARGUMENT', /whole numbers/],
    [
      'no rows',
      { data: new Float32Array(), shape: [0, dIn] },
      {},
      'INVALID_ARGUMENT',
      /no hidden states.*\[0, 16\]/,
    ],
    ['no columns', { data: new Float32Array(), shape: [3, 0] }, {}, 'INVALID_ARGUMENT', /no hidden states/],
    ['an empty array', [], {}, 'INVALID_ARGUMENT', /no hidden states/],
    ['empty rows', [[], []], {}, 'INVALID_ARGUMENT', /no hidden states/],
    ['an empty typed array', new Float32Array(), { dIn }, 'INVALID_ARGUMENT', /no hidden states/],
    ['an empty series', new Set(), {}, 'INVALID_ARGUMENT', /no hidden states/],
    ['ragged rows', [[1, 2], [3, 4], [5]], {}, 'SHAPE_MISMATCH', /row 2 has 1 values, row 0 has 2/],
    [
      'a row that is none',
      [[1, 2], 'x'],
      {},
      'INVALID_ARGUMENT',
      /row 1: expected an array of numbers, not a string/,
    ],
    [
      'a value that is none',
      [
        [1, 2],
        [3, '4'],
      ],
      {},
      'INVALID_ARGUMENT',
      /row 1, column 1: expected a number, not a string/,
    ],
    ['a bigint', [[1n, 2n]], {}, 'UNSUPPORTED_FORMAT', /row 0, column 0: expected a number, not a bigint/],
    [
      'a typed array without dIn',
      data,
      {},
      'INVALID_ARGUMENT',
      /Float32Array does not say how long a row is; pass \{ dIn \}/,
    ],
    ['number[] without dIn', [1, 2, 3], {}, 'INVALID_ARGUMENT', /pass \{ dIn \}/],
    [
      'no whole number of rows',
      data,
      { dIn: 15 },
      'SHAPE_MISMATCH',
      /4096 values are no whole number of rows of 15/,
    ],
    ['dIn 0', data, { dIn: 0 }, 'INVALID_ARGUMENT', /dIn must be a whole number above 0, not 0/],
    ['dIn 1.5', data, { dIn: 1.5 }, 'INVALID_ARGUMENT', /not 1.5/],
    ['Uint16Array without dtype', { data: half(data), shape }, {}, 'INVALID_ARGUMENT', /dtype: 'float16'/],
    ['bare Uint16Array', half(data), { dIn }, 'INVALID_ARGUMENT', /dtype: 'float16'/],
    [
      'Uint16Array as float32',
      { data: half(data), shape, dtype: 'float32' },
      {},
      'UNSUPPORTED_FORMAT',
      /Uint16Array cannot hold float32/,
    ],
    [
      'Float32Array as float16',
      { data, shape, dtype: 'float16' },
      {},
      'UNSUPPORTED_FORMAT',
      /Float32Array cannot hold float16/,
    ],
    [
      'Int32Array',
      { data: new Int32Array(4), shape: [2, 2] },
      {},
      'UNSUPPORTED_FORMAT',
      /an Int32Array cannot be read/,
    ],
    [
      'BigInt64Array',
      { data: new BigInt64Array(4), dims: [2, 2], type: 'int64' },
      {},
      'UNSUPPORTED_FORMAT',
      /a BigInt64Array/,
    ],
    ['bytes', Buffer.alloc(16), { dIn: 4 }, 'UNSUPPORTED_FORMAT', /a Buffer cannot be read/],
    [
      'an Arrow column of int32',
      vectorFromArray([[1, 2]], new FixedSizeList(2, new Field('item', new Int32(), false))),
      {},
      'UNSUPPORTED_FORMAT',
      /Int32Array/,
    ],
    [
      'an Arrow column of lists of any length',
      vectorFromArray([[1, 2]], new List(new Field('item', new Float32(), false))),
      {},
      'UNSUPPORTED_FORMAT',
      /FixedSizeList/,
    ],
    [
      'an Arrow column with a null',
      vectorFromArray([[1, 2], null], new FixedSizeList(2, new Field('item', new Float32(), false))),
      {},
      'INVALID_ARGUMENT',
      /holds nulls/,
    ],
    [
      'an Arrow column with a null in a row',
      vectorFromArray([[1, null]], new FixedSizeList(2, new Field('item', new Float32(), true))),
      {},
      'INVALID_ARGUMENT',
      /holds nulls/,
    ],
    [
      'an empty Arrow column',
      vectorFromArray([], new FixedSizeList(2, new Field('item', new Float32(), false))),
      {},
      'INVALID_ARGUMENT',
      /no hidden states/,
    ],
    ['null', null, {}, 'INVALID_ARGUMENT', /null holds no hidden states/],
    ['undefined', undefined, {}, 'INVALID_ARGUMENT', /undefined holds no hidden states/],
    ['a number', 5, {}, 'INVALID_ARGUMENT', /a number holds no hidden states/],
    ['an object', { rows: 1 }, {}, 'INVALID_ARGUMENT', /an Object holds no hidden states/],
    [
      'something odd in a series',
      [{ data, shape }, {}],
      {},
      'INVALID_ARGUMENT',
      /data\[1\]: an Object holds no/,
    ],
  ])('%s', async (_, input, options, code, message) => {
    const error = await refusal(input, options)
    expect(error.message).toMatch(message)
    expect(error.code).toBe(code)
  })
})

describe('with a model, every input gives the same codes', () => {
  let model: BinaryAutoencoder
  let expected: Uint8Array
  beforeAll(async () => {
    model = (await train({ data, shape }, { steps: 5, dSae: 20, batchSize: 64, threads: 1 })).model
    expected = (await model.encode({ data, shape })).bytes
  })
  afterAll(() => model.dispose())

  test.each<[string, () => StatesInput]>([
    ['typed array, dIn of the model', () => data],
    ['number[][]', () => nested({ data, shape })],
    ['float16', () => ({ data: half(data), shape, dtype: 'float16' })],
    ['Float64Array', () => ({ data: Float64Array.from(data), shape })],
    ['tensor', () => ({ data, dims: shape, type: 'float32' })],
    ['Arrow', () => arrow(new Float32(), data, dIn, 4)],
    [
      'one row at a time',
      () => Array.from({ length: count }, (_, row) => data.subarray(row * dIn, (row + 1) * dIn)),
    ],
    [
      'shared memory',
      () => {
        const shared = new Float32Array(new SharedArrayBuffer(4 * data.length))
        shared.set(data)
        return { data: shared, shape }
      },
    ],
    [
      'a view with an offset',
      () => {
        const larger = new Float32Array(data.length + 3)
        larger.set(data, 3)
        return larger.subarray(3)
      },
    ],
    ['a safetensors file', () => writeRows(join(folder(), 'x.safetensors'), { data, shape })],
    ['a .npy file', () => writeNpy(join(folder(), 'x.npy'), { data, shape })],
    ['a file: URL', () => pathToFileURL(writeRows(join(folder(), 'x.safetensors'), { data, shape }))],
    [
      'a tensor of a file',
      () => `${writeRows(join(folder(), 'x.safetensors'), { data, shape }, 'layer.3')}#layer.3`,
    ],
    [
      'a folder and a glob of two files',
      () => {
        const dir = folder()
        const middle = 100 * dIn
        writeRows(join(dir, 'b.safetensors'), { data: data.subarray(middle), shape: [count - 100, dIn] })
        writeNpy(join(dir, 'a.npy'), { data: data.subarray(0, middle), shape: [100, dIn] } as Rows)
        writeFileSync(join(dir, 'notes.txt'), 'not data')
        return dir
      },
    ],
  ])('%s', async (_, input) => {
    using codes = await model.encode(input())
    expect(codes.rows).toBe(count)
    expect(codes.bytes).toEqual(expected)
  })

  test('a single row is a matrix of one', async () => {
    using codes = await model.encode({ data: data.subarray(0, dIn), shape: [dIn] })
    expect([codes.rows, codes.bytes]).toEqual([1, expected.subarray(0, 3)])
  })

  test('bfloat16', async () => {
    const bits = brain(data)
    const rounded = new Float32Array(Uint32Array.from(bits, each => each << 16).buffer)
    using codes = await model.encode({ data: bits, shape, dtype: 'bfloat16' })
    using same = await model.encode({ data: rounded, shape })
    expect(codes.bytes).toEqual(same.bytes)
  })

  test('rows of another width', async () => {
    await expect(model.encode({ data, shape: [512, 8] })).rejects.toMatchObject({
      code: 'SHAPE_MISMATCH',
      message: expect.stringMatching(/width 8.*width 16/),
    })
    await expect(model.encode(data.subarray(0, 17))).rejects.toMatchObject({ code: 'SHAPE_MISMATCH' })
  })

  test('parts of different width', async () => {
    const odd = [
      { data, shape },
      { data, shape: [512, 8] },
    ]
    await expect(model.encode(odd)).rejects.toMatchObject({
      code: 'SHAPE_MISMATCH',
      message: expect.stringContaining('data[1]'),
    })
  })

  test.each([Number.NaN, Infinity, -Infinity])('%s is named by part, row and column', async value => {
    const bad = data.slice()
    bad[7 * dIn + 3] = value
    const part = { data: bad.subarray(4 * dIn), shape: [count - 4, dIn] }
    await expect(
      model.encode([{ data: data.subarray(0, 4 * dIn), shape: [4, dIn] }, part]),
    ).rejects.toMatchObject({
      code: 'NOT_FINITE',
      message: expect.stringMatching(/data\[1\].*row 3, column 3/),
    })
  })

  test('a number that float32 cannot hold', async () => {
    await expect(model.encode([new Array(dIn).fill(1e300)])).rejects.toMatchObject({ code: 'NOT_FINITE' })
  })
})
