import { join } from 'node:path'
import { expect, test } from 'vitest'
import { folder } from '../data.js'
import { take, writeLarge } from './memory.js'

test('512 MiB are trained on in 128 MiB beside Node and the model', async ({ skip }) => {
  if (process.platform !== 'linux') skip('what a process took is read from /proc')
  const dir = folder()
  writeLarge(join(dir, 'x.npy'), 2 ** 29)
  const taken = await take(dir, 128, '--steps', '20')
  console.log(`in MiB: ${JSON.stringify(taken)}`)
  expect(taken.peak).toBeLessThan(taken.memory + taken.modelBytes + taken.node)
}, 300_000)
