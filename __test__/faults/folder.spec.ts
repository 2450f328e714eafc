// What two trainings and one folder may not do to each other, and what goes on from what.
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { folder, rows, writeNpy } from '../data.js'
import { type Came, D_IN, failure, ROWS, SETTINGS, same, Training } from './training.js'

let home: string
let plain: Came
beforeAll(async () => {
  home = folder({ keep: true })
  plain = await new Training(home).withData().whole()
})
afterAll(() => rmSync(home, { recursive: true, force: true }))

/** A training that was interrupted after its second checkpoint. */
async function interrupted(): Promise<Training> {
  const training = new Training(folder()).withData()
  const run = training.start('run', '--checkpoint-every', '20')
  await training.until(run, 'run', event => event.type === 'checkpoint' && event.step === 40)
  run.child.kill('SIGINT')
  expect(await run.ended).toMatchObject({ status: 130 })
  return training
}

test('two processes with one folder: the second is refused, the first unharmed', async () => {
  const training = new Training(folder()).withData()
  const first = training.start('run')
  await training.step(first, 'run', 1)
  first.child.kill('SIGSTOP')
  for (const more of [['--overwrite'], ['--resume']]) {
    const second = await training.start('run', ...more).ended
    expect(failure(second, { status: 1, code: 'IO' })).toBe(
      `run is in use by another training (process ${first.child.pid}); wait for it or choose another --out`,
    )
  }
  first.child.kill('SIGCONT')
  same(training.came('run', await first.ended), plain)
})

test('one flipped byte in any file of a checkpoint: refused, and the one before goes on', async () => {
  const training = await interrupted()
  const [last, before] = training.checkpoints('run')
  const dir = join(training.dir, last!)
  const step = Number(before!.slice(-9))
  expect(readdirSync(dir).sort()).toEqual([
    ...['SHA256SUMS', 'cfg.json', 'sae_weights.safetensors', 'training.json', 'training.safetensors'],
  ])
  for (const name of readdirSync(dir)) {
    const path = join(dir, name)
    const bytes = readFileSync(path)
    const at = Math.floor(bytes.length / 2)
    writeFileSync(path, bytes.with(at, bytes[at]! ^ 1))
    const message = failure(await training.start('run', '--resume').ended, {
      status: 1,
      code: 'CORRUPT_FILE',
    })
    expect(message.startsWith(`${last}`)).toBe(true)
    if (name !== 'SHA256SUMS') expect(message).toContain(`${name} does not match its checksum`)
    expect(message).toContain(`the one before, of step ${step}, is sound: delete ${last} to go on from it`)
    writeFileSync(path, bytes)
  }
  rmSync(dir, { recursive: true })
  same(await training.whole('run', '--resume'), plain)
  expect(training.told('run').find(({ type }) => type === 'resume')).toMatchObject({ step })
})

describe('resuming', () => {
  test('with another setting names both values', async () => {
    const training = await interrupted()
    const refusals: [string[], string][] = [
      [['--lr', '0.001'], 'learningRate is 0.001, the checkpoint was made with 0.0002'],
      [['--d-sae', '128'], 'dSae is 128, the checkpoint was made with 256'],
      [['--seed', '4'], 'seed is 4, the checkpoint was made with 0'],
      [['--memory', '80K'], 'memory is 81920, the checkpoint was made with 61440'],
    ]
    for (const [more, expected] of refusals) {
      const ended = await training.start('run', '--resume', ...more).ended
      expect(failure(ended, { status: 1, code: 'INVALID_ARGUMENT' })).toContain(expected)
    }
    same(await training.whole('run', '--resume', '--threads', '1', '--checkpoint-every', '100'), plain)
  })

  test('other data is refused', async () => {
    const training = await interrupted()
    writeNpy(join(training.dir, 'y.npy'), rows(ROWS, D_IN, 2))
    const renamed = new Training(training.dir, SETTINGS, ['y.npy'])
    expect(
      failure(await renamed.start('run', '--resume').ended, { status: 1, code: 'INVALID_ARGUMENT' }),
    ).toMatch(/^the data is another than that of the checkpoint/)
    writeNpy(join(training.dir, 'x.npy'), rows(ROWS, D_IN, 2))
    expect(
      failure(await training.start('run', '--resume').ended, { status: 1, code: 'INVALID_ARGUMENT' }),
    ).toMatch(/^the data is another than that of the checkpoint/)
    training.withData()
    same(await training.whole('run', '--resume'), plain)
  })

  test('and overwriting contradict each other', async () => {
    const ended = await new Training(home).start('run', '--resume', '--overwrite').ended
    expect(failure(ended, { status: 2, code: 'INVALID_ARGUMENT' })).toMatch(
      /--resume and --overwrite contradict/,
    )
  })

  test('from nothing is starting, and what has ended stays as it is', async () => {
    const training = new Training(folder()).withData()
    same(await training.whole('new', '--resume'), plain)
    await training.whole('run', '--checkpoint-every', '200')
    const told = training.told('run').length
    for (const _ of [1, 2]) same(await training.whole('run', '--resume'), plain)
    const again = training.told('run').slice(told)
    const types = again.map(({ type }) => type).filter(type => type !== 'warning')
    expect(types).toEqual(['start', 'resume', 'start', 'resume'])
  })
})
