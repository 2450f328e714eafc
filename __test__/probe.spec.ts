import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, expectTypeOf, test } from 'vitest'
import {
  type BinaryAutoencoder,
  type ProbeOptions,
  type ProbeReport,
  probesOverModels,
  type RowsProgress,
  train,
} from '../src/index.js'
import { bae } from './cli/bae.js'
import { folder, nested, random, rows, safetensors, writeNpy, writeRows } from './data.js'

const data = rows(300)
const [count] = data.shape
const QUICK = { splits: 2, threads: 1 }
const ICL = join(import.meta.dirname, '..', 'examples', 'data', 'icl')
let home: string
let saved: string
let model: BinaryAutoencoder
/** What feature 3, or the first that varies, says of each row. */
let bits: number[]
let feature: number

beforeAll(async () => {
  home = folder({ keep: true })
  saved = join(home, 'model')
  const options = { steps: 60, dSae: 27, batchSize: 64, learningRate: 0.02, threads: 1, out: saved }
  model = (await train(data, options)).model
  using codes = await model.encode(data)
  const column = (j: number) => Array.from({ length: count }, (_, row) => Number(codes.get(row, j)))
  const share = (j: number) => column(j).reduce((sum, bit) => sum + bit, 0) / count
  feature = Array.from({ length: 27 }, (_, j) => j).find(j => share(j) > 0.2 && share(j) < 0.8) as number
  bits = column(feature)
})
afterAll(() => {
  model.dispose()
  rmSync(home, { recursive: true, force: true })
})

test('a feature that is the label is found, beside controls that know nothing', async () => {
  const report = await model.probe(data, { label: bits, ...QUICK })
  expectTypeOf(report).toEqualTypeOf<ProbeReport>()
  expect(report).toMatchObject({
    label: null,
    rows: count,
    labelledRows: count,
    unlabelledRows: 0,
    splits: 2,
    splitBy: 'row',
    seed: 0,
    leftOut: [],
  })
  const [one] = report.classes
  expect(report.classes).toHaveLength(1)
  expect([one?.value, one?.rows]).toEqual([1, bits.filter(bit => bit === 1).length])
  expect(one?.sparse.map(({ k }) => k)).toEqual([1, 2, 5])
  const perfect = { mean: 1, deviation: 0 }
  for (const sparse of one?.sparse ?? [])
    expect(sparse).toMatchObject({ balancedAccuracy: perfect, auc: perfect })
  expect(one?.hiddenStates.auc.mean).toBeGreaterThan(0.9)
  // the same question: the mean over classes is that of the one class
  expect(report.mean.dense).toEqual(one?.dense)
})

test('strings, truths and gaps are labels, in the order of their values', async () => {
  const names = bits.map((bit, row) => (row < 7 ? null : row % 3 === 0 ? true : bit === 1 ? 'on' : 'off'))
  const report = await model.probe(nested(data), { label: names, ...QUICK })
  expect(report.classes.map(({ value }) => value)).toEqual(['off', 'on', 'true'])
  expect([report.rows, report.unlabelledRows]).toEqual([count - 7, 7])
})

test('the same seed gives the same figures on one thread and on two, and another one others', async () => {
  const next = random(5)
  const label = bits.map(bit => (next() < 0.3 ? 1 - bit : bit))
  const one = await model.probe(data, { label, ...QUICK })
  expect(await model.probe(data, { label, ...QUICK, threads: 2 })).toEqual(one)
  expect((await model.probe(data, { label, ...QUICK, seed: 1 })).mean).not.toEqual(one.mean)
})

describe('labels in files', () => {
  const files = (name: string) => {
    const path = writeRows(join(home, `${name}.safetensors`), data)
    return { path, labels: (extension: string) => join(home, `${name}.labels.${extension}`) }
  }

  test('a line, a tensor and an array say the same', async () => {
    const { path, labels } = files('same')
    const expected = await model.probe(data, { label: bits, ...QUICK })
    writeFileSync(labels('jsonl'), bits.map(bit => `${JSON.stringify({ word: 'x', bit })}\n`).join(''))
    const tensor = { dtype: 'U8', shape: [count], data: Uint8Array.from(bits) }
    writeFileSync(labels('safetensors'), safetensors({ bit: tensor }))
    const text = `{'descr': '|u1', 'fortran_order': False, 'shape': (${count},), }`.padEnd(117)
    const header = Buffer.from([0x93, ...Buffer.from('NUMPY'), 1, 0, 118, 0, ...Buffer.from(`${text}\n`)])
    writeFileSync(labels('npy'), Buffer.concat([header, Uint8Array.from(bits)]))
    for (const label of [`${labels('jsonl')}#bit`, `${labels('safetensors')}#bit`, labels('npy')]) {
      expect(await model.probe(path, { label, ...QUICK })).toEqual({ ...expected, label })
    }
  })

  test('a column of the data is a label, and rows are chosen by any', async () => {
    const path = join(home, 'grouped.safetensors')
    const group = Int32Array.from(bits, (bit, row) => (row % 5 === 0 ? 9 : bit))
    writeFileSync(
      path,
      safetensors({
        hidden_states: { dtype: 'F32', shape: data.shape, data: data.data },
        group: { dtype: 'I32', shape: [count], data: group },
      }),
    )
    const report = await model.probe(path, { label: 'group', where: ['group!=9'], ...QUICK })
    expect(report).toMatchObject({ rows: 240, filteredRows: 60, label: 'group', leftOut: [] })
    expect(report.classes[0]?.sparse[0]?.features).toEqual([{ feature, splits: 2 }])
  })

  test('what is not there is refused with what is', async () => {
    const { path, labels } = files('absent')
    writeFileSync(labels('jsonl'), '{"word":"x"}\n'.repeat(count))
    writeNpy(labels('npy'), { data: data.data.subarray(0, count), shape: [count, 1] })
    for (const [label, code, message] of [
      ['lexname', 'INVALID_ARGUMENT', /no label 'lexname': the data has no columns/],
      ['group', 'INVALID_ARGUMENT', /no column group/],
      [`${labels('jsonl')}#bit`, 'INVALID_ARGUMENT', /no field bit in any line; the first has word/],
      [`${path}#bit`, 'INVALID_ARGUMENT', /no tensor bit; it holds hidden_states/],
      [`${path}#hidden_states`, 'UNSUPPORTED_FORMAT', /does not hold whole numbers/],
      [labels('npy'), 'UNSUPPORTED_FORMAT', /does not hold whole numbers/],
      [`${join(home, 'none.jsonl')}#x`, 'IO', /none\.jsonl/],
      [`${join(ICL, 'prompts_k00.jsonl')}#label`, 'SHAPE_MISMATCH', /256 lines, the data has 300 rows/],
    ] as const) {
      const refused = model.probe(path, { label, ...QUICK })
      await expect(refused, label).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
    }
  })
})

test('what cannot be probed is refused', async () => {
  const labels = (of: (row: number) => unknown) =>
    ({ label: Array.from({ length: count }, (_, row) => of(row)) }) as unknown as ProbeOptions
  for (const [options, code, message] of [
    [labels(() => 'all'), 'INVALID_ARGUMENT', /all 300 rows with a label have the same one, all/],
    [labels(() => null), 'INVALID_ARGUMENT', /none of the rows has a label/],
    [labels(row => row), 'INVALID_ARGUMENT', /300 values, more than 50/],
    [labels(row => row / 2), 'INVALID_ARGUMENT', /label, row 1 is 0\.5/],
    [labels(row => [row]), 'INVALID_ARGUMENT', /label, row 0 is an Array/],
    [{ label: [1, 2] }, 'SHAPE_MISMATCH', /labels for 2 rows, the data has 300/],
    [{ label: 7 as never }, 'INVALID_ARGUMENT', /label must name a column/],
    [{ label: bits, splits: 101 }, 'INVALID_ARGUMENT', /splits must be at most 100/],
    [{ label: bits, rows: 0 }, 'INVALID_ARGUMENT', /rows must be a whole number above 0/],
    [{ label: bits, seed: -1 }, 'INVALID_ARGUMENT', /seed must be a whole number of at least 0, not -1/],
    [undefined as never, 'INVALID_ARGUMENT', /options must be an object/],
  ] as [ProbeOptions, string, RegExp][]) {
    const refused = model.probe(data, options)
    await expect(refused, String(message)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    })
  }
})

test('it says how far it is, and ends when it is told to', async () => {
  const seen: RowsProgress[] = []
  await model.probe(data, { label: bits, ...QUICK, onProgress: progress => seen.push(progress) })
  expect(seen.at(-1)).toEqual({ type: 'rows', rows: 3 * count, total: 3 * count })
  const controller = new AbortController()
  const onProgress = () => controller.abort()
  const stopped = model.probe(data, { label: bits, splits: 100, signal: controller.signal, onProgress })
  await expect(stopped).rejects.toMatchObject({ name: 'AbortError' })
})

test('over models, figures are those of their means', async () => {
  const label = bits.map((bit, row) => (row % 4 === 0 ? 1 - bit : bit))
  const [a, b] = [
    await model.probe(data, { label, ...QUICK }),
    await model.probe(data, { label, ...QUICK, rows: 300 }),
  ]
  const moved = structuredClone(b)
  moved.mean.dense.auc.mean += 0.1
  const over = probesOverModels([a, moved])
  expect(over.dense.auc.mean).toBeCloseTo(a.mean.dense.auc.mean + 0.05, 12)
  expect(over.dense.auc.deviation).toBeCloseTo(0.1 / Math.SQRT2, 12)
  expect(over.sparse[1]).toMatchObject({ k: 2, random: { auc: { deviation: 0 } } })
  expect(() => probesOverModels([])).toThrow('no reports given')
  expect(() => probesOverModels([a, { ...b, seed: 3 }])).toThrow('seed is 0 and 3')
})

describe('bae probe', () => {
  const states = join(ICL, 'layer20_k16.safetensors')
  const label = `${join(ICL, 'prompts_k16.jsonl')}#label`
  let words: string

  beforeAll(async () => {
    words = join(home, 'words')
    const { model } = await train(states, { steps: 40, dSae: 64, threads: 1, out: words })
    model.dispose()
  })

  test('the class of a word is in the hidden states of a prompt that asks for it', async () => {
    const args = ['probe', words, states, '--label', label, '--splits', '2', '--quiet']
    const { status, stdout, stderr } = await bae([...args, '--json', '--reseeded', words])
    expect([status, stderr]).toEqual([0, ''])
    const report = JSON.parse(stdout)
    const lines = readFileSync(join(ICL, 'prompts_k16.jsonl'), 'utf8').trim().split('\n')
    const classes = new Set(lines.map(line => JSON.parse(line).label))
    expect(report.classes.map(({ value }: { value: string }) => value)).toEqual([...classes].sort())
    expect(report.mean.hiddenStates.auc.mean).toBeGreaterThan(
      report.mean.hiddenStates.shuffled.auc.mean + 0.15,
    )
    expect(report.overModels.models).toEqual([words, words].map(model => ({ model, mean: report.mean })))
    expect(report.overModels.mean.sparse[0].auc).toEqual({
      mean: report.mean.sparse[0].auc.mean,
      deviation: 0,
    })
  })

  test('prints each score beside its controls', async () => {
    const { status, stdout } = await bae([
      'probe',
      words,
      states,
      '--label',
      label,
      '--splits',
      '1',
      '--quiet',
    ])
    expect(status).toBe(0)
    expect(stdout).toMatch(/256 rows; 1 random split, 20\.0 % of the rows to test on/)
    expect(stdout).toMatch(
      /mean over 8 classes.* balanced accuracy .*AUC, shuffled labels .*AUC, random features/,
    )
    expect(stdout).toMatch(/^ {2}5 features( +0\.\d{3}){4}$/m)
    expect(stdout).toMatch(/^ {2}hidden states( +0\.\d{3}){3}$/m)
    expect(stdout).toMatch(/^ {2}animal +32 +\d+ \(1\/1\)( +0\.\d{3} \(0\.\d{3}\)){6}$/m)
  })

  test('wants a label', async () => {
    const { status, stderr } = await bae(['probe', saved, states])
    expect(status).toBe(2)
    expect(stderr).toContain("option '--label <column>' not specified")
  })
})
