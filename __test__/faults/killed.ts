// kill -9, again and again, at moments that time, steps and the file system choose.
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import type { Started } from '../cli/bae.js'
import { random } from '../data.js'
import { type Came, leftovers, same, Training, waitFor } from './training.js'

/** A model whose checkpoint takes as long to write as a few steps. */
const SETTINGS = ['--d-sae', '1024', '--batch-size', '48', '--steps', '80', '--memory', '60K']
const CHECKPOINTS = ['--checkpoint-every', '1', '--keep-checkpoints', '2']

/** Kinds of moments. */
const MOMENTS = ['time', 'step', 'checkpoint', 'model'] as const
export type Moment = (typeof MOMENTS)[number]

/** How often a run was killed, by the kind of the moment, and how often something was being written then. */
export type Killed = Record<Moment | 'writing', number>

/** Kills a training `times` times, and goes on with it each time: it comes to the same as one that was left alone. */
export async function killAgainAndAgain(dir: string, times: number, seed: number): Promise<Killed> {
  const training = new Training(dir, SETTINGS).withData()
  const plain = await training.whole()
  const out = join(dir, 'run')
  const next = random(seed)
  const killed: Killed = { time: 0, step: 0, checkpoint: 0, model: 0, writing: 0 }
  const resume = () => training.start('run', ...CHECKPOINTS, '--resume')
  for (let done = 0; done < times; ) {
    // the model is written at the end only
    const kinds = done < 0.7 * times ? 3 : 4
    const moment = MOMENTS[Math.floor(next() * kinds)] as Moment
    const run = resume()
    const ended = await Promise.race([run.ended, atMoment(moment, run, training, next).then(() => undefined)])
    run.child.kill('SIGKILL')
    const { status, stdout, stderr } = ended ?? (await run.ended)
    // it may have come to its end before; all that may not happen is a failure
    if (status !== null) same(training.came('run', { status, stdout, stderr }), plain)
    else {
      done++
      killed[moment]++
      if (existsSync(out) && leftovers(out).length > 0) killed.writing++
    }
    await sound(training, plain)
  }
  same(training.came('run', await resume().ended), plain)
  expect(leftovers(out)).toEqual([])
  expect(readdirSync(out).sort()).toEqual([
    ...['.lock', 'cfg.json', 'checkpoints', 'metrics.jsonl', 'sae_weights.safetensors'],
  ])
  ordered(training)
  return killed
}

/** Waits for a moment of that kind. */
async function atMoment(moment: Moment, run: Started, training: Training, next: () => number): Promise<void> {
  const out = join(training.dir, 'run')
  const writing = (dir: string) => () =>
    existsSync(dir) && readdirSync(dir).some(name => name.startsWith('.bae-'))
  const pause = next()
  const never = new Promise<never>(() => {})
  // a run that ends before is no failure
  const seen = (what: () => boolean) => waitFor(run, what).catch(() => never)
  switch (moment) {
    case 'time':
      return sleep(800 * pause)
    case 'step': {
      const before = training.lines('run').length
      return seen(() => training.lines('run').length > before + 30 * pause)
    }
    case 'checkpoint':
      await seen(writing(join(out, 'checkpoints')))
      return sleep(15 * pause)
    case 'model':
      await Promise.race([seen(writing(out)), sleep(1500)])
  }
}

/** What a killed training leaves can be used. */
async function sound(training: Training, plain: Came): Promise<void> {
  const out = join(training.dir, 'run')
  if (existsSync(join(out, 'cfg.json'))) expect(training.weights('run').equals(plain.weights)).toBe(true)
  const last = training.checkpoints('run')[0]
  if (last) await training.uses(last)
}

/** metrics.jsonl tells of all that was done, in order, and of where each run began. */
function ordered(training: Training): void {
  let step = 0
  const seen = new Map<number, string>()
  for (const { time: _time, ...event } of training.told('run')) {
    if (event.type === 'start') step = 0
    if (event.type === 'resume') step = event.step
    if (event.type !== 'step') continue
    expect(event.step).toBe(++step)
    const text = JSON.stringify(event)
    // a step that is taken again is the same step
    expect(seen.get(step) ?? text).toBe(text)
    seen.set(step, text)
  }
  expect(seen.size).toBe(80)
}
