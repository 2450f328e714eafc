// A training by the real command, what it tells while it goes on, and what it comes to with and without faults.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import { BinaryAutoencoder, type TrainEvent, type TrainResult } from '../../src/index.js'
import { type Ended, type Started, start } from '../cli/bae.js'
import { rows, writeNpy } from '../data.js'

/** Rows of the data that trainings here are made on, and values a row. */
export const [ROWS, D_IN] = [600, 64]

/** A second or so of steps, whose rows are read again in each pass. */
export const SETTINGS = ['--d-sae', '256', '--batch-size', '48', '--steps', '1500', '--memory', '60K']

/** What is needed to see that two trainings came to the same. */
export interface Came {
  weights: Buffer
  document: Omit<TrainResult, 'seconds' | 'model' | 'threads'> & { history: TrainEvent[] }
}

/** A line of metrics.jsonl. */
export type Told = TrainEvent & { time: number }

/** Trainings in a folder `dir` on `data`, with the same settings. */
export class Training {
  constructor(
    readonly dir: string,
    readonly settings = SETTINGS,
    readonly data = ['x.npy'],
  ) {}

  /** Writes x.npy. */
  withData(): this {
    writeNpy(join(this.dir, 'x.npy'), rows(ROWS, D_IN))
    return this
  }

  /** Starts a training into `out`. */
  start(out: string, ...more: string[]): Started {
    return start(this.args(out, ...more), this.dir)
  }

  args(out: string, ...more: string[]): string[] {
    return [
      ...['train', ...this.data, '--out', out, '--device', 'cpu', '--threads', '2', '--json'],
      ...[...this.settings, ...more],
    ]
  }

  /** A training into `out` that comes to its end. */
  async whole(out = 'plain', ...more: string[]): Promise<Came> {
    return this.came(out, await this.start(out, ...more).ended)
  }

  /** What a training that has ended came to: it did not fail. */
  came(out: string, { status, stdout, stderr }: Ended): Came {
    expect({ status, stderr }).toMatchObject({ status: 0 })
    const { seconds: _seconds, model: _model, threads: _threads, ...document } = JSON.parse(stdout)
    return { weights: this.weights(out), document }
  }

  weights(out: string): Buffer {
    return readFileSync(join(this.dir, out, 'sae_weights.safetensors'))
  }

  /** Lines of metrics.jsonl that are complete. */
  lines(out: string): string[] {
    const path = join(this.dir, out, 'metrics.jsonl')
    return existsSync(path) ? readFileSync(path, 'utf8').split('\n').slice(0, -1) : []
  }

  /** What was told, every line of it JSON. */
  told(out: string): Told[] {
    return this.lines(out).map(line => JSON.parse(line))
  }

  /** Waits until `run`, a training into `out`, has told of something. */
  async until(run: Started, out: string, told: (event: Told) => boolean): Promise<void> {
    const before = this.lines(out).length
    await waitFor(run, () =>
      this.lines(out)
        .slice(before)
        .some(line => told(JSON.parse(line))),
    )
  }

  /** Waits until `run` has taken that step. */
  step(run: Started, out: string, step: number): Promise<void> {
    return this.until(run, out, event => event.type === 'step' && event.step >= step)
  }

  /** The checkpoints of a training, the last one first. */
  checkpoints(out: string): string[] {
    const dir = join(this.dir, out, 'checkpoints')
    const names = existsSync(dir) ? readdirSync(dir).filter(name => name.startsWith('step-')) : []
    return names
      .sort()
      .reverse()
      .map(name => join(out, 'checkpoints', name))
  }

  /** Loads a model that a training left, and uses it. */
  async uses(model: string): Promise<void> {
    await using loaded = await BinaryAutoencoder.load(join(this.dir, model))
    const { mse } = await loaded.evaluate(rows(64, loaded.dIn))
    expect(mse).toBeGreaterThan(0)
    expect(Number.isFinite(mse)).toBe(true)
  }
}

/** Both came to the same, bit for bit. */
export function same(came: Came, plain: Came): void {
  expect(came.document).toEqual(plain.document)
  expect(came.weights.equals(plain.weights)).toBe(true)
}

/** Waits for something that `run` does to be seen. */
export async function waitFor(run: Started, seen: () => boolean): Promise<void> {
  let over: Ended | undefined
  run.ended.then(ended => {
    over = ended
  })
  while (!seen()) {
    if (over) throw new Error(`ended before: ${JSON.stringify(over)}`)
    await sleep(2)
  }
}

/** A failure is one line, with its status and code; gives its message. */
export function failure(
  { status, stdout, stderr }: Ended,
  expected: { status: number; code: string },
): string {
  const last = stderr.split('\n').at(-2)
  expect({ status, last, stderr }).toMatchObject({
    status: expected.status,
    last: expect.stringMatching(/^bae: /),
  })
  const { error } = JSON.parse(stdout)
  expect(error.code).toBe(expected.code)
  expect(`bae: ${error.message}`).toBe(last)
  return error.message
}

/** Names in a folder and below it that start as temporary ones do. */
export function leftovers(dir: string): string[] {
  return (readdirSync(dir, { recursive: true }) as string[]).filter(name => /(^|[\\/])\.bae-/.test(name))
}

/** A seed for what is random in a test: `BAE_TEST_SEED`, or another one each time; it is printed. */
export function seedOf(test: string): number {
  const seed = Number(process.env.BAE_TEST_SEED ?? Date.now() % 1_000_000)
  console.log(`${test}: BAE_TEST_SEED=${seed}`)
  return seed
}

/** Replaces what a file holds in place: whoever has it open sees it. */
export const overwriteInPlace = (path: string, bytes: Buffer): void =>
  writeFileSync(path, bytes, { flag: 'r+' })
