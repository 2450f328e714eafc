// Files as other programs write them: numpy, PyTorch and pyarrow made the fixtures (make.py beside them), and all hold the
// same hidden states. A training must not see a difference.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { BinaryAutoencoder, inspect, type StatesInput, type TrainSettings, train } from '../src/index.js'
import { folder } from './data.js'

const FIXTURES = join(import.meta.dirname, '..', 'crates', 'data', 'tests', 'fixtures')
const REQUESTS = join(import.meta.dirname, '..', 'examples', 'data', 'requests')

/** The 37 states of width 5 that make.py writes. */
const states = Float32Array.from(
  { length: 37 * 5 },
  (_, at) => (((Math.floor(at / 5) * 7 + (at % 5) * 3) % 64) - 32) / 8,
)

const SETTINGS: TrainSettings = { dSae: 12, steps: 12, batchSize: 8, seed: 2, device: 'cpu', threads: 1 }

/** The bytes of the model that these hidden states make. */
async function weights(data: StatesInput, more: Parameters<typeof train>[1] = {}): Promise<string> {
  const out = join(folder(), 'model')
  const { model } = await train(data, { ...SETTINGS, ...more, out })
  model.dispose()
  return readFileSync(join(out, 'sae_weights.safetensors')).toString('base64')
}

/** A safetensors file of one f32 tensor and integer columns. */
function safetensors(
  path: string,
  values: Float32Array,
  dIn: number,
  columns: Record<string, number[]>,
): void {
  const rows = values.length / dIn
  const header: Record<string, unknown> = {
    hidden_states: { dtype: 'F32', shape: [rows, dIn], data_offsets: [0, values.byteLength] },
  }
  const parts = [Buffer.from(values.buffer, values.byteOffset, values.byteLength)]
  let end = values.byteLength
  for (const [name, column] of Object.entries(columns)) {
    header[name] = { dtype: 'I64', shape: [rows], data_offsets: [end, end + 8 * rows] }
    end += 8 * rows
    parts.push(Buffer.from(BigInt64Array.from(column, BigInt).buffer))
  }
  const text = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  writeFileSync(path, Buffer.concat([length, text, ...parts]))
}

describe('the same training from every format', () => {
  const whole = { validationFraction: 0 }
  const files = readdirSync(FIXTURES).filter(
    name => !/refused|\.py$|^(layers|nested)\./.test(name) && /\.\w+$/.test(name),
  )

  test.each(files)('%s', async name => {
    const expected = await weights({ data: states, shape: [37, 5] }, whole)
    expect(await weights(join(FIXTURES, name), whole)).toBe(expected)
  })

  test('a layer of many', async () => {
    const expected = await weights({ data: states.map(value => value + 2), shape: [37, 5] }, whole)
    for (const name of ['layers.pt', 'layers.npz']) {
      expect(await weights(`${join(FIXTURES, name)}#:layer=2`, whole)).toBe(expected)
    }
  })

  test('sequences that a file knows are held out whole, in whatever format', async () => {
    const path = join(folder(), 'x.safetensors')
    safetensors(path, states, 5, {
      sequence_id: Array.from({ length: 37 }, (_, row) => Math.floor(row / 10)),
    })
    const expected = await weights(path)
    for (const name of ['stored.npz', 'dict.pt', 'fixed_f32.parquet', 'fixed_f32.arrow']) {
      expect([name, await weights(join(FIXTURES, name))]).toEqual([name, expected])
    }
    expect(await weights({ data: states, shape: [37, 5] })).not.toBe(expected)
  })

  test('the requests of a server, a folder of them, and a stream of their rows', async () => {
    const files = readdirSync(REQUESTS).filter(name => name.endsWith('.safetensors'))
    const rows: Float32Array[] = []
    const sequence: number[] = []
    for (const [number, name] of files.sort().entries()) {
      const bytes = readFileSync(join(REQUESTS, name))
      const length = Number(bytes.readBigUInt64LE(0))
      const { hidden_states } = JSON.parse(bytes.subarray(8, 8 + length).toString())
      const [tokens, layers, dIn] = hidden_states.shape
      const from = 8 + length + hidden_states.data_offsets[0]
      for (let token = 0; token < tokens; token++) {
        const at = from + 2 * dIn * (token * layers + 1)
        rows.push(Float32Array.from({ length: dIn }, (_, j) => fromHalf(bytes.readUInt16LE(at + 2 * j))))
        sequence.push(number)
      }
    }
    const all = new Float32Array(rows.length * 576)
    rows.forEach((row, at) => {
      all.set(row, at * 576)
    })
    const path = join(folder(), 'all.safetensors')
    safetensors(path, all, 576, { sequence })
    const more = { dSae: 100, batchSize: 32 }
    expect(await weights(`${REQUESTS}#hidden_states:layer=1`, more)).toBe(await weights(path, more))
    expect(await weights(Readable.from(rows), { ...more, ...whole })).toBe(
      await weights(path, { ...more, ...whole }),
    )
    await expect(weights(REQUESTS, more)).rejects.toMatchObject({
      code: 'SHAPE_MISMATCH',
      message: expect.stringMatching(/layer=0/),
    })
    expect(await inspect(`${REQUESTS}#hidden_states:layer=1`)).toMatchObject({ rows: rows.length, dIn: 576 })
  })
})

/** A float16 as a number. */
function fromHalf(bits: number): number {
  const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023]
  return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24)
}

describe('rows that are taken', () => {
  const parquet = join(FIXTURES, 'fixed_f32.parquet')
  const kept = (row: number) => row % 10 > 3 && (row * 11) % 50 !== 5

  test('where: the same as if there were no others', async () => {
    const rows = Array.from({ length: 37 }, (_, row) => row).filter(kept)
    const path = join(folder(), 'x.safetensors')
    const values = rows.flatMap(row => [...states.subarray(5 * row, 5 * row + 5)])
    safetensors(path, Float32Array.from(values), 5, { sequence: rows.map(row => Math.floor(row / 10)) })
    const where = ['position>3', 'token != 5']
    const expected = await weights(path)
    expect(await weights(parquet, { where })).toBe(expected)
    const out = join(folder(), 'model')
    const { model, result } = await train(parquet, { ...SETTINGS, where, out })
    const figures = await model.evaluate(path)
    expect(await model.evaluate(parquet, { where })).toEqual({
      ...figures,
      filteredRows: 37 - rows.length,
      invalidRows: 0,
    })
    expect(figures).not.toHaveProperty('filteredRows')
    expect((await model.encode(parquet, { where })).bytes).toEqual((await model.encode(path)).bytes)
    expect(await model.entropy(parquet, { where: 'position>3' })).toMatchObject({ rows: 21 })
    expect(result.validation?.rows).toBeLessThan(rows.length)
    expect(model.config.training).toMatchObject({ where })
  })

  test('what is no condition, or asks for what is not there', async () => {
    const fails = async (where: unknown, message: RegExp) =>
      expect(weights(parquet, { where } as never)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(message),
      })
    await fails('position', /'position' is no condition/)
    await fails('place>1', /there is no 'place'/)
    await fails('layer>1', /fixed_f32.parquet.* has no column layer, only .*position/)
    await fails(['position>30'], /none of the 37 rows is left/)
    await fails(3, /where must be a string/)
    await expect(weights({ data: states, shape: [37, 5] }, { where: 'sequence=1' })).rejects.toMatchObject({
      message: expect.stringMatching(/data has no column sequence/),
    })
  })

  test('skipInvalid leaves rows out that are not finite, of arrays and iterables too', async () => {
    const damaged = states.slice()
    damaged[5 * 8 + 3] = Number.NaN
    damaged[5 * 20] = Number.POSITIVE_INFINITY
    const without = Float32Array.from(
      [...states].filter((_, at) => Math.floor(at / 5) !== 8 && Math.floor(at / 5) !== 20),
    )
    const expected = await weights({ data: without, shape: [35, 5] })
    const array = { data: damaged, shape: [37, 5] }
    const starts: number[] = []
    const onEvent = (event: { type: string; invalidRows?: number }) => {
      if (event.type === 'start') starts.push(event.invalidRows ?? -1)
    }
    expect(await weights(array, { skipInvalid: true, onEvent })).toBe(expected)
    expect(await weights([array], { skipInvalid: true, onEvent })).toBe(expected)
    expect(starts).toEqual([2, 2])
    await expect(weights(array)).rejects.toMatchObject({
      code: 'NOT_FINITE',
      message: expect.stringMatching(/row 8, column 3 is NaN/),
    })
    const { model } = await train({ data: without, shape: [35, 5] }, SETTINGS)
    expect(await model.entropy(array, { skipInvalid: true })).toEqual({
      ...(await model.entropy({ data: without, shape: [35, 5] })),
      filteredRows: 0,
      invalidRows: 2,
    })
    await expect(model.entropy(array)).rejects.toMatchObject({ code: 'NOT_FINITE' })
  })
})

test('a model of layer-normalised rows takes raw ones and says what it does', async () => {
  const out = join(folder(), 'model')
  const { model, result } = await train(
    { data: states, shape: [37, 5] },
    { ...SETTINGS, normalize: 'layer-norm', entropyWeight: 1e-4, dSae: 30, validationFraction: 0, out },
  )
  expect(model.config).toMatchObject({ normalize_activations: 'layer_norm' })
  await using again = await BinaryAutoencoder.load(out)
  const figures = await again.evaluate({ data: states, shape: [37, 5] })
  expect(figures.mse).toBeCloseTo(result.train.mse, 9)
  expect(figures.explainedVariance).toBeGreaterThan(0.5)
  // another size and mean of a row change nothing
  const other = states.map((value, at) => 3 * value + Math.floor(at / 5))
  const [one, two] = [
    await again.encode({ data: states, shape: [37, 5] }),
    await again.encode({ data: other, shape: [37, 5] }),
  ]
  expect(two.bytes).toEqual(one.bytes)
})
