// Every way in which data, models and folders can be wrong: what the command says, its status, and that nothing
// half-written is left.
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type BaeErrorCode, train } from '../../src/index.js'
import { folder, framed, rows, safetensors, type Tensor, writeNpy, writeRows } from '../data.js'
import { bae } from './bae.js'

const good = rows()
const dIn = good.shape[1]
let home: string
let model: string

beforeAll(async () => {
  home = folder({ keep: true })
  model = join(home, 'model')
  ;(await train(good, { steps: 5, dSae: 20, batchSize: 64, out: model })).model.dispose()
})
afterAll(() => rmSync(home, { recursive: true, force: true }))

const tensor = (
  dtype: string,
  shape: number[],
  data: ArrayBufferView,
  name = 'x',
): Record<string, Tensor> => ({
  [name]: { dtype, shape, data },
})
const spoilt = (value: number) => {
  const data = good.data.slice()
  data[70 * dIn + 5] = value
  return data
}
const header = (text: string, body = Buffer.alloc(64)) => framed(text, body)
const f32 = (from: number, to: number, shape = '[4, 4]') =>
  `{"x":{"dtype":"F32","shape":${shape},"data_offsets":[${from},${to}]}}`

type Case = [
  name: string,
  file: string,
  content: Buffer | (() => Buffer),
  code: BaeErrorCode | BaeErrorCode[],
  message: RegExp,
]
const cases: Case[] = [
  [
    'NaN',
    'x.safetensors',
    safetensors(tensor('F32', good.shape, spoilt(Number.NaN))),
    'NOT_FINITE',
    /x\.safetensors.*x.*row 70, column 5 is NaN/,
  ],
  [
    'infinity',
    'x.safetensors',
    safetensors(tensor('F32', good.shape, spoilt(Infinity))),
    'NOT_FINITE',
    /row 70, column 5 is inf/,
  ],
  [
    'minus infinity',
    'x.safetensors',
    safetensors(tensor('F32', good.shape, spoilt(-Infinity))),
    'NOT_FINITE',
    /row 70, column 5 is -inf/,
  ],
  [
    'zero rows',
    'x.safetensors',
    safetensors(tensor('F32', [0, dIn], new Float32Array())),
    'INVALID_ARGUMENT',
    /no rows/,
  ],
  [
    'zero columns',
    'x.safetensors',
    safetensors(tensor('F32', [4, 0], new Float32Array())),
    ['SHAPE_MISMATCH', 'INVALID_ARGUMENT'],
    /x\.safetensors/,
  ],
  [
    'rank 4',
    'x.safetensors',
    safetensors(tensor('F32', [2, 2, 2, 2], new Float32Array(16), 'hidden_states')),
    'SHAPE_MISMATCH',
    /hidden_states has shape \[2, 2, 2, 2\]/,
  ],
  [
    'rank 1',
    'x.safetensors',
    safetensors(tensor('F32', [16], new Float32Array(16), 'hidden_states')),
    'SHAPE_MISMATCH',
    /hidden_states has shape \[16\]/,
  ],
  [
    'nothing of rank 2',
    'x.safetensors',
    safetensors(tensor('F32', [2, 2, 2, 2], new Float32Array(16))),
    'SHAPE_MISMATCH',
    /x has shape \[2, 2, 2, 2\]/,
  ],
  [
    'integers',
    'x.safetensors',
    safetensors(tensor('I64', [4, 4], new BigInt64Array(16))),
    'UNSUPPORTED_FORMAT',
    /I64/i,
  ],
  ['nothing in it', 'x.safetensors', Buffer.alloc(0), 'CORRUPT_FILE', /x\.safetensors/],
  ['seven bytes', 'x.safetensors', Buffer.alloc(7), 'CORRUPT_FILE', /x\.safetensors/],
  [
    'truncated data',
    'x.safetensors',
    safetensors(tensor('F32', good.shape, good.data)).subarray(0, -3),
    'CORRUPT_FILE',
    /x\.safetensors/,
  ],
  [
    'truncated header',
    'x.safetensors',
    safetensors(tensor('F32', good.shape, good.data)).subarray(0, 30),
    'CORRUPT_FILE',
    /x\.safetensors/,
  ],
  [
    'data past the tensors',
    'x.safetensors',
    header(f32(0, 64), Buffer.alloc(65)),
    'CORRUPT_FILE',
    /x\.safetensors/,
  ],
  [
    'a header of endless length',
    'x.safetensors',
    framed('{}', undefined, 2n ** 64n - 1n),
    'CORRUPT_FILE',
    /x\.safetensors/,
  ],
  [
    'a header longer than the file',
    'x.safetensors',
    framed('{}', undefined, 3n),
    'CORRUPT_FILE',
    /x\.safetensors/,
  ],
  ['a header that is no JSON', 'x.safetensors', header('{"x":'), 'CORRUPT_FILE', /x\.safetensors/],
  [
    'a header that is no UTF-8',
    'x.safetensors',
    Buffer.concat([framed('', undefined, 2n), Buffer.from([0xff, 0xfe])]),
    'CORRUPT_FILE',
    /x\.safetensors/,
  ],
  [
    'a header nested without end',
    'x.safetensors',
    () => header('['.repeat(200_000)),
    'CORRUPT_FILE',
    /x\.safetensors/,
  ],
  ['offsets past the end', 'x.safetensors', header(f32(64, 128)), 'CORRUPT_FILE', /x\.safetensors/],
  ['offsets backwards', 'x.safetensors', header(f32(64, 0)), 'CORRUPT_FILE', /x\.safetensors/],
  [
    'offsets that do not fit the shape',
    'x.safetensors',
    header(f32(0, 64, '[5, 4]')),
    'CORRUPT_FILE',
    /x\.safetensors/,
  ],
  [
    'a shape that overflows',
    'x.safetensors',
    header(f32(0, 64, '[9223372036854775807, 9223372036854775807]')),
    'CORRUPT_FILE',
    /x\.safetensors/,
  ],
  ['a negative shape', 'x.safetensors', header(f32(0, 64, '[-4, -4]')), 'CORRUPT_FILE', /x\.safetensors/],
  [
    'two tensors, none named',
    'x.safetensors',
    safetensors({
      ...tensor('F32', [2, 2], new Float32Array(4)),
      y: { dtype: 'F32', shape: [2, 2], data: new Float32Array(4) },
    }),
    ['UNSUPPORTED_FORMAT', 'INVALID_ARGUMENT'],
    /#/,
  ],
  ['no npy', 'x.npy', Buffer.from('hello, world'), 'CORRUPT_FILE', /x\.npy/],
  [
    'pickled npy',
    'x.npy',
    Buffer.concat([
      Buffer.from([0x93, ...Buffer.from('NUMPY'), 1, 0, 118, 0]),
      Buffer.from(`${"{'descr': '|O', 'fortran_order': False, 'shape': (4, 4), }".padEnd(117)}\n`),
      Buffer.alloc(128),
    ]),
    'UNSUPPORTED_FORMAT',
    /x\.npy/,
  ],
  ['another kind of file', 'x.csv', Buffer.from('1,2\n3,4\n'), 'UNSUPPORTED_FORMAT', /x\.csv/],
]

describe.each(cases)('%s', (_, file, content, codes, message) => {
  /** One line, one document, one status; and the folder as it was. */
  async function refused(command: (data: string) => string[]) {
    const dir = folder()
    writeFileSync(join(dir, file), typeof content === 'function' ? content() : content)
    const { status, stdout, stderr } = await bae([...command(file), '--json'], dir)
    expect(stderr.split('\n').filter(line => !line.startsWith('training '))).toEqual([
      expect.stringMatching(/^bae: /),
      '',
    ])
    expect(stderr).toMatch(message)
    const { error } = JSON.parse(stdout)
    expect([codes].flat()).toContain(error.code)
    expect(stderr).toContain(`bae: ${error.message}\n`)
    expect(status).toBe(1)
    expect(readdirSync(dir)).toEqual([file])
  }

  test('train', () =>
    refused(data => ['train', data, '--out', 'run', '--steps', '100', '--batch-size', '64', '--d-sae', '20']))
  test('encode', () => refused(data => ['encode', model, data, '--out', 'codes.safetensors']))
})

/** As above, for arrangements of several files. */
async function fails(dir: string, args: string[], code: BaeErrorCode, message: RegExp) {
  const before = readdirSync(dir, { recursive: true }).sort()
  const { status, stdout, stderr } = await bae([...args, '--json', '--quiet'], dir)
  expect(stderr).toMatch(/^bae: [^\n]+\n$/)
  expect(stderr).toMatch(message)
  expect(JSON.parse(stdout).error).toEqual({ code, message: stderr.slice(5, -1) })
  expect(status).toBe(1)
  expect(readdirSync(dir, { recursive: true }).sort()).toEqual(before)
}

const QUICK = ['--steps', '5', '--batch-size', '64', '--d-sae', '20']

test('one row cannot be trained on', async () => {
  const dir = folder()
  writeRows(join(dir, 'x.safetensors'), { data: good.data.subarray(0, dIn), shape: [1, dIn] })
  await fails(dir, ['train', 'x.safetensors', '--out', 'run'], 'INVALID_ARGUMENT', /1 row/)
})

test('files of different width', async () => {
  const dir = folder()
  writeRows(join(dir, 'a.safetensors'), good)
  writeNpy(join(dir, 'b.npy'), rows(10, 8))
  const message = /a\.safetensors.*width 16.*b\.npy.*width 8/
  await fails(dir, ['train', 'a.safetensors', 'b.npy', '--out', 'run', ...QUICK], 'SHAPE_MISMATCH', message)
  await fails(dir, ['evaluate', model, '*'], 'SHAPE_MISMATCH', message)
})

test('a model that takes another width', async () => {
  const dir = folder()
  writeRows(join(dir, 'x.safetensors'), rows(10, 8))
  for (const command of ['evaluate', 'entropy']) {
    await fails(dir, [command, model, 'x.safetensors'], 'SHAPE_MISMATCH', /width 8.*width 16/)
  }
  await fails(
    dir,
    ['encode', model, 'x.safetensors', '--out', 'c.safetensors'],
    'SHAPE_MISMATCH',
    /width 8.*width 16/,
  )
})

test('no such file, pattern, tensor or model', async () => {
  const dir = folder()
  writeRows(join(dir, 'x.safetensors'), good)
  await fails(dir, ['train', 'y.safetensors', '--out', 'run'], 'IO', /y\.safetensors/)
  await fails(dir, ['train', '*.npy', '--out', 'run'], 'INVALID_ARGUMENT', /\*\.npy/)
  await fails(
    dir,
    ['train', 'x.safetensors#layer.9', '--out', 'run'],
    'INVALID_ARGUMENT',
    /layer\.9.*hidden_states/,
  )
  await fails(dir, ['evaluate', 'nowhere', 'x.safetensors'], 'IO', /nowhere/)
  await fails(dir, ['inspect', 'nowhere'], 'IO', /nowhere/)
})

describe('where the result cannot go', () => {
  test('below a file', async () => {
    const dir = folder()
    writeRows(join(dir, 'x.safetensors'), good)
    writeFileSync(join(dir, 'file'), 'mine')
    await fails(dir, ['train', 'x.safetensors', '--out', 'file/run', ...QUICK], 'IO', /file\/run/)
    await fails(dir, ['train', 'x.safetensors', '--out', 'file', ...QUICK], 'IO', /file/)
    await fails(dir, ['train', 'x.safetensors', '--out', 'file', '--overwrite', ...QUICK], 'IO', /file/)
    await fails(dir, ['encode', model, 'x.safetensors', '--out', 'file/codes'], 'IO', /file\/codes/)
    expect(readFileSync(join(dir, 'file'), 'utf8')).toBe('mine')
  })

  test('a folder that already holds a model', async () => {
    const dir = folder()
    writeRows(join(dir, 'x.safetensors'), good)
    const once = ['train', 'x.safetensors', '--out', 'run', ...QUICK]
    expect((await bae(once, dir)).status).toBe(0)
    const before = readFileSync(join(dir, 'run', 'sae_weights.safetensors'))
    await fails(dir, [...once, '--seed', '3'], 'IO', /already holds a model.*--overwrite/)
    expect(readFileSync(join(dir, 'run', 'sae_weights.safetensors'))).toEqual(before)
    expect((await bae([...once, '--seed', '3', '--overwrite'], dir)).status).toBe(0)
    expect(readFileSync(join(dir, 'run', 'sae_weights.safetensors'))).not.toEqual(before)
    expect(readdirSync(dir).sort()).toEqual(['run', 'x.safetensors'])
  })

  test('a folder with other files in it', async () => {
    const dir = folder()
    writeRows(join(dir, 'x.safetensors'), good)
    await fails(dir, ['train', 'x.safetensors', '--out', '.', ...QUICK], 'IO', /already holds other files/)
  })
})

test('a device that is not there', async () => {
  const dir = folder()
  writeRows(join(dir, 'x.safetensors'), good)
  await fails(
    dir,
    ['train', 'x.safetensors', '--out', 'run', '--device', 'no such card'],
    'DEVICE_UNAVAILABLE',
    /no such card.*auto, cpu, gpu/,
  )
})
