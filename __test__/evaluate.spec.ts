import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type BinaryAutoencoder, type RowsProgress, train } from '../src/index.js'
import { bae } from './cli/bae.js'
import { folder, type Rows, random, safetensors } from './data.js'

const dIn = 8
const count = 400
let home: string
let dir: string
let model: BinaryAutoencoder
let states: Rows
let path: string

beforeAll(async () => {
  home = folder({ keep: true })
  // switches along axes, each on in a quarter of the rows
  const next = random(5)
  const data = Float32Array.from({ length: count * dIn }, () => (next() < 0.25 ? 4 : 1))
  states = { data, shape: [count, dIn] }
  path = join(home, 'states.safetensors')
  const position = Int32Array.from({ length: count }, (_, row) => row % 3)
  writeFileSync(
    path,
    safetensors({
      hidden_states: { dtype: 'F32', shape: [count, dIn], data },
      position: { dtype: 'I32', shape: [count], data: position },
    }),
  )
  dir = join(home, 'model')
  model = (
    await train(states, {
      dSae: 24,
      steps: 300,
      learningRate: 0.01,
      batchSize: 64,
      threads: 1,
      device: 'cpu',
      out: dir,
    })
  ).model
})
afterAll(() => {
  model.dispose()
  rmSync(home, { recursive: true, force: true })
})

test('figures are those of the codes and the reconstruction', async () => {
  using codes = await model.encode(states)
  const back = await model.decode(codes)
  const report = await model.evaluate(states)
  const row = (of: Float32Array, at: number) => [...of.subarray(at * dIn, (at + 1) * dIn)]
  const dot = (one: number[], other: number[]) =>
    one.reduce((sum, value, i) => sum + value * (other[i] as number), 0)
  const less = (one: number[], other: number[]) => one.map((value, i) => value - (other[i] as number))
  const each = Array.from({ length: count }, (_, at) => ({ x: row(states.data, at), y: row(back.data, at) }))
  const mean = (of: (pair: { x: number[]; y: number[] }) => number) =>
    each.reduce((sum, pair) => sum + of(pair), 0) / count
  const middle = Array.from({ length: dIn }, (_, i) => mean(({ x }) => x[i] as number))
  const error = ({ x, y }: { x: number[]; y: number[] }) => dot(less(x, y), less(x, y))
  const apart = ({ x }: { x: number[] }) => dot(less(x, middle), less(x, middle))
  const fvu = mean(error) / (mean(({ x }) => dot(x, x)) - dot(middle, middle))
  const close = (value: number) => expect.closeTo(value, 6)
  expect(report).toMatchObject({
    rows: count,
    mse: close(mean(error) / dIn),
    fvu: close(fvu),
    explainedVariance: close(1 - fvu),
    explainedVarianceLegacy: close(mean(pair => 1 - error(pair) / apart(pair))),
    cosine: close(mean(({ x, y }) => dot(x, y) / Math.sqrt(dot(x, x) * dot(y, y)))),
    relativeBias: close(mean(({ y }) => dot(y, y)) / mean(({ x, y }) => dot(x, y))),
    rateBits: report.entropyBits,
    rateStep: null,
    missing: {},
  })
  expect((await model.entropy(states)).densityHistogram).toEqual(report.densityHistogram)
})

test('every score has its controls, and they are far from a model that finds what is there', async () => {
  const { controls, explainedVariance, l0, entropyBits } = await model.evaluate(states)
  expect(explainedVariance).toBeGreaterThan(0.9)
  const { meanPrediction, pca, shuffledCodes, frozenEncoder, frozenDecoder } = controls
  expect(meanPrediction).toMatchObject({ explainedVariance: expect.closeTo(0, 6), l0: null, rateBits: null })
  expect(pca?.rank).toBe(Math.min(dIn, Math.max(1, Math.round(l0))))
  expect(shuffledCodes).toMatchObject({ l0, entropyBits })
  expect(shuffledCodes?.explainedVariance).toBeLessThan(-0.5)
  expect(frozenEncoder).toMatchObject({ rows: 100, fitted: { rows: 300 } })
  expect(frozenDecoder).toMatchObject({ rows: 100, fitted: { rows: 300, steps: 96 } })
  for (const control of [frozenEncoder, frozenDecoder]) {
    expect(control?.explainedVariance).toBeLessThan(explainedVariance)
  }
})

test('the same figures on any number of threads', async () => {
  expect(await model.evaluate(states, { threads: 1 })).toEqual(await model.evaluate(states, { threads: 3 }))
})

test('one row: what cannot be had is named', async () => {
  const { controls, missing, fvu, mse } = await model.evaluate(states.data.subarray(0, dIn))
  expect([fvu, controls.meanPrediction.fvu]).toEqual([Number.NaN, Number.NaN])
  expect(mse).toBeGreaterThanOrEqual(0)
  expect(controls).toMatchObject({ pca: null, shuffledCodes: null, frozenEncoder: null, frozenDecoder: null })
  expect(Object.keys(missing).sort()).toEqual(['frozenDecoder', 'frozenEncoder', 'pca', 'shuffledCodes'])
})

test('progress goes to the end, and a call can be cut off', async () => {
  const seen: RowsProgress[] = []
  await model.evaluate(states, { onProgress: progress => seen.push(progress) })
  expect(seen.at(-1)).toEqual({ type: 'rows', rows: count, total: count })
  expect(seen.map(({ rows }) => rows)).toEqual(seen.map(({ rows }) => rows).sort((a, b) => a - b))
  const controller = new AbortController()
  const onProgress = ({ rows }: RowsProgress) => rows > 100 && controller.abort(new Error('enough'))
  await expect(model.evaluate(states, { signal: controller.signal, onProgress })).rejects.toThrow('enough')
})

describe('by groups', () => {
  test('each as if there were no others, with the controls that need no fitting', async () => {
    const report = await model.evaluate(path, { by: 'position' })
    expect(report).toMatchObject({ rows: count, by: 'position' })
    expect(report.groups?.map(({ value, rows }) => [value, rows])).toEqual([
      [0, 134],
      [1, 133],
      [2, 133],
    ])
    const { groups, by, ...all } = report
    expect(await model.evaluate(path)).toEqual(all)
    const { controls: alone, missing: none, ...figures } = await model.evaluate(path, { where: 'position=1' })
    const { value, controls, missing, ...ofGroup } = report.groups![1]!
    expect({ ...ofGroup, filteredRows: count - 133, invalidRows: 0 }).toEqual(figures)
    expect(none).toEqual({})
    expect(controls).toEqual({ ...alone, frozenEncoder: null, frozenDecoder: null })
    expect(missing.frozenDecoder).toMatch(/not to each group/)
  })

  test('what cannot be grouped is refused', async () => {
    await expect(model.evaluate(path, { by: 'layer' })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    await expect(model.evaluate(path, { by: 5 as never })).rejects.toThrow(
      /^by must be a string, not a number/,
    )
    const number = Int32Array.from({ length: count * 3 }, (_, row) => row)
    const many = join(home, 'many.safetensors')
    const data = new Float32Array(count * 3 * dIn)
    const shape = [count * 3, dIn]
    writeFileSync(
      many,
      safetensors({
        hidden_states: { dtype: 'F32', shape, data },
        token: { dtype: 'I32', shape: [count * 3], data: number },
      }),
    )
    await expect(model.evaluate(many, { by: 'token' })).rejects.toThrow(/more than 1024 groups/)
  })

  test('in words', async () => {
    const { status, stdout, stderr } = await bae(['evaluate', dir, path, '--by', 'position', '--quiet'])
    expect([status, stderr]).toEqual([0, ''])
    expect(stdout).toMatch(/^ +model +mean +PCA \(\d+\) +shuffled +frozen encoder +frozen decoder$/m)
    expect(stdout).toMatch(/^ {2}explained variance +[\d.]+ % +0\.0 % +[\d.]+ % +-[\d.]+ % /m)
    expect(stdout).toMatch(
      /^ {2}position +rows +model +mean +PCA +shuffled +L0 +rate, bits\n {2}0 +134 +[\d.]+ % /m,
    )
  })
})
