import { createHash } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { BaeError, type SweepEvent, type SweepReport, sweep, train } from '../src/index.js'
import { runJob } from '../src/job.js'
import native from '../src/native.js'
import { withStates } from '../src/states.js'
import { bae, start } from './cli/bae.js'
import { folder, rows, safetensors, writeNpy, writeRows } from './data.js'

const QUICK = { epochs: 3, batchSize: 64, dSae: 24, device: 'cpu' } as const

const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex')
const weights = (dir: string) => sha256(join(dir, 'sae_weights.safetensors'))
const table = (dir: string) => JSON.parse(readFileSync(join(dir, 'sweep.json'), 'utf8')) as SweepReport

/** A dump of 256 tokens and so many layers, each with rows of its own. */
function writeDump(path: string, layers: number): string {
  const all = Array.from({ length: layers }, (_, layer) => rows(256, 16, layer + 1).data)
  const data = new Float32Array(256 * layers * 16)
  for (let token = 0; token < 256; token++)
    for (const [layer, values] of all.entries())
      data.set(values.subarray(token * 16, (token + 1) * 16), (token * layers + layer) * 16)
  writeFileSync(path, safetensors({ hidden_states: { dtype: 'F32', shape: [256, layers, 16], data } }))
  return path
}

/** Rows of two layers in one file, told apart by a column. */
function writeColumn(path: string): string {
  const { data, shape } = rows(256)
  const layer = BigInt64Array.from({ length: 256 }, (_, row) => (row % 2 ? 7n : -1n))
  const tensors = {
    hidden_states: { dtype: 'F32', shape, data },
    layer: { dtype: 'I64', shape: [256], data: layer },
  }
  writeFileSync(path, safetensors(tensors))
  return path
}

async function failure(promise: Promise<unknown>): Promise<BaeError> {
  const error = await promise.then(
    () => null,
    (error: unknown) => error,
  )
  expect(error).toBeInstanceOf(BaeError)
  return error as BaeError
}

describe('one model for each', () => {
  test('file, in the order of the number in which the names differ, to the same bits as alone', async () => {
    const dir = folder()
    for (const layer of [10, 2]) writeNpy(join(dir, `layer${layer}.npy`), rows(200, 16, layer))
    const out = join(dir, 'sweep')
    const report = await sweep(join(dir, '*.npy'), { by: 'file', out, ...QUICK })
    expect(report.by).toBe('file')
    expect(report.runs).toMatchObject([
      { label: 'layer2', value: 2, model: 'layer2', status: 'done', data: [join(dir, 'layer2.npy')] },
      { label: 'layer10', value: 10, model: 'layer10', status: 'done', dSae: 24 },
    ])
    expect(JSON.parse(JSON.stringify(report))).toEqual(table(out))
    const { result, model } = await train(join(dir, 'layer10.npy'), { ...QUICK, out: join(dir, 'alone') })
    model.dispose()
    expect(weights(join(out, 'layer10'))).toBe(weights(join(dir, 'alone')))
    expect(report.runs[1]?.validation).toEqual(result.validation)
  })

  test('layer of dumps, with every byte read once', async () => {
    const dir = folder()
    const dump = writeDump(join(dir, 'a.safetensors'), 3)
    const out = join(dir, 'sweep')
    const { runs } = await sweep(dump, { by: 'layer', out, ...QUICK })
    expect(runs.map(({ label, value, data }) => [label, value, data])).toEqual(
      [0, 1, 2].map(layer => [`layer-${layer}`, layer, [`${dump}#:layer=${layer}`]]),
    )
    const alone = { ...QUICK, out: join(dir, 'alone') }
    ;(await train(`${dump}#hidden_states:layer=1`, alone)).model.dispose()
    expect(weights(join(out, 'layer-1'))).toBe(weights(alone.out))
    expect(new Set(runs.map(({ model }) => weights(join(out, model)))).size).toBe(3)
  })

  test('layer in a column', async () => {
    const dir = folder()
    const data = writeColumn(join(dir, 'a.safetensors'))
    const out = join(dir, 'sweep')
    const { runs } = await sweep(data, { by: 'layer', where: 'norm<1000', out, ...QUICK })
    expect(runs.map(({ value, where, data }) => [value, where, data])).toEqual([
      [-1, ['norm<1000', 'layer=-1'], [data]],
      [7, ['norm<1000', 'layer=7'], [data]],
    ])
    const alone = { ...QUICK, where: ['norm<1000', 'layer=7'], out: join(dir, 'alone') }
    ;(await train(data, alone)).model.dispose()
    expect(weights(join(out, 'layer-7'))).toBe(weights(alone.out))
  })

  test('combination of settings', async () => {
    const dir = folder()
    const data = writeRows(join(dir, 'a.safetensors'), rows())
    const out = join(dir, 'sweep')
    const { dSae: _, ...quick } = QUICK
    const report = await sweep(new URL(`file://${data.replaceAll(' ', '%20')}`), {
      vary: { dSae: [8, 16], shuffle: [true, false] },
      out,
      ...quick,
    })
    expect(report).toMatchObject({ by: 'run', vary: { dSae: [8, 16], shuffle: [true, false] } })
    expect(report.runs.map(({ label, dSae }) => [label, dSae])).toEqual([
      ['d-sae=8,shuffle=true', 8],
      ['d-sae=8,shuffle=false', 8],
      ['d-sae=16,shuffle=true', 16],
      ['d-sae=16,shuffle=false', 16],
    ])
    const one = await sweep(data, { vary: { entropyWeight: [0, 1e-3] }, out: join(dir, 'one'), ...QUICK })
    expect([one.by, one.runs.map(({ value }) => value)]).toEqual(['entropyWeight', [0, 1e-3]])
    const both = await sweep(data, { by: 'file', vary: { seed: [1, 2] }, out: join(dir, 'both'), ...QUICK })
    expect(both.runs.map(({ label, value, values }) => [label, value, values])).toEqual([
      ['a,seed=1', 'a', { seed: 1 }],
      ['a,seed=2', 'a', { seed: 2 }],
    ])
  })

  test('file of a name that occurs twice, by the folders in which they differ', async () => {
    const dir = folder()
    for (const name of ['north', 'south']) {
      mkdirSync(join(dir, name))
      writeRows(join(dir, name, 'states.safetensors'), rows())
    }
    const out = join(dir, 'north', 'sweep')
    const data = ['north', 'south'].map(name => join(dir, name, 'states.safetensors'))
    const { runs } = await sweep(data, { by: 'file', out, ...QUICK, steps: 1, epochs: undefined })
    expect(runs.map(({ label, value }) => [label, value])).toEqual([
      ['north-states', 'north-states'],
      ['south-states', 'south-states'],
    ])
    const twice = await failure(sweep([data[0], data[0]] as string[], { by: 'file', out: join(dir, 'x') }))
    expect(twice.message).toContain('give each file or value once')
  })
})

test('bytes of kept files are read once, whatever is trained on them', async () => {
  const dir = folder()
  const dump = writeDump(join(dir, 'a.safetensors'), 3)
  const kept = new native.KeptFiles(2 ** 30)
  const size = readFileSync(dump).length
  for (const layer of [0, 1, 2, 0]) {
    const json = JSON.stringify({ steps: 2, dSae: 8, device: 'cpu' })
    await withStates([`${dump}#:layer=${layer}`], { kept }, states =>
      runJob(on => native.startTrain(states, undefined, json, on)),
    )
    expect(kept.bytesRead).toBe(size)
  }
  kept.dispose()
  expect(() => kept.bytesRead).toThrow(/disposed/)
})

describe('a sweep goes on', () => {
  test('with what is not done, and keeps what is', async () => {
    const dir = folder()
    const data = writeRows(join(dir, 'a.safetensors'), rows())
    const out = join(dir, 'sweep')
    const options = { vary: { seed: [1, 2, 3] }, out, ...QUICK }
    const stop = new AbortController()
    const stopped = sweep(data, {
      ...options,
      signal: stop.signal,
      onEvent: event => {
        if (event.index === 1 && event.type === 'train' && event.event.type === 'step') stop.abort()
      },
    })
    await expect(stopped).rejects.toMatchObject({ name: 'AbortError' })
    expect(table(out).runs.map(({ status }) => status)).toEqual(['done', 'interrupted', 'waiting'])
    const first = weights(join(out, 'seed=1'))
    // to be made again, it would have to be read
    const events: SweepEvent[] = []
    const report = await sweep(data, { ...options, resume: true, threads: 1, onEvent: e => events.push(e) })
    expect(report.runs.map(({ status }) => status)).toEqual(['done', 'done', 'done'])
    expect(weights(join(out, 'seed=1'))).toBe(first)
    expect(events.filter(({ index, type }) => index === 0 && type === 'train')).toEqual([])
    for (const seed of [2, 3]) {
      const alone = { ...QUICK, seed, out: join(dir, `alone${seed}`) }
      ;(await train(data, alone)).model.dispose()
      expect(weights(join(out, `seed=${seed}`))).toBe(weights(alone.out))
    }
    // a value more, and a model that is gone
    rmSync(join(out, 'seed=2'), { recursive: true })
    const more = await sweep(data, { ...options, vary: { seed: [2, 4] }, resume: true })
    expect(more.runs.map(({ label, status }) => [label, status])).toEqual(
      [2, 4, 1, 3].map(seed => [`seed=${seed}`, 'done']),
    )
    expect(more.vary).toEqual({ seed: [1, 2, 3, 4] })
    expect(existsSync(join(out, 'seed=2', 'cfg.json'))).toBe(true)
  })

  test('only as it was begun', async () => {
    const dir = folder()
    const data = writeRows(join(dir, 'a.safetensors'), rows())
    const other = writeRows(join(dir, 'b.safetensors'), rows(128))
    const out = join(dir, 'sweep')
    const options = { vary: { seed: [1] }, out, ...QUICK }
    await sweep(data, options)
    const again = async (what: object, from = data) =>
      (await failure(sweep(from, { ...options, ...what }))).message
    expect(await again({})).toMatch(/already holds a sweep; pass --resume/)
    expect(await again({ resume: true, epochs: 4 })).toMatch(/another epochs/)
    expect(await again({ resume: true }, other)).toMatch(/seed=1 of other data/)
    expect(await again({ resume: true, by: 'file' })).toMatch(/by seed, not by file/)
    expect(await again({ resume: true, overwrite: true })).toMatch(/contradict/)
    const before = weights(join(out, 'seed=1'))
    await sweep(other, { ...options, overwrite: true })
    expect(weights(join(out, 'seed=1'))).not.toBe(before)
    writeFileSync(join(out, 'sweep.json'), '{')
    expect((await failure(sweep(data, { ...options, resume: true }))).code).toBe('CORRUPT_FILE')
    const foreign = join(dir, 'foreign')
    mkdirSync(foreign)
    writeFileSync(join(foreign, 'mine.txt'), '')
    expect((await failure(sweep(data, { ...options, out: foreign }))).message).toContain('mine.txt')
    const nowhere = join(dir, 'no', 'sweep')
    expect((await failure(sweep(data, { ...options, out: nowhere }))).message).toContain('create it first')
  })

  test('and deletes nothing that a table names outside of it', async () => {
    const dir = folder()
    const data = writeRows(join(dir, 'a.safetensors'), rows())
    const out = join(dir, 'sweep')
    mkdirSync(join(dir, 'precious'))
    mkdirSync(out)
    writeFileSync(
      join(out, 'sweep.json'),
      JSON.stringify({
        ...{ by: 'seed', vary: {}, settings: {} },
        runs: ['../precious', '.'].map(model => ({
          ...{ label: 'a', value: 1, values: {}, data: [data], where: [], model, status: 'done' },
        })),
      }),
    )
    await sweep(data, { vary: { seed: [1] }, out, ...QUICK, overwrite: true })
    expect(existsSync(join(dir, 'precious'))).toBe(true)
    expect(table(out).runs).toHaveLength(1)
  })

  test('and is in use by one at a time', async () => {
    const dir = folder()
    const data = writeRows(join(dir, 'a.safetensors'), rows())
    const options = { vary: { seed: [1, 2] }, out: join(dir, 'sweep'), ...QUICK }
    let second: Promise<BaeError> | undefined
    await sweep(data, {
      ...options,
      onEvent: () => {
        second ??= failure(sweep(data, { ...options, resume: true }))
      },
    })
    expect((await second)?.message).toMatch(/in use/)
  })
})

describe('what fails', () => {
  test('later, does not stop the others, and is tried again', async () => {
    const dir = folder()
    writeRows(join(dir, 'a1.safetensors'), rows())
    const broken = rows()
    broken.data[40] = Number.NaN
    writeRows(join(dir, 'a2.safetensors'), broken)
    writeRows(join(dir, 'a3.safetensors'), rows())
    const out = join(dir, 'sweep')
    const options = { by: 'file' as const, out, ...QUICK }
    const { runs } = await sweep(join(dir, '*.safetensors'), options)
    expect(runs.map(({ status, error }) => [status, error?.code])).toEqual([
      ['done', undefined],
      ['failed', 'NOT_FINITE'],
      ['done', undefined],
    ])
    writeRows(join(dir, 'a2.safetensors'), rows())
    const again = await sweep(join(dir, '*.safetensors'), { ...options, resume: true })
    expect(again.runs.map(({ status, error }) => [status, error])).toEqual(Array(3).fill(['done', undefined]))
  })

  test('at once, is said before anything is trained', async () => {
    const dir = folder()
    const data = writeRows(join(dir, 'a.safetensors'), rows())
    const out = join(dir, 'sweep')
    const refused = async (what: object, from: unknown = data) => {
      const error = await failure(sweep(from as string, { out, ...QUICK, ...what }))
      expect(existsSync(out)).toBe(false)
      return `${error.code}: ${error.message}`
    }
    expect(await refused({})).toMatch(/INVALID_ARGUMENT: nothing to sweep over/)
    expect(await refused({ by: 'row' })).toMatch(/by must be file or layer/)
    expect(await refused({ vary: { epoch: [1] } })).toMatch(/no setting epoch/)
    expect(await refused({ vary: { out: ['x'] } })).toMatch(/no setting out/)
    expect(await refused({ vary: { seed: [] } })).toMatch(/needs an array of values/)
    expect(await refused({ vary: { seed: [1, 1] } })).toMatch(/a value twice/)
    expect(await refused({ vary: { epochs: [1, 2] } })).toMatch(/epochs is given and varies/)
    expect(await refused({ vary: { seed: [1, -1] } })).toMatch(/seed must be a whole number/)
    expect(await refused({ vary: { validationFraction: [0.2, 1.5] } })).toMatch(/validationFraction/)
    expect(await refused({ vary: { expansion: [1, 2] } })).toMatch(/expansion=1.*dSae or expansion/)
    expect(await refused({ by: 'layer' })).toMatch(/no column layer/)
    expect(await refused({ by: 'file' }, join(dir, 'b.npy'))).toMatch(/^IO: .*b\.npy/)
    expect(await refused({ by: 'file' }, rows())).toMatch(/takes files, folders or globs/)
    expect(await refused({ by: 'file' }, [])).toMatch(/no files given/)
  })
})

describe('bae sweep', () => {
  const quick = ['--epochs', '3', '--batch-size', '64', '--device', 'cpu', '--quiet']

  test('prints the table, or its document', async () => {
    const dir = folder()
    writeRows(join(dir, 'a.safetensors'), rows())
    const args = ['sweep', 'a.safetensors', '--vary', 'entropy-weight=0,1e-3', '--d-sae', '24', ...quick]
    const { status, stdout, stderr } = await bae([...args, '--out', 'one'], dir)
    expect([status, stderr]).toEqual([0, ''])
    expect(stdout).toMatch(/^model +FVU +entropy \(bits\) +density +dead +always on +seconds$/m)
    expect(stdout).toMatch(/^entropy-weight=0.001 +0\.\d{3} /m)
    const again = await bae([...args, '--out', 'one', '--resume', '--json'], dir)
    expect(JSON.parse(again.stdout)).toEqual(table(join(dir, 'one')))
    expect(table(join(dir, 'one'))).toMatchObject({
      by: 'entropyWeight',
      data: ['a.safetensors'],
      runs: [{ value: 0, data: [join(dir, 'a.safetensors')] }, { value: 0.001 }],
    })
    const other = ['--vary', 'lr=1e-3,2e-3', '--vary', 'no-shuffle=true', '--vary', 'estimator=identity']
    const grid = await bae(['sweep', 'a.safetensors', ...other, ...quick, '--out', 'grid', '--json'], dir)
    expect(JSON.parse(grid.stdout).vary).toEqual({
      learningRate: [0.001, 0.002],
      shuffle: [true],
      estimator: ['identity'],
    })
  })

  test('refuses what is no sweep', async () => {
    const refused = async (...args: string[]) => {
      const { status, stderr } = await bae(['sweep', 'a.safetensors', ...args])
      expect(status).toBe(2)
      return stderr
    }
    expect(await refused('--out', 'x')).toMatch(/--by or --vary is needed/)
    expect(await refused('--by', 'file')).toMatch(/--out DIR is needed/)
    expect(await refused('--by', 'row')).toMatch(/file, layer/)
    expect(await refused('--vary', 'seed')).toMatch(/entropy-weight=3e-4,6e-4/)
    expect(await refused('--vary', 'sed=1')).toMatch(/no setting sed .*entropy-weight/)
    expect(await refused('--vary', 'seed=1,x')).toMatch(/seed=x: It must be a whole number/)
    expect(await refused('--vary', 'estimator=linear')).toMatch(/estimator=linear: .*sigmoid/)
    expect(await refused('--vary', 'seed=1', '--vary', 'seed=2')).toMatch(/given twice/)
    expect(await refused('--by', 'file', '--out', 'x', '--resume', '--overwrite')).toMatch(/contradict/)
  })

  test('exits with 1 where a training fails, and says which', async () => {
    const dir = folder()
    writeRows(join(dir, 'a1.safetensors'), rows())
    const broken = rows()
    broken.data[40] = Number.NaN
    writeRows(join(dir, 'a2.safetensors'), broken)
    const args = ['sweep', 'a*.safetensors', '--by', 'file', '--out', 'sweep', ...quick, '--json']
    const { status, stdout, stderr } = await bae(args, dir)
    expect(status).toBe(1)
    expect(JSON.parse(stdout).runs).toMatchObject([{ status: 'done' }, { status: 'failed' }])
    expect(stderr).toMatch(/^bae: 1 training failed, 1 model trained: a2 \(.*--resume tries again\n$/)
  })

  test('ends with 130 after Ctrl-C, and says how to go on', async () => {
    const dir = folder()
    writeRows(join(dir, 'a.safetensors'), rows(2048))
    const args = ['sweep', 'a.safetensors', '--vary', 'seed=1,2', '--steps', '100000', '--device', 'cpu']
    const { child, ended, says } = start([...args, '--out', 'sweep', '--json'], dir)
    await says('model 1 of 2, seed=1')
    child.kill('SIGINT')
    const { status, stdout, stderr } = await ended
    expect(status).toBe(130)
    expect(JSON.parse(stdout).error).toMatchObject({ code: 'INTERRUPTED', done: 0, out: 'sweep' })
    expect(stderr).toMatch(/interrupted after 0 models; what is done is in sweep, and --resume goes on\n$/)
    expect(table(join(dir, 'sweep')).runs.map(({ status }) => status)).toEqual(['interrupted', 'waiting'])
  })

  test('killed at any time, loses nothing that was finished', async () => {
    const dir = folder()
    writeRows(join(dir, 'a.safetensors'), rows(2048))
    const args = ['sweep', 'a.safetensors', '--vary', 'seed=1,2', '--d-sae', '64', '--batch-size', '64']
    const all = [...args, '--steps', '400', '--checkpoint-every', '50', '--device', 'cpu', '--out', 'sweep']
    const whole = await bae([...all.slice(0, -1), 'whole', '--quiet'], dir)
    expect(whole.status).toBe(0)
    const { child, ended } = start([...all, '--quiet'], dir)
    const second = join(dir, 'sweep', 'seed=2', 'checkpoints')
    while (!existsSync(second)) await new Promise(resolve => setTimeout(resolve, 5))
    child.kill('SIGKILL')
    await ended
    expect(table(join(dir, 'sweep')).runs.map(({ status }) => status)).toEqual(['done', 'running'])
    const first = readFileSync(join(dir, 'sweep', 'seed=1', 'metrics.jsonl'))
    const leftover = join(dir, 'sweep', '.bae-0123456789ab-sweep.json')
    writeFileSync(leftover, '{')
    const { status, stderr } = await bae([...all, '--resume'], dir)
    expect([status, stderr]).toEqual([0, expect.stringContaining('model 2 of 2, seed=2')])
    expect(existsSync(leftover)).toBe(false)
    expect(readFileSync(join(dir, 'sweep', 'seed=1', 'metrics.jsonl'))).toEqual(first)
    for (const run of ['seed=1', 'seed=2'])
      expect(weights(join(dir, 'sweep', run))).toBe(weights(join(dir, 'whole', run)))
    // between the end of a training and the table: its figures are found again, nothing is trained
    const report = table(join(dir, 'sweep'))
    const [, last] = report.runs
    const { status: _, dSae, steps, seconds, validation, ...waiting } = last as SweepReport['runs'][0]
    report.runs[1] = { ...waiting, status: 'running' }
    writeFileSync(join(dir, 'sweep', 'sweep.json'), JSON.stringify(report))
    expect((await bae([...all, '--resume', '--quiet'], dir)).status).toBe(0)
    expect(table(join(dir, 'sweep')).runs[1]).toMatchObject({ status: 'done', dSae, steps, validation })
    // a sweep that was moved is a sweep still
    renameSync(join(dir, 'sweep'), join(dir, 'moved'))
    cpSync(join(dir, 'moved'), join(dir, 'copied'), { recursive: true })
    const moved = await bae([...all.slice(0, -1), 'copied', '--resume', '--quiet'], dir)
    expect([moved.status, moved.stderr]).toEqual([0, ''])
  })
})
