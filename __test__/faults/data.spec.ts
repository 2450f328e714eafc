// Data that changes while it is read, and data that holds what is no number.
import { readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { type TrainEvent, train } from '../../src/index.js'
import { bae } from '../cli/bae.js'
import { folder, type Rows, rows, writeNpy } from '../data.js'
import { type Came, D_IN, failure, overwriteInPlace, ROWS, same, Training } from './training.js'

let plain: Came
const alone = () => new Training(folder()).withData()

beforeAll(async () => {
  const home = folder({ keep: true })
  plain = await new Training(home).withData().whole()
  return () => rmSync(home, { recursive: true, force: true })
})

/** A training that `fault` happens to, in the middle: it is stopped meanwhile, however long that takes. */
async function faulty(training: Training, fault: () => void) {
  const run = training.start('run')
  await training.step(run, 'run', 20)
  run.child.kill('SIGSTOP')
  expect(training.told('run').at(-1)).toMatchObject({
    type: expect.stringMatching(/^(step|epoch|validation)$/),
  })
  fault()
  run.child.kill('SIGCONT')
  return run.ended
}

/** The training has failed with a message, left a checkpoint and goes on from it once the data is there again. */
async function goesOn(
  training: Training,
  message: RegExp,
  code: string,
  run: Promise<Awaited<ReturnType<typeof faulty>>>,
  repair: () => void,
  expected = plain,
) {
  expect(failure(await run, { status: 1, code })).toMatch(message)
  const [last] = training.checkpoints('run')
  await training.uses(last!)
  await training.uses('run')
  repair()
  same(await training.whole('run', '--resume'), expected)
  expect(training.told('run').filter(({ type }) => type === 'resume')).toHaveLength(1)
}

describe.skipIf(process.platform === 'win32')('a file that is held open', () => {
  test('truncated', async () => {
    const training = alone()
    const path = join(training.dir, 'x.npy')
    const bytes = readFileSync(path)
    const run = faulty(training, () => truncateSync(path, 5000))
    const message = /^x\.npy ends before byte \d+; it is truncated: make or copy it again/
    await goesOn(training, message, 'CORRUPT_FILE', run, () => writeFileSync(path, bytes))
  })

  test('overwritten in place by what is no number', async () => {
    const training = alone()
    const path = join(training.dir, 'x.npy')
    const bytes = readFileSync(path)
    const spoilt = Buffer.from(bytes)
    for (let at = 128 + 4 * D_IN; at < bytes.length; at += 4 * D_IN) spoilt.writeFloatLE(Number.NaN, at)
    const run = faulty(training, () => overwriteInPlace(path, spoilt))
    const message = /^x\.npy: row \d+, column 0 is NaN, not a finite 32-bit number/
    await goesOn(training, message, 'NOT_FINITE', run, () => writeFileSync(path, bytes))
  })

  test.each<[string, (path: string) => void]>([
    ['deleted', path => rmSync(path)],
    [
      'replaced',
      path => {
        writeNpy(`${path}.new`, rows(ROWS, D_IN, 2))
        renameSync(`${path}.new`, path)
      },
    ],
  ])('%s: what was there is read on', async (_, fault) => {
    const training = alone()
    const ended = await faulty(training, () => fault(join(training.dir, 'x.npy')))
    same(training.came('run', ended), plain)
  })
})

describe('of very many files each is opened when it is read', () => {
  const files = Array.from({ length: 120 }, (_, number) => `shard-${String(number).padStart(3, '0')}.npy`)
  const [file] = files.slice(77) as [string]
  let plain: Came

  function sharded(dir = folder()): Training {
    for (const [seed, name] of files.entries()) writeNpy(join(dir, name), rows(8, D_IN, 1 + (seed % 9)))
    return new Training(
      dir,
      ['--d-sae', '256', '--batch-size', '48', '--steps', '1500', '--memory', '60K'],
      files,
    )
  }

  beforeAll(async () => {
    const home = folder({ keep: true })
    plain = await sharded(home).whole()
    return () => rmSync(home, { recursive: true, force: true })
  })

  test.each<[string, RegExp, string, (path: string) => void]>([
    ['deleted', /^cannot read shard-077\.npy: No such file or directory/, 'IO', path => rmSync(path)],
    [
      'grown',
      /^shard-077\.npy changed from 2176 to 2432 bytes while it was in use; start again with files that stay/,
      'CORRUPT_FILE',
      path => {
        writeNpy(path, rows(9, D_IN))
      },
    ],
    [
      'replaced by one of the same size',
      /^shard-077\.npy changed while it was in use; start again with files that stay/,
      'CORRUPT_FILE',
      path => {
        writeNpy(`${path}.new`, rows(8, D_IN, 99))
        renameSync(`${path}.new`, path)
      },
    ],
    [
      'cut short',
      /^shard-077\.npy changed from 2176 to 700 bytes while it was in use/,
      'CORRUPT_FILE',
      path => truncateSync(path, 700),
    ],
  ])('%s', async (_, message, code, fault) => {
    const training = sharded()
    const path = join(training.dir, file)
    const bytes = readFileSync(path)
    const run = faulty(training, () => fault(path))
    await goesOn(training, message, code, run, () => writeFileSync(path, bytes), plain)
  })
})

describe('NaN in one shard of 100', () => {
  const [COUNT, BAD, ROW] = [100, 37, 5]
  const files = Array.from({ length: COUNT }, (_, number) => `shard-${String(number).padStart(3, '0')}.npy`)
  const settings = ['--d-sae', '64', '--batch-size', '48', '--steps', '20']
  let dir: string

  /** Shards of 8 rows each; `spoilt` rows hold NaN. */
  const shard = (number: number): Rows => {
    const { data, shape } = rows(8, D_IN, number)
    if (number === BAD) data[ROW * D_IN + 11] = Number.NaN
    return { data, shape }
  }

  beforeAll(async () => {
    dir = folder({ keep: true })
    for (const [number, name] of files.entries()) writeNpy(join(dir, name), shard(number))
    const made = await new Training(dir, [...settings, '--skip-invalid'], ['shard-*.npy']).start('model')
      .ended
    expect(made).toMatchObject({ status: 0 })
    return () => rmSync(dir, { recursive: true, force: true })
  })

  const WHERE =
    /^shard-037\.npy: row 5, column 11 is NaN, not a finite 32-bit number; remove or repair that row/

  test('training names file and row, or leaves the row out and says so', async () => {
    const training = new Training(dir, settings, ['shard-*.npy'])
    const ended = await training.start('refused').ended
    expect(failure(ended, { status: 1, code: 'NOT_FINITE' })).toMatch(WHERE)
    const skipping = await training.start('skipping', '--skip-invalid').ended
    expect(skipping.stderr).toContain('left out because a value is not finite: 1 row\n')
    training.came('skipping', skipping)
    expect(training.told('skipping')[0]).toMatchObject({ type: 'start', rows: 800, invalidRows: 1 })
  })

  test.each([
    ['encode', ['--out', 'codes.safetensors']],
    ['entropy', []],
    ['evaluate', []],
  ])('%s', async (command, more) => {
    const args = [command, 'model', 'shard-*.npy', '--json', ...more]
    expect(failure(await bae(args, dir), { status: 1, code: 'NOT_FINITE' })).toMatch(WHERE)
    const skipping = await bae([...args, '--skip-invalid'], dir)
    expect(skipping.status).toBe(0)
    expect(JSON.parse(skipping.stdout)).toMatchObject({ rows: 799 })
  })

  test('rows of an iterable, in Node', async () => {
    async function* chunks() {
      for (let number = 0; number < COUNT; number++) yield shard(number)
    }
    const options = { dSae: 64, batchSize: 48, steps: 20, device: 'cpu' } as const
    await expect(train(chunks(), options)).rejects.toMatchObject({
      code: 'NOT_FINITE',
      message: expect.stringMatching(/^data\[37\]: row 5, column 11 is NaN/),
    })
    const events: TrainEvent[] = []
    const run = train(chunks(), { ...options, skipInvalid: true, onEvent: event => events.push(event) })
    const { model } = await run
    onTestFinished(() => model.dispose())
    expect(events[0]).toMatchObject({ type: 'start', invalidRows: 1, trainRows: 639, validationRows: 160 })
  })
})
