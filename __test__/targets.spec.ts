// Transcoders: what is made of hidden states is something else.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { BinaryAutoencoder, type TrainOptions, train } from '../src/index.js'
import { bae } from './cli/bae.js'
import { folder, type Rows, random, rows, safetensors, writeRows } from './data.js'

const SETTINGS: TrainOptions = { dSae: 24, epochs: 6, batchSize: 32, seed: 4, device: 'cpu', threads: 1 }

/** What a linear map makes of rows, in units of its own. */
function mapped({ data, shape: [count, dIn] }: Rows, dOut: number): Rows {
  const next = random(8)
  const map = Array.from({ length: dIn * dOut }, () => 50 * (next() - 0.5))
  const made = new Float32Array(count * dOut)
  for (let row = 0; row < count; row++) {
    for (let j = 0; j < dOut; j++) {
      let sum = 300
      for (let i = 0; i < dIn; i++) sum += (data[row * dIn + i] as number) * (map[i * dOut + j] as number)
      made[row * dOut + j] = sum
    }
  }
  return { data: made, shape: [count, dOut] }
}

const data = rows()
const target = mapped(data, 5)

describe('train with a target', () => {
  test('learns the map, saves a transcoder, and measures it by its targets', async () => {
    const out = join(folder(), 'run')
    const { model, result } = await train(data, { ...SETTINGS, target, out })
    await using trained = model
    expect(result.validation?.explainedVariance).toBeGreaterThan(0.9)
    expect([trained.dIn, trained.dOut]).toEqual([16, 5])
    expect(trained.config).toMatchObject({ architecture: 'bae_transcoder', d_in: 16, d_out: 5 })
    await using loaded = await BinaryAutoencoder.load(out)
    const report = await loaded.evaluate(data, { target })
    expect(report.explainedVariance).toBeGreaterThan(0.9)
    expect(report.controls.meanPrediction.explainedVariance).toBeCloseTo(0, 6)
    // the distance from the targets, by hand
    await using codes = await loaded.encode(data)
    const made = await loaded.decode(codes)
    expect(made.shape).toEqual([256, 5])
    const squares = made.data.reduce((sum, y, at) => sum + (y - (target.data[at] as number)) ** 2, 0)
    expect(report.mse).toBeCloseTo(squares / target.data.length, 3)
  })

  test('takes the target in any form', async () => {
    const dir = folder()
    const path = writeRows(join(dir, 'target.safetensors'), target)
    const halves = (given: Rows) => {
      const [count, width] = given.shape
      const cut = (count / 2) * width
      return [given.data.subarray(0, cut), given.data.subarray(cut)].map(part => ({
        data: part,
        shape: [count / 2, width],
      }))
    }
    const weights = async (input: Parameters<typeof train>[0], as: TrainOptions['target']) => {
      const { model, result } = await train(input, { ...SETTINGS, target: as })
      model.dispose()
      return result.train.mse
    }
    const expected = await weights(data, target)
    expect(await weights(data, path)).toBe(expected)
    expect(await weights(halves(data), halves(target))).toBe(expected)
    expect(await weights(writeRows(join(dir, 'data.safetensors'), data), halves(target))).toBe(expected)
  })

  test('refuses what does not belong together', async () => {
    const dir = folder()
    const start = (as: TrainOptions['target'], more: TrainOptions = {}) =>
      train(data, { ...SETTINGS, ...more, target: as })
    await expect(start(mapped(rows(255), 5))).rejects.toMatchObject({
      code: 'SHAPE_MISMATCH',
      message: expect.stringMatching(/256 rows.*target.*255/),
    })
    await expect(start({ data: [], shape: [0, 5] })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    const broken = { data: target.data.slice(), shape: target.shape }
    broken.data[5 * 7 + 2] = Number.NaN
    await expect(start(broken)).rejects.toMatchObject({
      code: 'NOT_FINITE',
      message: expect.stringMatching(/target.*row 7, column 2/),
    })
    const skipped = await start(broken, { skipInvalid: true })
    skipped.model.dispose()
    await expect(start(target, { normalize: 'layer-norm' })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    })
    const tensor = (made: Rows, sequence: (row: number) => number) => {
      const numbers = BigInt64Array.from({ length: made.shape[0] }, (_, row) => BigInt(sequence(row)))
      return safetensors({
        hidden_states: { dtype: 'F32', shape: made.shape, data: made.data },
        sequence: { dtype: 'I64', shape: [made.shape[0]], data: numbers },
      })
    }
    writeFileSync(
      join(dir, 'x.safetensors'),
      tensor(data, row => Math.floor(row / 4)),
    )
    writeFileSync(
      join(dir, 'y.safetensors'),
      tensor(target, row => Math.floor((row + 1) / 4)),
    )
    const x = join(dir, 'x.safetensors')
    await expect(train(x, { ...SETTINGS, target: join(dir, 'y.safetensors') })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/row 3 has sequence 0.*row 3, has 1/),
    })
  })

  test('an autoencoder takes no target, and a transcoder needs one', async () => {
    const { model: autoencoder } = await train(data, SETTINGS)
    await using plain = autoencoder
    await expect(plain.evaluate(data, { target })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    expect(plain.dOut).toBe(16)
    const { model } = await train(data, { ...SETTINGS, target })
    await using transcoder = model
    await expect(transcoder.evaluate(data)).rejects.toThrow(/transcoder: give target/)
    await expect(transcoder.evaluate(data, { target: mapped(data, 4) })).rejects.toMatchObject({
      code: 'SHAPE_MISMATCH',
    })
    await expect(transcoder.yardsticks(data)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  })
})

test('bae train --target and bae evaluate --target: from one layer of a dump to another', async () => {
  const dir = folder()
  const [count, width] = [200, 6]
  const from = rows(count, width)
  const to = mapped(from, width)
  const both = new Float32Array(count * 2 * width)
  for (let row = 0; row < count; row++) {
    both.set(from.data.subarray(row * width, (row + 1) * width), row * 2 * width)
    both.set(to.data.subarray(row * width, (row + 1) * width), (row * 2 + 1) * width)
  }
  const dump = join(dir, 'dump.safetensors')
  writeFileSync(dump, safetensors({ hidden: { dtype: 'F32', shape: [count, 2, width], data: both } }))
  const [x, y] = [`${dump}#hidden:layer=0`, `${dump}#hidden:layer=1`]
  const out = join(dir, 'run')
  const settings = ['--epochs', '20', '--batch-size', '32', '--device', 'cpu', '--threads', '1']
  const trained = await bae(['train', x, '--target', y, '--out', out, ...settings])
  expect(trained.status, trained.stderr).toBe(0)
  expect(trained.stdout).toContain('--target')
  const cfg = JSON.parse(readFileSync(join(out, 'cfg.json'), 'utf8'))
  expect(cfg).toMatchObject({ architecture: 'bae_transcoder', d_in: width, d_out: width })
  const measured = await bae(['evaluate', out, x, '--target', y, '--json'])
  expect(measured.status, measured.stderr).toBe(0)
  expect(JSON.parse(measured.stdout).explainedVariance).toBeGreaterThan(0.9)
  const without = await bae(['evaluate', out, x])
  expect([without.status, without.stderr]).toEqual([1, expect.stringContaining('transcoder')])
})
