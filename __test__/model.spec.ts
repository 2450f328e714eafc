import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, expectTypeOf, test } from 'vitest'
import {
  BaeError,
  BinaryAutoencoder,
  BinaryCodes,
  inspect,
  type Matrix,
  type RowsProgress,
  train,
} from '../src/index.js'
import { folder, framed, readSafetensors, rows, safetensors } from './data.js'

const data = rows(300)
const [count, dIn] = data.shape
const dSae = 27
let home: string
let saved: string
let model: BinaryAutoencoder

beforeAll(async () => {
  home = folder({ keep: true })
  saved = join(home, 'model')
  const options = { steps: 60, dSae, batchSize: 64, learningRate: 0.02, threads: 1, out: saved }
  model = (await train(data, options)).model
})
afterAll(() => {
  model.dispose()
  rmSync(home, { recursive: true, force: true })
})

/** The model as its file has it. */
function weights() {
  const { tensors } = readSafetensors(readFileSync(join(saved, 'sae_weights.safetensors')))
  const values = (name: string) => tensors[name]!.data as Float32Array
  return {
    tensors,
    wEnc: values('W_enc'),
    bEnc: values('b_enc'),
    wDec: values('W_dec'),
    bDec: values('b_dec'),
  }
}

test('the files are in the layout that sparse-autoencoder tools read', () => {
  const { tensors } = weights()
  const shapes = Object.fromEntries(
    Object.entries(tensors).map(([name, { dtype, shape }]) => [name, [dtype, shape]]),
  )
  expect(shapes).toEqual({
    W_enc: ['F32', [dIn, dSae]],
    b_enc: ['F32', [dSae]],
    W_dec: ['F32', [dSae, dIn]],
    b_dec: ['F32', [dIn]],
  })
  expect(JSON.parse(readFileSync(join(saved, 'cfg.json'), 'utf8'))).toMatchObject({
    architecture: 'bae',
    d_in: dIn,
    d_sae: dSae,
    dtype: 'float32',
    apply_b_dec_to_input: false,
    metadata: {},
  })
  expect(model.config).toMatchObject({ architecture: 'bae', d_in: dIn, d_sae: dSae })
})

test('the bits are those that the saved weights give on raw states', async () => {
  const { wEnc, bEnc } = weights()
  using codes = await model.encode(data)
  let decided = 0
  for (let row = 0; row < count; row++) {
    for (let j = 0; j < dSae; j++) {
      let a = bEnc[j]!
      for (let i = 0; i < dIn; i++) a += data.data[row * dIn + i]! * wEnc[i * dSae + j]!
      if (Math.abs(a) < 1e-4) continue
      decided++
      expect(codes.get(row, j)).toBe(a > 0)
    }
  }
  expect(decided).toBeGreaterThan(0.99 * count * dSae)
})

test('decoding adds up the rows of W_dec whose bit is set', async () => {
  const { wDec, bDec } = weights()
  using codes = await model.encode(data)
  const back = await model.decode(codes)
  expectTypeOf(back).toEqualTypeOf<Matrix>()
  expect(back.shape).toEqual([count, dIn])
  expect(back.data).toBeInstanceOf(Float32Array)
  for (const row of [0, 1, count - 1]) {
    for (let i = 0; i < dIn; i++) {
      let value = bDec[i]!
      for (const j of codes.active(row)) value += wDec[j * dIn + i]!
      expect(back.data[row * dIn + i]).toBeCloseTo(value, 3)
    }
  }
})

test('evaluate and entropy are what the codes and the reconstruction give', async () => {
  using codes = await model.encode(data)
  const back = await model.decode(codes)
  let [squared, total] = [0, 0]
  const means = Array.from({ length: dIn }, (_, i) => {
    let sum = 0
    for (let row = 0; row < count; row++) sum += data.data[row * dIn + i]!
    return sum / count
  })
  for (const [index, value] of data.data.entries()) {
    squared += (value - back.data[index]!) ** 2
    total += (value - means[index % dIn]!) ** 2
  }
  const ones = new Array<number>(dSae).fill(0)
  for (let row = 0; row < count; row++) for (const j of codes.active(row)) ones[j]!++
  const h = (p: number) => (p === 0 || p === 1 ? 0 : -p * Math.log2(p) - (1 - p) * Math.log2(1 - p))
  const counted = {
    rows: count,
    entropyBits: expect.closeTo(
      ones.reduce((sum, each) => sum + h(each / count), 0),
      6,
    ),
    l0: expect.closeTo(ones.reduce((sum, each) => sum + each, 0) / count, 9),
    density: expect.closeTo(ones.reduce((sum, each) => sum + each, 0) / count / dSae, 9),
    deadFraction: expect.closeTo(ones.filter(each => each === 0).length / dSae, 9),
    alwaysOnFraction: expect.closeTo(ones.filter(each => each === count).length / dSae, 9),
    denseFraction: expect.closeTo(ones.filter(each => each > count / 2).length / dSae, 9),
  }
  expect(await model.entropy(data)).toMatchObject({ ...counted, features: dSae })
  expect(await codes.entropy()).toEqual(await model.entropy(data))
  const evaluation = await model.evaluate(data)
  expect(evaluation).toMatchObject({
    ...counted,
    mse: expect.closeTo(squared / data.data.length, 4),
    explainedVariance: expect.closeTo(1 - squared / total, 4),
    fvu: expect.closeTo(squared / total, 4),
  })
})

test('threads change nothing', async () => {
  using one = await model.encode(data, { threads: 1 })
  using three = await model.encode(data, { threads: 3 })
  expect(three.bytes).toEqual(one.bytes)
  expect((await model.decode(one, { threads: 3 })).data).toEqual(
    (await model.decode(one, { threads: 1 })).data,
  )
})

test('progress is told, and a listener that throws is harmless', async () => {
  const seen: RowsProgress[] = []
  using _codes = await model.encode(data, { onProgress: progress => seen.push(progress) })
  expect(seen.at(-1)).toEqual({ type: 'rows', rows: count, total: count })
  const onProgress = () => {
    throw new Error('a broken listener')
  }
  await expect(model.evaluate(data, { onProgress })).resolves.toBeDefined()
})

test('codes by shape can be decoded', async () => {
  using codes = await model.encode(data)
  const back = await model.decode({ bytes: codes.bytes, rows: count, dSae })
  expect(back.data).toEqual((await model.decode(codes)).data)
  await expect(model.decode({ bytes: codes.bytes, rows: count, dSae: 28 })).rejects.toMatchObject({
    code: 'SHAPE_MISMATCH',
    message: expect.stringMatching(/28 bits.*27/),
  })
  await expect(model.decode({ bytes: codes.bytes.subarray(1), rows: count, dSae })).rejects.toMatchObject({
    code: 'SHAPE_MISMATCH',
  })
})

describe('saving and loading', () => {
  test('gives the same model', async () => {
    const dir = join(folder(), 'again')
    await model.save(dir)
    await using again = await BinaryAutoencoder.load(dir)
    expect([again.dIn, again.dSae]).toEqual([dIn, dSae])
    expect(readFileSync(join(dir, 'sae_weights.safetensors'))).toEqual(
      readFileSync(join(saved, 'sae_weights.safetensors')),
    )
    using codes = await again.encode(data)
    using expected = await model.encode(data)
    expect(codes.bytes).toEqual(expected.bytes)
  })

  test('does not overwrite unless asked, and leaves nothing beside', async () => {
    const dir = folder()
    const out = join(dir, 'm')
    await model.save(out)
    await expect(model.save(out)).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringMatching(/already holds a model/),
    })
    await model.save(out, { overwrite: true })
    expect(readdirSync(dir)).toEqual(['m'])
    expect(readdirSync(out).sort()).toEqual(['cfg.json', 'sae_weights.safetensors'])
  })

  test('below a file there is no folder', async () => {
    const file = join(folder(), 'file')
    writeFileSync(file, '')
    await expect(model.save(join(file, 'm'))).rejects.toMatchObject({ code: 'IO' })
    await expect(model.save(file, { overwrite: true })).rejects.toMatchObject({ code: 'IO' })
    expect(readFileSync(file, 'utf8')).toBe('')
  })

  const breaks: [string, (dir: string) => void, string[]][] = [
    ['nothing there', dir => rmSync(dir, { recursive: true }), ['IO']],
    ['no weights', dir => rmSync(join(dir, 'sae_weights.safetensors')), ['IO']],
    ['no configuration', dir => rmSync(join(dir, 'cfg.json')), ['IO']],
    ['a configuration that is no JSON', dir => writeFileSync(join(dir, 'cfg.json'), '{'), ['CORRUPT_FILE']],
    [
      'another architecture',
      dir =>
        writeFileSync(
          join(dir, 'cfg.json'),
          JSON.stringify({ architecture: 'resnet', d_in: dIn, d_sae: dSae }),
        ),
      ['UNSUPPORTED_FORMAT'],
    ],
    [
      'a configuration of another size',
      dir => {
        const config = JSON.parse(readFileSync(join(dir, 'cfg.json'), 'utf8'))
        writeFileSync(join(dir, 'cfg.json'), JSON.stringify({ ...config, d_sae: dSae + 1 }))
      },
      ['SHAPE_MISMATCH', 'CORRUPT_FILE'],
    ],
    [
      'truncated weights',
      dir => {
        const path = join(dir, 'sae_weights.safetensors')
        writeFileSync(path, readFileSync(path).subarray(0, -5))
      },
      ['CORRUPT_FILE'],
    ],
    [
      'a missing tensor',
      dir => {
        const data = new Float32Array(dIn * dSae)
        const file = safetensors({ W_enc: { dtype: 'F32', shape: [dIn, dSae], data } })
        writeFileSync(join(dir, 'sae_weights.safetensors'), file)
      },
      ['CORRUPT_FILE', 'UNSUPPORTED_FORMAT'],
    ],
    [
      'a header of endless length',
      dir => writeFileSync(join(dir, 'sae_weights.safetensors'), framed('{}', undefined, 2n ** 63n)),
      ['CORRUPT_FILE'],
    ],
  ]
  test.each(breaks)('a broken model: %s', async (_, damage, codes) => {
    const dir = join(folder(), 'm')
    await model.save(dir)
    damage(dir)
    const error = await BinaryAutoencoder.load(dir).catch(error => error)
    expect(error).toBeInstanceOf(BaeError)
    expect(codes).toContain(error.code)
    expect(error.message).toContain(dir)
  })

  test('an argument of the wrong type', async () => {
    await expect(BinaryAutoencoder.load(5 as never)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  })
})

describe('encoding into a file', () => {
  test('gives the codes of encode, in the layout of numpy.packbits', async () => {
    const dir = folder()
    const path = join(dir, 'codes.safetensors')
    expect(await model.encodeToFile(data, path, { model: 'm' })).toEqual({ rows: count, dSae, out: path })
    using codes = await model.encode(data)
    const { metadata, tensors } = readSafetensors(readFileSync(path))
    expect(metadata).toMatchObject({ rows: '300', d_sae: '27', model: 'm' })
    expect(tensors.codes).toEqual({ dtype: 'U8', shape: [count, 4], data: codes.bytes })
    expect(readdirSync(dir)).toEqual(['codes.safetensors'])
  })

  test('does not overwrite unless asked', async () => {
    const path = join(folder(), 'codes.safetensors')
    writeFileSync(path, 'mine')
    await expect(model.encodeToFile(data, path)).rejects.toMatchObject({ code: 'IO' })
    expect(readFileSync(path, 'utf8')).toBe('mine')
    await model.encodeToFile(data, path, { overwrite: true })
    expect(readFileSync(path).length).toBeGreaterThan(count * 4)
  })

  test('a failure in the middle leaves nothing', async () => {
    const dir = folder()
    const values = data.data.slice()
    values[values.length - 1] = Infinity
    const out = model.encodeToFile({ data: values, shape: data.shape }, join(dir, 'codes.safetensors'))
    await expect(out).rejects.toMatchObject({ code: 'NOT_FINITE' })
    expect(readdirSync(dir)).toEqual([])
  })

  test('a folder is no file', async () => {
    const dir = folder()
    mkdirSync(join(dir, 'codes'))
    await expect(model.encodeToFile(data, join(dir, 'codes'), { overwrite: true })).rejects.toMatchObject({
      code: 'IO',
    })
  })
})

describe('ending early', () => {
  // so many that the call is still under way when JavaScript hears of its first rows, on a busy machine too
  const large = rows(600_000)

  test('a signal aborted before', async () => {
    const reason = new Error('no')
    const signal = AbortSignal.abort(reason)
    await expect(model.encode(data, { signal })).rejects.toBe(reason)
    await expect(model.evaluate(data, { signal })).rejects.toBe(reason)
    await expect(model.save(join(folder(), 'm'), { signal })).rejects.toBe(reason)
    await expect(BinaryAutoencoder.load(saved, { signal })).rejects.toBe(reason)
  })

  test.each(['encode', 'evaluate', 'entropy'] as const)(
    'a signal aborted in the middle of %s',
    async method => {
      const controller = new AbortController()
      const work = model[method](large, {
        threads: 1,
        signal: controller.signal,
        onProgress: () => controller.abort(),
      })
      await expect(work).rejects.toMatchObject({ name: 'AbortError' })
    },
  )

  test('of encodeToFile nothing is left', async () => {
    const dir = folder()
    const controller = new AbortController()
    const work = model.encodeToFile(large, join(dir, 'codes.safetensors'), {
      signal: controller.signal,
      onProgress: () => controller.abort(),
    })
    await expect(work).rejects.toMatchObject({ name: 'AbortError' })
    expect(readdirSync(dir)).toEqual([])
  })
})

describe('disposing', () => {
  test('using it afterwards is an error, disposing twice is none', async () => {
    const again = await BinaryAutoencoder.load(saved)
    using codes = await again.encode(data)
    again.dispose()
    again.dispose()
    const disposed = expect.objectContaining({ code: 'DISPOSED', message: expect.stringMatching(/disposed/) })
    await expect(again.encode(data)).rejects.toEqual(disposed)
    await expect(again.decode(codes)).rejects.toEqual(disposed)
    await expect(again.entropy(data)).rejects.toEqual(disposed)
    await expect(again.evaluate(data)).rejects.toEqual(disposed)
    await expect(again.save(join(folder(), 'm'))).rejects.toEqual(disposed)
    expect([again.dIn, again.dSae]).toEqual([dIn, dSae])
  })

  test('a call under way ends well', async () => {
    const again = await BinaryAutoencoder.load(saved)
    const codes = again.encode(data)
    await new Promise(resolve => setImmediate(resolve))
    again.dispose()
    await expect(codes).resolves.toMatchObject({ rows: count })
  })
})

describe('arguments that are none', () => {
  const broken = { aborted: false, throwIfAborted() {}, addEventListener: 5, removeEventListener() {} }
  test.each<[string, () => Promise<unknown>, RegExp]>([
    ['load(5)', () => BinaryAutoencoder.load(5 as never), /^dir must be a path \(a string\), not a number$/],
    ['load()', () => BinaryAutoencoder.load(undefined as never), /^dir must be a path.*undefined$/],
    [
      'load(dir, null)',
      () => BinaryAutoencoder.load(saved, null as never),
      /^options must be an object.*null$/,
    ],
    ['save("")', () => model.save(''), /^dir must be a path.*not an empty string$/],
    ['save(dir, 5)', () => model.save('x', 5 as never), /^options must be an object.*a number$/],
    ['overwrite: 1', () => model.save('x', { overwrite: 1 as never }), /^overwrite must be a boolean/],
    ['inspect({})', () => inspect({} as never), /^path must be a path.*an Object$/],
    ['inspect(path, null)', () => inspect(saved, null as never), /^options must be/],
    ['decode(null)', () => model.decode(null as never), /^codes must be BinaryCodes or .*not null$/],
    ['decode(5)', () => model.decode(5 as never), /^codes must be BinaryCodes or .*not a number$/],
    [
      'decode without bytes',
      () => model.decode({ rows: 1, dSae } as never),
      /^bytes must be a Uint8Array, not undefined$/,
    ],
    ['encode(data, null)', () => model.encode(data, null as never), /^options must be/],
    ['encodeToFile(data, 5)', () => model.encodeToFile(data, 5 as never), /^path must be a path/],
    [
      'encodeToFile(data, path, null)',
      () => model.encodeToFile(data, 'x', null as never),
      /^options must be/,
    ],
    [
      'a name that is none',
      () => model.encodeToFile(data, 'x', { model: 5 as never }),
      /^model must be a string, not a number$/,
    ],
    ['BinaryCodes.load(null)', () => BinaryCodes.load(null as never), /^path must be a path.*null$/],
    ['a signal that is none', () => model.evaluate(data, { signal: 5 as never }), /^signal must be an Abort/],
    [
      'a signal that cannot be listened to',
      () => model.encode(data, { signal: broken as never }),
      /^signal must be an AbortSignal, not an Object$/,
    ],
    [
      'threads without a text of their own',
      () => model.encode(data, { threads: Object.create(null) }),
      /^threads must be a whole number/,
    ],
  ])('%s', async (_, call, message) => {
    await expect(call()).rejects.toMatchObject({
      name: 'BaeError',
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    })
  })

  test('a signal that fails in the middle fails the call, not the process', async () => {
    const failing = Object.assign(new EventTarget(), {
      aborted: false,
      throwIfAborted() {},
      removeEventListener() {
        throw new Error('a broken signal')
      },
    })
    await expect(model.encode(data, { signal: failing as never })).rejects.toMatchObject({
      code: 'INTERNAL',
      cause: { message: 'a broken signal' },
    })
  })
})

test('many calls may share one signal', async () => {
  const warnings: Error[] = []
  const listener = (warning: Error) => warnings.push(warning)
  process.on('warning', listener)
  const controller = new AbortController()
  const { signal } = controller
  const calls = Array.from({ length: 20 }, () => model.encode(data, { signal }))
  for (const codes of await Promise.all(calls)) codes.dispose()
  const endless = { epochs: 1_000_000, dSae, threads: 1, signal }
  const late = Array.from({ length: 12 }, () => train(data, endless).catch(error => error))
  controller.abort()
  for (const error of await Promise.all(late)) expect(error).toMatchObject({ name: 'AbortError' })
  await new Promise(resolve => setImmediate(resolve))
  process.off('warning', listener)
  expect(warnings).toEqual([])
})

test('rows that are all alike have no variance to explain: NaN', async () => {
  const alike = new Float32Array(3 * dIn).fill(1.5)
  for (const states of [alike, alike.subarray(dIn, 2 * dIn)]) {
    const { explainedVariance, fvu, mse } = await model.evaluate(states)
    expect([explainedVariance, fvu]).toEqual([Number.NaN, Number.NaN])
    expect(mse).toBeGreaterThanOrEqual(0)
    expect(explainedVariance.toFixed(2)).toBe('NaN')
  }
})

test.each([0, -1, 1.5, Number.NaN, '2', 1025])('threads %s is refused', async threads => {
  await expect(model.encode(data, { threads: threads as number })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
  })
})
