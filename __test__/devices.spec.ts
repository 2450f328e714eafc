// Devices beside the CPU: here Mesa's software one serves where there is no GPU.
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import process from 'node:process'
import { pathToFileURL } from 'node:url'
import { Worker } from 'node:worker_threads'
import { describe, expect, test } from 'vitest'
import { BinaryAutoencoder, devices, type TrainOptions, train } from '../src/index.js'
import { bae } from './cli/bae.js'
import { folder, rows, writeRows } from './data.js'

const data = rows()
const quick: TrainOptions = { epochs: 4, batchSize: 64, dSae: 40, seed: 3 }
const report = await devices()
const without = report.devices.length ? '' : ` (skipped: ${report.reason})`
/** A system whose Vulkan loader finds no driver. */
const NO_DRIVER = { VK_ICD_FILENAMES: '/nowhere', VK_DRIVER_FILES: '/nowhere' }

test('the list says what auto takes, or why it takes the CPU', () => {
  for (const [index, device] of report.devices.entries()) {
    expect(device).toMatchObject({ index, name: expect.any(String), driver: expect.any(String) })
    expect(device.maxBufferBytes).toBeGreaterThanOrEqual(device.maxBindingBytes)
  }
  const real = report.devices.find(({ kind }) => ['discrete', 'integrated', 'virtual'].includes(kind))
  expect(report.automatic).toBe(real?.index ?? null)
  expect(report.reason === null).toBe(real !== undefined)
})

test.each<[string, unknown]>([
  ['an empty name', ' '],
  ['a fraction', 0.5],
  ['an object', {}],
  ['null', null],
])('%s is no device', async (_, device) => {
  const options = { ...quick, device } as TrainOptions
  await expect(train(data, options)).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringMatching(/device must be auto, cpu, gpu, or a device by its index or name/),
  })
})

test('a device that is not there is named, with those that are', async () => {
  await expect(train(data, { ...quick, device: 99 })).rejects.toMatchObject({
    code: 'DEVICE_UNAVAILABLE',
    message: expect.stringMatching(/there is no device 99/),
  })
})

describe.skipIf(without)(`on a device${without}`, () => {
  test('training ends where the CPU ends, and twice at the same bits', async () => {
    const run = (device: TrainOptions['device']) => train(data, { ...quick, device })
    const [first, again, cpu] = [await run('gpu'), await run(report.devices[0]!.index), await run('cpu')]
    expect(first.result).toMatchObject({ device: 'gpu', adapter: report.devices[0]!.name, reason: null })
    expect(cpu.result).toMatchObject({ device: 'cpu', adapter: null, reason: null })
    expect(again.result.validation).toEqual(first.result.validation)
    expect(first.result.validation!.fvu).toBeCloseTo(cpu.result.validation!.fvu, 2)
    expect(first.result.validation!.entropyBits / cpu.result.validation!.entropyBits).toBeCloseTo(1, 2)
    expect(first.history.map(({ type, step }) => [type, step])).toEqual(
      cpu.history.map(({ type, step }) => [type, step]),
    )
    for (const { model } of [first, again, cpu]) model.dispose()
  })

  test('every step is told of, in order', async () => {
    const steps: number[] = []
    for await (const event of train(data, { ...quick, device: 'gpu' })) {
      if (event.type === 'step') steps.push(event.step)
    }
    expect(steps).toEqual(Array.from({ length: 16 }, (_, index) => index + 1))
  })

  test('encoding, decoding and measuring give what the CPU gives', async () => {
    const { model } = await train(data, { ...quick, device: 'cpu' })
    const [codes, same] = [await model.encode(data, { device: 'gpu' }), await model.encode(data)]
    expect(codes.bytes).toEqual(same.bytes)
    const [back, plain] = [await model.decode(codes, { device: 'gpu' }), await model.decode(codes)]
    expect(back.shape).toEqual(plain.shape)
    for (const [at, value] of back.data.entries()) expect(value).toBeCloseTo(plain.data[at]!, 3)
    expect(await model.entropy(data, { device: 'gpu' })).toEqual(await model.entropy(data))
    const [here, there] = [await model.evaluate(data, { device: 'gpu' }), await model.evaluate(data)]
    expect(here.mse).toBeCloseTo(there.mse, 5)
    expect(here.covariance).toBe(there.covariance)
    model.dispose()
  })

  test('what the device cannot do is refused before training', async () => {
    const started: string[] = []
    const run = train(data, {
      ...quick,
      device: 'gpu',
      precision: 'bf16',
      onEvent: ({ type }) => started.push(type),
    })
    await expect(run).rejects.toMatchObject({
      code: 'DEVICE_UNAVAILABLE',
      message: expect.stringMatching(/bf16.*f32/),
    })
    expect(started).toEqual([])
    const large = Float32Array.from({ length: 2 * 60_000 }, (_, i) => i % 7)
    const tooMany = train(
      { data: large, shape: [60_000, 2] },
      { dSae: 2, batchSize: 47_000, device: 'gpu', onEvent: ({ type }) => started.push(type) },
    )
    await expect(tooMany).rejects.toMatchObject({
      code: 'DEVICE_UNAVAILABLE',
      message: expect.stringMatching(/47000 rows.*46340/),
    })
    expect(started).toEqual([])
  })

  test('half floats are for devices only, bfloat16 for the CPU only', async () => {
    const f16: TrainOptions = { ...quick, precision: 'f16' }
    await expect(train(data, { ...f16, device: 'cpu' })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/f16.*f32 or bf16/),
    })
    if (report.devices[0]!.halfFloats) {
      const [half, full] = [
        await train(data, { ...f16, device: 'gpu' }),
        await train(data, { ...quick, device: 'gpu' }),
      ]
      expect(half.result.validation!.fvu).toBeCloseTo(full.result.validation!.fvu, 2)
      for (const { model } of [half, full]) model.dispose()
    }
    // whatever auto would take otherwise
    const { result, model } = await train(data, { ...quick, precision: 'bf16', device: 'auto' })
    expect(result.device).toBe('cpu')
    expect(result.reason).not.toBeNull()
    model.dispose()
  })

  test('a run can be cancelled in its middle', async () => {
    const run = train(data, { ...quick, epochs: 1_000_000, device: 'gpu' })
    for await (const event of run) if (event.type === 'step' && event.step > 5) break
    await expect(run).rejects.toMatchObject({ name: 'AbortError' })
  })

  test('worker threads use it and end cleanly, also in mid-training', async () => {
    const entry = pathToFileURL(join(import.meta.dirname, '..', 'dist', 'index.js')).href
    const source = `
      import { parentPort } from 'node:worker_threads'
      import { train } from '${entry}'
      const data = Float32Array.from({ length: 64 * 8 }, (_, i) => Math.sin(i * i))
      const run = train({ data, shape: [64, 8] }, { epochs: 1e6, batchSize: 16, dSae: 16, device: 'gpu' })
      let steps = 0
      for await (const event of run) if (event.type === 'step' && ++steps === 5) parentPort.postMessage('under way')
    `
    const under = () =>
      new Promise<Worker>((resolve, reject) => {
        const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`))
        worker.on('message', () => resolve(worker)).on('error', reject)
      })
    const workers = await Promise.all([under(), under(), under()])
    for (const worker of workers) expect(await worker.terminate()).toBe(1)
    const { result, model } = await train(data, { ...quick, device: 'gpu' })
    expect(result.steps).toBe(16)
    model.dispose()
  })

  test('the command takes it by index and by name', async () => {
    const dir = folder()
    writeRows(join(dir, 'x.safetensors'), data)
    const name = report.devices[0]!.name.slice(0, 6).toUpperCase()
    for (const device of ['0', name]) {
      const args = ['train', 'x.safetensors', '--out', 'run', '--steps', '3', '--d-sae', '20', '--overwrite']
      const { status, stdout, stderr } = await bae([...args, '--device', device], dir)
      expect(stderr).not.toMatch(/error/i)
      expect(status).toBe(0)
      expect(stdout).toContain(`on gpu ${report.devices[0]!.name}`)
    }
    const measured = await bae(['evaluate', 'run', 'x.safetensors', '--device', 'gpu', '--json'], dir)
    const model = await BinaryAutoencoder.load(join(dir, 'run'))
    const { mse } = await model.evaluate(data)
    expect(JSON.parse(measured.stdout).mse).toBeCloseTo(mse, 5)
    model.dispose()
  })

  test('a benchmark says what its arithmetic allows', async () => {
    const args = [
      'bench',
      '--device',
      'gpu',
      '--d-in',
      '16',
      '--d-sae',
      '40',
      '--batch-size',
      '32',
      '--steps',
      '2',
    ]
    const measured = JSON.parse((await bae([...args, '--json'])).stdout)
    expect(measured).toMatchObject({ device: 'gpu', adapter: report.devices[0]!.name })
    expect(measured.seconds).toHaveLength(2)
    expect(measured.peak.multiplyAdds).toBeGreaterThan(1e8)
    expect(measured.peak.floorSeconds).toBeGreaterThan(0)
    if (report.devices[0]!.timestamps) expect(measured.stages.encode).toBeGreaterThan(0)
    expect((await bae(args)).stdout).toMatch(/Arithmetic alone would take/)
  })
})

test('`bae devices` lists them and says what auto takes', async () => {
  const [plain, json] = [await bae(['devices']), await bae(['devices', '--json'])]
  expect(JSON.parse(json.stdout)).toEqual(report)
  for (const { index, name } of report.devices) expect(plain.stdout).toContain(`${index}: ${name}`)
  expect(plain.stdout).toMatch(/^auto takes/m)
})

// elsewhere the drivers are part of the system
describe.runIf(process.platform === 'linux')('without a driver', () => {
  test('auto trains on the CPU and says why in its first line', async () => {
    const dir = folder()
    writeRows(join(dir, 'x.safetensors'), data)
    const args = ['train', 'x.safetensors', '--out', 'run', '--steps', '3', '--d-sae', '20']
    const { status, stderr, stdout } = await bae(args, dir, NO_DRIVER)
    expect(status).toBe(0)
    expect(stderr.split('\n')[0]).toMatch(/cpu, \d+ threads? \(no GPU: neither Vulkan/)
    expect(stdout).toMatch(/on cpu/)
  })

  test('a GPU that is asked for is refused, with what to install', async () => {
    const dir = folder()
    writeRows(join(dir, 'x.safetensors'), data)
    const args = ['train', 'x.safetensors', '--out', 'run', '--device', 'gpu', '--json']
    const { status, stdout } = await bae(args, dir, NO_DRIVER)
    expect(status).toBe(1)
    expect(JSON.parse(stdout).error).toMatchObject({
      code: 'DEVICE_UNAVAILABLE',
      message: expect.stringMatching(/no GPU.*install.*libvulkan1/),
    })
    expect((await bae(['devices'], dir, NO_DRIVER)).stdout).toMatch(/^auto takes the CPU: no GPU/)
  })
})

test('importing the package, and work on the CPU, load no graphics driver', async () => {
  const script = `
    import { train } from '${pathToFileURL(join(import.meta.dirname, '..', 'dist', 'index.js')).href}'
    const data = Float32Array.from({ length: 64 * 8 }, (_, i) => Math.sin(i * i))
    const { model } = await train({ data, shape: [64, 8] }, { steps: 2, dSae: 16, device: 'cpu' })
    await model.encode({ data, shape: [64, 8] })
    const drivers = () => process.report.getReport().sharedObjects.filter(name => /vulkan|d3d12/i.test(name))
    const before = drivers()
    if (${report.devices.length}) await train({ data, shape: [64, 8] }, { steps: 2, dSae: 16, device: 'gpu' })
    console.log(JSON.stringify({ before, after: drivers() }))
  `
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let printed = ''
  for await (const text of child.stdout.setEncoding('utf8')) printed += text
  const { before, after } = JSON.parse(printed)
  expect(before).toEqual([])
  // the test would see one: a device loads it
  if (process.platform === 'linux' && report.devices.length) expect(after).not.toEqual([])
})
