// Going on after an interruption, from Node. The faults themselves are in faults/.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { BinaryAutoencoder, type TrainEvent, type TrainOptions, train } from '../src/index.js'
import { folder, rows } from './data.js'

const data = rows()
const SETTINGS: TrainOptions = { dSae: 24, epochs: 5, batchSize: 32, seed: 4, device: 'cpu', threads: 1 }

const bytes = (dir: string) => readFileSync(join(dir, 'sae_weights.safetensors')).toString('base64')

/** Trains until a step was told of, and aborts; gives the events. */
async function until(step: number, options: TrainOptions): Promise<TrainEvent[]> {
  const controller = new AbortController()
  const events: TrainEvent[] = []
  const onEvent = (event: TrainEvent) => {
    events.push(event)
    if (event.type === 'step' && event.step === step) controller.abort()
  }
  await expect(train(data, { ...SETTINGS, ...options, onEvent, signal: controller.signal })).rejects.toThrow()
  return events
}

describe('a training that was aborted', () => {
  test('goes on to the same bits, history and figures', async () => {
    const [plain, out] = [join(folder(), 'plain'), join(folder(), 'run')]
    const whole = await train(data, { ...SETTINGS, out: plain })
    // long enough to be caught in the middle
    const options = { ...SETTINGS, out }
    const events = await until(3, { ...options, checkpointEvery: 1 })
    const last = events.at(-1)
    if (last?.type !== 'cancelled') throw new Error(JSON.stringify(last))
    expect(last.checkpoint).toBe(join(out, 'checkpoints', `step-${String(last.steps).padStart(9, '0')}`))
    expect(last.steps).toBeGreaterThanOrEqual(3)
    expect(events.filter(event => event.type === 'checkpoint').length).toBeGreaterThanOrEqual(3)
    await using kept = await BinaryAutoencoder.load(last.checkpoint as string)
    expect(await kept.evaluate(data)).toMatchObject({ rows: 256 })

    const more: TrainEvent[] = []
    const resumed = await train(data, { ...options, resume: true, onEvent: event => more.push(event) })
    expect(bytes(out)).toBe(bytes(plain))
    expect(resumed.history).toEqual(whole.history)
    expect({ ...resumed.result, seconds: 0, model: '' }).toEqual({ ...whole.result, seconds: 0, model: '' })
    expect(more.find(event => event.type === 'resume')).toEqual({
      type: 'resume',
      step: last.steps,
      path: last.checkpoint,
    })
    const lines = readFileSync(join(out, 'metrics.jsonl'), 'utf8').trimEnd().split('\n')
    const told = lines.map(line => JSON.parse(line) as TrainEvent)
    expect(told.filter(event => event.type === 'step').map(event => event.step)).toEqual(
      Array.from({ length: whole.result.steps }, (_, step) => step + 1),
    )
  })

  test('a disposed one too, and resume begins where there is nothing', async () => {
    const out = join(folder(), 'run')
    {
      await using run = train(data, { ...SETTINGS, out, resume: true, epochs: 200_000 })
      for await (const event of run) if (event.type === 'step' && event.step > 4) break
    }
    expect(readdirSync(join(out, 'checkpoints'))).toContainEqual(expect.stringMatching(/^step-/))
    await expect(train(data, { ...SETTINGS, out, resume: true })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/steps is 35, the checkpoint was made with 1400000/),
    })
  })
})

test('options that make no sense together, or by themselves', async () => {
  const out = join(folder(), 'run')
  const refused = async (options: object, message: RegExp) =>
    expect(train(data, { ...SETTINGS, ...options })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    })
  await refused({ resume: true }, /resume needs out/)
  await refused({ checkpointEvery: 3 }, /checkpointEvery needs out/)
  await refused({ tensorboard: true }, /tensorboard needs out/)
  await refused({ out, resume: true, overwrite: true }, /resume goes on with what overwrite would delete/)
  await refused({ memory: 0 }, /memory is 0: it must be at least 1/)
  await refused({ memory: 1.5 }, /memory must be a whole number/)
  await refused({ out, keepCheckpoints: 0 }, /keepCheckpoints is 0/)
  await refused({ out, checkpointMinutes: 0 }, /checkpointMinutes is 0: it must be above 0/)
  await refused({ clipNorm: -1 }, /clipNorm is -1: it must be above 0/)
  await refused({ patience: 3, validationFraction: 0 }, /patience needs rows to be measured on/)
  await refused({ lrSchedule: 'step' }, /lrSchedule must be one of constant, linear, cosine/)
  await refused({ normalize: 'batch' }, /normalize must be one of default, none, mean-norm/)
  expect(readdirSync(join(out, '..'))).toEqual([])
})

describe('schedules', () => {
  const steps = async (options: TrainOptions) => {
    const events: TrainEvent[] = []
    await train(data, { ...SETTINGS, ...options, onEvent: event => events.push(event) })
    return events.filter(event => event.type === 'step')
  }

  test('warm-up, then a line to nothing; penalties that warm up too', async () => {
    const all = await steps({
      epochs: undefined,
      steps: 20,
      lrSchedule: 'linear',
      warmUpSteps: 4,
      learningRate: 1e-3,
      penaltyWarmUpSteps: 10,
      entropyWeight: 1e-3,
    })
    const rates = all.map(step => step.learningRate / 1e-3)
    expect(rates.slice(0, 5)).toEqual([0.25, 0.5, 0.75, 1, 1].map(rate => expect.closeTo(rate, 12)))
    expect(rates[12]).toBeCloseTo(0.5, 12)
    expect(rates[19]).toBeCloseTo(1 / 16, 12)
    expect(all[0]?.entropyWeight).toBeCloseTo(1e-4, 12)
    expect(all[9]?.entropyWeight).toBe(1e-3)
  })

  test('clipped steps say how long their gradients were', async () => {
    const all = await steps({ clipNorm: 1e-6 })
    expect(all.every(step => (step.gradientNorm ?? 0) > 1e-6)).toBe(true)
    expect((await steps({})).every(step => step.gradientNorm === undefined)).toBe(true)
  })

  test('patience ends a training that gets no better', async () => {
    const { result, history } = await train(data, {
      ...SETTINGS,
      learningRate: 0.5,
      epochs: 200,
      patience: 2,
      validateEvery: 3,
    })
    expect(result).toMatchObject({ endedEarly: true })
    expect(result.steps).toBeLessThan(1400)
    expect(history.filter(event => event.type === 'validation').slice(-2)).toEqual([
      expect.objectContaining({ best: false }),
      expect.objectContaining({ best: false }),
    ])
  })
})
