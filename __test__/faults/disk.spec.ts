// Disks without space.
import { spawnSync } from 'node:child_process'
import { appendFileSync, rmSync, statSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { bae, MAIN, startProgram } from '../cli/bae.js'
import { folder } from '../data.js'
import { failure, same, Training } from './training.js'

/** A folder on a small file system of its own, or why there is none. */
function smallDisk(size: string): { dir: string } | { missing: string } {
  if (process.platform !== 'linux') return { missing: 'it takes Linux' }
  const dir = folder()
  const { status, stderr, error } = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', dir], {
    encoding: 'utf8',
  })
  if (status !== 0) return { missing: (error?.message ?? stderr).trim() }
  // before the folder is removed: what is done last is undone first
  onTestFinished(() => {
    spawnSync('umount', ['--lazy', dir])
  })
  return { dir }
}

/** Leaves no space. */
function fill(path: string): void {
  for (let size = 1 << 20; size > 0; size = Math.floor(size / 2)) {
    try {
      for (;;) appendFileSync(path, Buffer.alloc(size, 1))
    } catch (error) {
      expect((error as NodeJS.ErrnoException).code).toBe('ENOSPC')
    }
  }
}

test('a disk that is full: training goes on, the model cannot be written, and with space it can', async ({
  skip,
}) => {
  const disk = smallDisk('16m')
  if ('missing' in disk) skip(`no small file system can be mounted: ${disk.missing}`)
  else {
    const training = new Training(disk.dir).withData()
    const plain = await training.whole('plain')
    const interrupted = training.start('run', '--checkpoint-every', '20')
    await training.step(interrupted, 'run', 50)
    interrupted.child.kill('SIGINT')
    expect(await interrupted.ended).toMatchObject({ status: 130 })
    const [last] = training.checkpoints('run')
    const told = training.told('run').length

    fill(join(disk.dir, 'filler'))
    const ended = await training.start('run', '--checkpoint-every', '100', '--resume').ended
    const message = failure(ended, { status: 1, code: 'IO' })
    expect(message).toMatch(
      /^cannot write run\/sae_weights\.safetensors: No space left on device .*free some space/,
    )
    expect(message).toContain(`the training itself is kept in ${last}: resume it to write the model again`)
    expect(ended.stderr).toMatch(
      /\nwarning, after step [\d,]+: no checkpoint of step 100: cannot write run\/checkpoints\/step-000000100\/\w+\.safetensors: No space/,
    )
    expect(ended.stderr).toMatch(/\nwarning, after step [\d,]+: no checkpoint of step 1500: /)
    expect(ended.stderr.match(/metrics\.jsonl: No space left/g)).toHaveLength(1)
    await training.uses('run')
    await training.uses(last!)

    rmSync(join(disk.dir, 'filler'))
    same(await training.whole('run', '--resume'), plain)
    // no line was cut where there was no space
    expect(training.told('run').length).toBeGreaterThan(told)
    await training.uses('run')
  }
})

test('a disk that gets full while training: what is told is whole, the last good checkpoint is gone on from', async ({
  skip,
}) => {
  const disk = smallDisk('2m')
  if ('missing' in disk) skip(`no small file system can be mounted: ${disk.missing}`)
  else {
    const elsewhere = new Training(folder()).withData()
    const plain = await elsewhere.whole()
    const training = new Training(disk.dir).withData()
    // more checkpoints than there is space for
    const more = ['--checkpoint-every', '50', '--keep-checkpoints', '100']
    const ended = await training.start('run', ...more).ended
    expect(ended.stderr).toMatch(
      /\nwarning, after step [\d,]+: no checkpoint of step \d+: cannot write run\/checkpoints\/step-/,
    )
    const kept = training.checkpoints('run')
    expect(kept.length).toBeGreaterThan(1)
    if (ended.status === 0) same(training.came('run', ended), plain)
    else expect(failure(ended, { status: 1, code: 'IO' })).toContain(`is kept in ${kept[0]}: resume it`)
    training.told('run')
    await training.uses(kept[0]!)
    for (const old of kept.slice(1)) rmSync(join(disk.dir, old), { recursive: true })
    same(await training.whole('run', '--resume', '--keep-checkpoints', '1'), plain)
  }
})

test.skipIf(process.platform === 'win32')(
  'checkpoints that cannot be written are warnings, and the model is what it would be',
  async () => {
    const training = new Training(folder()).withData()
    const plain = await training.whole()
    const model = statSync(join(training.dir, 'plain', 'sae_weights.safetensors')).size
    // the state of a training is three times the model: a file may be as large as two
    const blocks = Math.floor((2 * model) / 512)
    const script = `trap '' XFSZ; ulimit -f ${blocks}; exec "$0" "$@"`
    const args = [process.execPath, MAIN, ...training.args('run', '--checkpoint-every', '100')]
    const ended = await startProgram('sh', ['-c', script, ...args], training.dir).ended
    same(training.came('run', ended), plain)
    const warnings = ended.stderr.match(
      /\nwarning, after step [\d,]+: no checkpoint of step \d+: cannot write run\/checkpoints\/step-\d+\/training\.safetensors: File too large/g,
    )
    expect(warnings).toHaveLength(15)
    // what is told of 1,500 steps does not fit either; what is there is whole lines
    training.told('run')
    expect(training.checkpoints('run')).toEqual([])
    const again = await training.start('run', '--resume').ended
    expect(failure(again, { status: 1, code: 'IO' })).toMatch(
      /holds a model, and no checkpoint to go on from; pass --overwrite/,
    )
  },
)

test('the first file that cannot be written at all', async ({ skip }) => {
  const disk = smallDisk('256k')
  if ('missing' in disk) skip(`no small file system can be mounted: ${disk.missing}`)
  else {
    const training = new Training(disk.dir).withData()
    fill(join(disk.dir, 'filler'))
    truncateSync(join(disk.dir, 'filler'), statSync(join(disk.dir, 'filler')).size - 20_000)
    const ended = await training.start('run').ended
    expect(failure(ended, { status: 1, code: 'IO' })).toMatch(
      /^cannot write run\/sae_weights\.safetensors: No space left on device/,
    )
    expect((await bae(['inspect', 'run', '--json'], disk.dir)).status).toBe(1)
  }
})
