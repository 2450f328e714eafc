// Ctrl-C and requests to end, at any moment of a training of a model as large as those that are used.

import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Started } from '../cli/bae.js'
import { folder, rows, writeNpy } from '../data.js'
import { type Came, failure, leftovers, same, type Told, Training, waitFor } from './training.js'

/** Steps of a training, and how long it may take to end, in milliseconds. */
const [STEPS, LIMIT] = [12, 5000]
const SETTINGS = ['--d-sae', '4096', '--batch-size', '64', '--steps', `${STEPS}`, '--validate-every', '6']

let home: string
let plain: Came
beforeAll(async () => {
  home = folder({ keep: true })
  writeNpy(join(home, 'x.npy'), rows(1200, 576))
  plain = await training().whole()
})
afterAll(() => rmSync(home, { recursive: true, force: true }))

const training = () => new Training(home, SETTINGS)

const told = (what: (event: Told) => boolean) => (run: Started, out: string) =>
  training().until(run, out, what)

/** Moments, and whether there is something to go on from then. */
const MOMENTS: [string, boolean, (run: Started, out: string) => Promise<void>][] = [
  ['before anything was read', false, run => waitFor(run, () => run.child.pid !== undefined)],
  ['while training starts', false, told(({ type }) => type === 'start')],
  ['between steps', true, told(event => event.type === 'step' && event.step === 3)],
  ['in a validation', true, told(event => event.type === 'step' && event.step === 6)],
  ['after the last step', true, told(event => event.type === 'step' && event.step === STEPS)],
  ['in the last measurement', true, told(event => event.type === 'validation' && event.step === STEPS)],
]

const each = [
  ...MOMENTS.map(moment => ['SIGINT', 130, ...moment] as const),
  ...MOMENTS.slice(2, 4).map(moment => ['SIGTERM', 143, ...moment] as const),
]
test.each(each)('%s (%i) %s', async (signal, status, name, begun, moment) => {
  const out = `${signal} ${name}`
  const run = training().start(out)
  await moment(run, out)
  const sent = performance.now()
  run.child.kill(signal)
  const ended = await run.ended
  const took = performance.now() - sent
  console.log(`${signal} ${name}: ended after ${Math.round(took)} ms`)
  expect(took).toBeLessThan(LIMIT)
  if (ended.status === 0) same(training().came(out, ended), plain)
  else if (ended.status !== null) {
    const message = failure(ended, { status, code: 'INTERRUPTED' })
    if (begun) {
      expect(message).toMatch(
        /^interrupted after \d+ of 12 steps; the best model so far is in .+, and --resume goes on$/,
      )
      const [last] = training().checkpoints(out)
      await training().uses(last!)
      await training().uses(out)
    }
  } // before Node has loaded the program nobody listens, and the signal itself ends it
  else expect(begun).toBe(false)
  same(await training().whole(out, '--resume'), plain)
  expect(leftovers(join(home, out))).toEqual([])
  rmSync(join(home, out), { recursive: true })
})

test('a second one ends at once', async () => {
  const out = 'twice'
  const run = training().start(out)
  await training().step(run, out, 3)
  run.child.kill('SIGINT')
  // long enough for it to be heard, and too short for a checkpoint to be written
  await waitFor(run, () => leftovers(join(home, out)).length > 0)
  run.child.kill('SIGSTOP')
  await sleep(400)
  run.child.kill('SIGINT')
  const sent = performance.now()
  run.child.kill('SIGCONT')
  const { status, stdout } = await run.ended
  console.log(`a second SIGINT: ended after ${Math.round(performance.now() - sent)} ms`)
  // it did not wait to tell anything
  expect({ status, stdout }).toEqual({ status: 130, stdout: '' })
  same(await training().whole(out, '--resume'), plain)
  expect(leftovers(join(home, out))).toEqual([])
})
