import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, expectTypeOf, test } from 'vitest'
import {
  BaeError,
  type EpochEvent,
  type TrainEvent,
  type TrainOptions,
  type TrainOutcome,
  type TrainRun,
  train,
  type ValidationEvent,
} from '../src/index.js'
import { folder, rows } from './data.js'

const data = rows()
const quick: TrainOptions = { epochs: 3, batchSize: 64, dSae: 24, device: 'cpu', threads: 1 }
/** Far more epochs than anybody waits for. */
const endless: TrainOptions = { ...quick, epochs: 1_000_000 }

const gather = async (run: AsyncIterable<TrainEvent>) => {
  const events: TrainEvent[] = []
  for await (const event of run) events.push(event)
  return events
}

describe('a run that ends well', () => {
  test('resolves to a model, its figures and its history', async () => {
    const { model, result, history } = await train(data, quick)
    expect([model.dIn, model.dSae]).toEqual([16, 24])
    expect(result).toMatchObject({ model: null, device: 'cpu', threads: 1, epochs: 3, steps: 12 })
    expect(result.seconds).toBeGreaterThan(0)
    expect(Object.values(result.train).every(Number.isFinite)).toBe(true)
    for (const figures of [result.before, result.validation]) {
      expect(figures!.rows).toBe(52)
      expect(figures!.explainedVariance).toBeCloseTo(1 - figures!.fvu, 12)
      expect(figures!.density).toBeCloseTo(figures!.l0 / 24, 12)
      expect(figures!.entropyBits).toBeGreaterThanOrEqual(0)
      expect(figures!.entropyBits).toBeLessThanOrEqual(24)
    }
    expect(history.map(event => [event.type, event.epoch, event.step])).toEqual([
      ['validation', 0, 0],
      ...[1, 2, 3].flatMap(epoch => [
        ['epoch', epoch, 4 * epoch],
        ['validation', epoch, 4 * epoch],
      ]),
    ])
    model.dispose()
  })

  test('tells start, steps, epochs and validations in order', async () => {
    const events = await gather(train(data, quick))
    expect(events[0]).toMatchObject({
      type: 'start',
      rows: 256,
      trainRows: 204,
      validationRows: 52,
      dIn: 16,
      dSae: 24,
      steps: 12,
      epochs: 3,
      device: 'cpu',
      threads: 1,
    })
    expect(events.filter(event => event.type === 'step').map(event => event.step)).toEqual(
      Array.from({ length: 12 }, (_, index) => index + 1),
    )
    const step = events.find(event => event.type === 'step')!
    expect(step).toMatchObject({ epoch: 1, epochs: 3, steps: 12 })
    for (const value of [step.loss, step.mse, step.batchEntropyBits, step.covariance, step.learningRate]) {
      expect(value).toBeGreaterThanOrEqual(0)
    }
    expect(events.at(-1)!.type).toBe('validation')
  })

  test('the iterator, the listener and the history tell the same', async () => {
    const heard: TrainEvent[] = []
    const run = train(data, { ...quick, onEvent: event => heard.push(event) })
    const seen = await gather(run)
    const { history } = await run
    expect(heard).toEqual(seen)
    const kept = seen.filter(event => event.type === 'epoch' || event.type === 'validation')
    expect(history).toEqual(kept)
  })

  test('an iterator that starts after the end sees it all; so does a second one', async () => {
    const run = train(data, quick)
    await run
    const [first, second] = [await gather(run), await gather(run)]
    expect(first).toEqual(second)
    expect(first.filter(event => event.type !== 'start')).toHaveLength(12 + 7)
  })

  test('leaving a late iteration does not undo what is done', async () => {
    const run = train(data, quick)
    await run
    for await (const event of run) if (event.type === 'step') break
    await expect(run).resolves.toBeDefined()
  })

  test('a listener that throws is harmless', async () => {
    const onEvent = () => {
      throw new Error('a broken listener')
    }
    const { result } = await train(data, { ...quick, onEvent })
    expect(result.steps).toBe(12)
  })

  test('a listener that rejects is harmless', async () => {
    const unhandled: unknown[] = []
    const listener = (reason: unknown) => unhandled.push(reason)
    process.on('unhandledRejection', listener)
    const onEvent = async () => {
      throw new Error('a broken listener')
    }
    await train(data, { ...quick, onEvent })
    await new Promise(resolve => setTimeout(resolve, 20))
    process.off('unhandledRejection', listener)
    expect(unhandled).toEqual([])
  })

  test('rows that are all alike: what is not defined is NaN, in the result, the history and the events', async () => {
    const alike = { data: new Float32Array(64 * 4).fill(2.5), shape: [64, 4] }
    const told: TrainEvent[] = []
    const options = { epochs: 2, dSae: 8, batchSize: 16, onEvent: (event: TrainEvent) => told.push(event) }
    const { result, history } = await train(alike, options)
    const figures = [result.validation!, result.before!].concat(
      [...history, ...told].filter(event => event.type === 'validation'),
    )
    expect(figures.length).toBeGreaterThanOrEqual(6)
    for (const each of figures) expect([each.explainedVariance, each.fvu]).toEqual([Number.NaN, Number.NaN])
    expect(result.train.explainedVariance.toFixed(1)).toBe('NaN')
  })

  test('it learns: four bits along four directions', async () => {
    const { result } = await train(rows(2048), { steps: 600, dSae: 32, batchSize: 256, learningRate: 0.01 })
    expect(result.validation!.explainedVariance).toBeGreaterThan(0.9)
    expect(result.validation!.explainedVariance).toBeGreaterThan(result.before!.explainedVariance)
  })

  test('the reference preset trains too', async () => {
    const { result } = await train(data, { ...quick, preset: 'reference' })
    expect(result.steps).toBe(12)
  })

  test('nothing held out: no validation', async () => {
    const run = train(data, { ...quick, validationFraction: 0 })
    const { result, history } = await run
    expect([result.validation, result.before]).toEqual([null, null])
    expect(history.map(event => event.type)).toEqual(['epoch', 'epoch', 'epoch'])
  })

  test('out: the model is in the folder', async () => {
    const out = join(folder(), 'model')
    const { result } = await train(data, { ...quick, out })
    expect(result.model).toBe(out)
    expect(readdirSync(out).sort()).toEqual(['.lock', 'cfg.json', 'metrics.jsonl', 'sae_weights.safetensors'])
    const config = JSON.parse(readFileSync(join(out, 'cfg.json'), 'utf8'))
    expect(config).toMatchObject({ architecture: 'bae', d_in: 16, d_sae: 24, apply_b_dec_to_input: false })
  })

  test('same seed, same bits, on any number of threads; another seed, others', async () => {
    const dir = folder()
    const weights = async (name: string, options: TrainOptions) => {
      await train(data, { ...quick, ...options, out: join(dir, name) })
      return readFileSync(join(dir, name, 'sae_weights.safetensors'))
    }
    const one = await weights('one', { seed: 7, threads: 1 })
    expect(await weights('two', { seed: 7, threads: 2 })).toEqual(one)
    expect(await weights('three', { seed: 7, threads: 3 })).toEqual(one)
    expect(await weights('other', { seed: 8, threads: 1 })).not.toEqual(one)
  })
})

describe('a run that is ended early', () => {
  test('a signal aborted before: nothing starts, the reason arrives', async () => {
    const reason = new Error('changed my mind')
    await expect(train(data, { ...quick, signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    await expect(train(data, { ...quick, signal: AbortSignal.abort() })).rejects.toMatchObject({
      name: 'AbortError',
    })
  })

  test('a signal aborted in the middle', async () => {
    const controller = new AbortController()
    const reason = new Error('enough')
    const run = train(data, {
      ...endless,
      signal: controller.signal,
      onEvent: event => {
        if (event.type === 'step' && event.step === 20) controller.abort(reason)
      },
    })
    await expect(run).rejects.toBe(reason)
    await expect(gather(run)).rejects.toBe(reason)
  })

  test('AbortSignal.timeout', async () => {
    await expect(train(data, { ...endless, signal: AbortSignal.timeout(50) })).rejects.toMatchObject({
      name: 'TimeoutError',
    })
  })

  test('leaving the iteration cancels', async () => {
    const run = train(data, endless)
    for await (const event of run) if (event.type === 'step' && event.step >= 5) break
    await expect(run).rejects.toMatchObject({ name: 'AbortError' })
  })

  test('the best model so far is kept in out, and the last event says so', async () => {
    const out = join(folder(), 'model')
    const events: TrainEvent[] = []
    const run = train(data, { ...endless, out, onEvent: event => events.push(event) })
    for await (const event of run) if (event.type === 'validation' && event.epoch === 2) break
    await expect(run).rejects.toMatchObject({ name: 'AbortError' })
    const last = events.at(-1)!
    expect(last).toMatchObject({ type: 'cancelled', model: out })
    expect(last.type === 'cancelled' && last.steps).toBeGreaterThanOrEqual(8)
    expect(readdirSync(out).sort()).toEqual([
      '.lock',
      'cfg.json',
      'checkpoints',
      'metrics.jsonl',
      'sae_weights.safetensors',
    ])
  })

  test('without out nothing is kept', async () => {
    const run = train(data, endless)
    const events: TrainEvent[] = []
    await expect(
      (async () => {
        for await (const event of run) {
          events.push(event)
          if (event.type === 'epoch') run.cancel()
        }
      })(),
    ).rejects.toMatchObject({ name: 'AbortError' })
    expect(events.at(-1)).toMatchObject({ type: 'cancelled', model: null })
  })

  test('the end of an await using block cancels and waits', async () => {
    let run: TrainRun
    {
      await using used = train(data, endless)
      run = used
      for await (const event of used[Symbol.asyncIterator]()) if (event.type === 'start') break
    }
    await expect(run).rejects.toMatchObject({ name: 'AbortError' })
  })

  test('an abort while the data is still coming in', async () => {
    const controller = new AbortController()
    const slow = async function* () {
      yield data
      await new Promise(() => {})
    }
    const run = train(slow(), { ...quick, signal: controller.signal })
    setTimeout(() => controller.abort(), 10)
    await expect(run).rejects.toMatchObject({ name: 'AbortError' })
  })

  test('cancelling twice, and after the end, does nothing', async () => {
    const run = train(data, quick)
    await run
    run.cancel()
    run.cancel()
    await expect(run).resolves.toBeDefined()
  })
})

describe('a run that fails', () => {
  const refused = (options: Record<string, unknown>) =>
    train(data, { ...quick, ...options } as TrainOptions).then(
      () => expect.fail('it was accepted'),
      (error: unknown) => {
        expect(error).toBeInstanceOf(BaeError)
        return error as BaeError
      },
    )

  test.each<[string, Record<string, unknown>, RegExp]>([
    ['epochs and steps', { steps: 3 }, /epochs.*steps|steps.*epochs/],
    ['expansion and dSae', { expansion: 2 }, /dSae.*expansion|expansion.*dSae/],
    ['an unknown name', { learningrate: 1 }, /no setting learningrate; there are preset, .*learningRate/],
    ['a name of every object', { toString: 1 }, /no setting toString/],
    ['a number for a text', { out: 5 }, /^out must be a string, not 5$/],
    ['a number for a boolean', { shuffle: 1 }, /^shuffle must be a boolean, not 1$/],
    ['no threads', { threads: 0 }, /^threads must be/],
    ['too many threads', { threads: 1025 }, /^threads must be at most 1024, not 1025$/],
    ['NaN', { learningRate: Number.NaN }, /learningRate.*NaN/],
    ['infinity', { entropyWeight: Infinity }, /entropyWeight.*Infinity/],
    ['a fraction for a count', { epochs: 1.5 }, /^epochs must be a whole number, not 1\.5$/],
    ['a negative count', { epochs: -1 }, /^epochs must be a whole number, not -1$/],
    ['zero epochs', { epochs: 0 }, /epochs/],
    ['zero rows a step', { batchSize: 0 }, /batchSize/],
    ['a text for a number', { seed: '7' }, /^seed must be a whole number, not "7"$/],
    ['a negative rate', { learningRate: -1 }, /learningRate/],
    ['all rows held out', { validationFraction: 1 }, /validationFraction/],
    [
      'an unknown preset',
      { preset: 'best' },
      /^preset must be one of default, minimal, reference, not "best"$/,
    ],
    ['an unknown estimator', { estimator: 'magic' }, /^estimator must be one of .*identity.*, not "magic"$/],
    ['a width without its estimator', { estimator: 'identity', gradientWidth: 1 }, /gradientWidth/],
    ['an object', { seed: {} }, /seed.*an Object/],
    ['null', { seed: null }, /seed.*null/],
    ['a bigint', { seed: 1n }, /seed.*bigint/],
    ['a function', { shuffle: () => true }, /shuffle.*function/],
  ])('%s', async (_, options, message) => {
    const error = await refused(options)
    expect(error.message).toMatch(message)
    expect(error.code).toBe('INVALID_ARGUMENT')
  })

  test.each<[string, unknown, RegExp]>([
    ['null for options', null, /^options must be an object, not null$/],
    ['a number for options', 5, /^options must be an object, not a number$/],
    ['a signal that is none', { signal: {} }, /^signal must be an AbortSignal, not an Object$/],
    [
      'a signal that cannot be listened to',
      { signal: { aborted: false, throwIfAborted() {}, addEventListener: 5, removeEventListener() {} } },
      /^signal must be an AbortSignal/,
    ],
  ])('%s', async (_, options, message) => {
    await expect(train(data, options as TrainOptions)).rejects.toMatchObject({
      name: 'BaeError',
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    })
  })

  test('a device that is not there', async () => {
    const error = await refused({ device: 'no such card' })
    expect(error.code).toBe('DEVICE_UNAVAILABLE')
    expect(error.message).toMatch(/no such card.*auto, cpu, gpu/)
  })

  test('one row', async () => {
    await expect(train({ data: data.data.subarray(0, 16), shape: [1, 16] }, quick)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/1 row/),
    })
  })

  test('a NaN in the rows: named, and nothing is written', async () => {
    const dir = folder()
    const values = data.data.slice()
    values[5 * 16 + 2] = Number.NaN
    const run = train({ data: values, shape: data.shape }, { ...quick, out: join(dir, 'model') })
    await expect(run).rejects.toMatchObject({
      code: 'NOT_FINITE',
      message: expect.stringMatching(/data.*row 5, column 2 is NaN/),
    })
    expect(readdirSync(dir)).toEqual([])
  })

  test('a folder that already holds a model: refused before training, overwritten when asked', async () => {
    const out = join(folder(), 'model')
    await train(data, { ...quick, out })
    const before = readFileSync(join(out, 'sae_weights.safetensors'))
    const events: TrainEvent[] = []
    const error = await refused({ out, seed: 5, onEvent: (event: TrainEvent) => events.push(event) })
    expect(error.code).toBe('IO')
    expect(error.message).toMatch(/already holds a model/)
    expect(events).toEqual([])
    expect(readFileSync(join(out, 'sae_weights.safetensors'))).toEqual(before)
    await train(data, { ...quick, out, seed: 5, overwrite: true })
    expect(readFileSync(join(out, 'sae_weights.safetensors'))).not.toEqual(before)
  })

  test('a missing file', async () => {
    const path = join(folder(), 'nothing here.npy')
    await expect(train(path, quick)).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringContaining('nothing here.npy'),
    })
  })

  test('only iterated, it throws there and nowhere else', async () => {
    const unhandled: unknown[] = []
    const listener = (reason: unknown) => unhandled.push(reason)
    process.on('unhandledRejection', listener)
    await expect(gather(train('missing.npy', quick))).rejects.toMatchObject({ code: 'IO' })
    train('missing.npy', quick)
    await new Promise(resolve => setTimeout(resolve, 50))
    process.off('unhandledRejection', listener)
    expect(unhandled).toEqual([])
  })

  test('never throws synchronously', async () => {
    const run = train(undefined as never, { steps: {} as never })
    await expect(run).rejects.toBeInstanceOf(BaeError)
  })

  test('a folder that cannot be written: refused before training', async () => {
    const file = join(folder(), 'file')
    writeFileSync(file, 'mine')
    const events: TrainEvent[] = []
    const error = await refused({
      out: join(file, 'model'),
      onEvent: (event: TrainEvent) => events.push(event),
    })
    expect(error.code).toBe('IO')
    expect(error.message).toContain(join(file, 'model'))
    expect(events).toEqual([])
    expect(readFileSync(file, 'utf8')).toBe('mine')
  })
})

test('types', () => {
  expectTypeOf<Awaited<TrainRun>>().toEqualTypeOf<TrainOutcome>()
  expectTypeOf<TrainOutcome['history'][number]>().toEqualTypeOf<EpochEvent | ValidationEvent>()
  expectTypeOf<TrainEvent['type']>().toEqualTypeOf<
    | 'start'
    | 'reading'
    | 'resume'
    | 'step'
    | 'epoch'
    | 'validation'
    | 'resample'
    | 'checkpoint'
    | 'warning'
    | 'cancelled'
  >()
})
