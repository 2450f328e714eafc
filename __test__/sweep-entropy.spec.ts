import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { BinaryAutoencoder, type SweepReport, sweep, sweepEntropy } from '../src/index.js'
import { bae } from './cli/bae.js'
import { folder, rows, safetensors, writeRows } from './data.js'

const QUICK = { epochs: 3, batchSize: 64, dSae: 24, device: 'cpu' } as const
let home: string
let layers: string

beforeAll(async () => {
  home = folder({ keep: true })
  layers = join(home, 'layers')
  for (const layer of [2, 10, 30]) writeRows(join(home, `layer${layer}.safetensors`), rows(256, 16, layer))
  await sweep(join(home, 'layer*.safetensors'), { by: 'file', out: layers, ...QUICK })
})
afterAll(() => rmSync(home, { recursive: true, force: true }))

/** A copy of the sweep whose table was changed. */
function changed(change: (table: SweepReport) => unknown): string {
  const dir = join(folder(), 'sweep')
  cpSync(layers, dir, { recursive: true })
  const table = JSON.parse(readFileSync(join(dir, 'sweep.json'), 'utf8')) as SweepReport
  writeFileSync(join(dir, 'sweep.json'), JSON.stringify(change(table) ?? table))
  return dir
}

describe('entropy by the models of a sweep', () => {
  test('is that of each model on its own data, and its lines to compare with', async () => {
    const report = await sweepEntropy(layers, { pairs: true, subset: [3, 5], yardsticks: true })
    expect([report.by, report.groups.map(({ value }) => value), report.notDone]).toEqual([
      'file',
      [2, 10, 30],
      [],
    ])
    for (const { value, yardsticks, ...group } of report.groups) {
      using model = await BinaryAutoencoder.load(join(layers, `layer${value}`))
      const data = join(home, `layer${value}.safetensors`)
      expect(group).toEqual(await model.entropy(data, { pairs: true, subset: [3, 5] }))
      expect(yardsticks).toEqual(await model.yardsticks(data))
      expect(yardsticks?.entropyBits).toBeCloseTo(group.entropyBits, 9)
    }
  })

  test('is that of other data, by the layers that it has', async () => {
    const dir = folder()
    for (const layer of [10, 30, 40])
      writeRows(join(dir, `layer${layer}.safetensors`), rows(64, 16, layer + 1))
    const { groups } = await sweepEntropy(layers, { data: join(dir, '*.safetensors') })
    expect(groups.map(({ value, rows }) => [value, rows])).toEqual([
      [10, 64],
      [30, 64],
    ])
    rmSync(join(dir, 'layer10.safetensors'))
    rmSync(join(dir, 'layer30.safetensors'))
    await expect(sweepEntropy(layers, { data: dir })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('the models of 2, 10, 30'),
    })
  })

  test('names the models that it leaves out', async () => {
    const dir = changed(({ runs }) => {
      runs[0]!.status = 'interrupted'
      runs[2]!.status = 'failed'
    })
    const { groups, notDone } = await sweepEntropy(dir)
    expect([groups.map(({ value }) => value), notDone]).toEqual([[10], ['layer2', 'layer30']])
    const { stdout } = await bae(['entropy', dir, '--quiet'])
    expect(stdout).toMatch(/left out, not trained to the end: layer2, layer30\n$/)
    const none = changed(({ runs }) => {
      for (const run of runs) run.status = 'waiting'
    })
    await expect(sweepEntropy(none)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/none of its 3 models is done.*--resume/),
    })
  })

  test('refuses a table that is damaged, and a folder without one', async () => {
    const [run] = (JSON.parse(readFileSync(join(layers, 'sweep.json'), 'utf8')) as SweepReport).runs
    for (const table of [
      null,
      { runs: 3 },
      { by: 'file', vary: {}, settings: {}, runs: [null] },
      { by: 'file', vary: {}, settings: {}, runs: [{ ...run, data: undefined }] },
      { by: 'file', vary: {}, settings: {}, runs: [{ ...run, model: 5 }] },
      { vary: {}, settings: {}, runs: [run] },
    ]) {
      const dir = changed(() => ({ toJSON: () => table }))
      await expect(sweepEntropy(dir), JSON.stringify(table)).rejects.toMatchObject({
        code: 'CORRUPT_FILE',
        message: expect.stringMatching(/no table of a sweep: its runs are not what a sweep writes/),
      })
    }
    await expect(sweepEntropy(folder())).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringContaining('give the folder of a sweep'),
    })
    const lost = changed(() => undefined)
    rmSync(join(lost, 'layer10', 'sae_weights.safetensors'))
    await expect(sweepEntropy(lost)).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringContaining('layer10'),
    })
  })

  test('ends when it is told to', async () => {
    const reason = new Error('enough')
    await expect(sweepEntropy(layers, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
  })
})

test('bae entropy SWEEP says a line for each model, draws them, and refuses what is of one model', async () => {
  const dir = folder()
  const picture = join(dir, 'layers.svg')
  const { status, stdout } = await bae([
    ...['entropy', layers, '--yardsticks', '--pairs', '--subset', '0,1', '--plot', picture, '--quiet'],
  ])
  expect(status).toBe(0)
  expect(stdout).toMatch(
    /^by file\n {2}2 .*bits.*density.*256 rows, whole codes between .*, subset .*, a Gaussian /,
  )
  expect(readFileSync(picture, 'utf8')).toContain('Entropy by file')
  for (const option of [
    ['--by', 'file'],
    ['--shard', '1/2'],
    ['--out', join(dir, 'x')],
  ]) {
    const refused = await bae(['entropy', layers, ...option, '--quiet'])
    expect([refused.status, refused.stderr]).toEqual([
      2,
      expect.stringContaining(`${option[0]} is for one model`),
    ])
  }
  expect(existsSync(join(dir, 'x'))).toBe(false)
})

test('one model, by the layers of a dump, is that model on each of them', async () => {
  const dump = join(folder(), 'dump.safetensors')
  const each = [0, 1].map(layer => rows(128, 16, layer + 1).data)
  const data = new Float32Array(128 * 2 * 16)
  for (let token = 0; token < 128; token++)
    for (const [layer, values] of each.entries())
      data.set(values.subarray(token * 16, (token + 1) * 16), (token * 2 + layer) * 16)
  writeFileSync(dump, safetensors({ hidden_states: { dtype: 'F32', shape: [128, 2, 16], data } }))
  using model = await BinaryAutoencoder.load(join(layers, 'layer2'))
  const { groups } = await model.entropy(dump, { by: 'layer' })
  expect(groups?.map(({ value, rows }) => [value, rows])).toEqual([
    [0, 128],
    [1, 128],
  ])
  for (const [layer, group] of groups!.entries()) {
    const alone = await model.entropy({ data: each[layer]!, shape: [128, 16] })
    expect([group.entropyBits, group.l0]).toEqual([alone.entropyBits, alone.l0])
  }
})
