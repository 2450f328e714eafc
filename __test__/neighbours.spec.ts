import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { BinaryAutoencoder, inspect, type ModelFormat } from '../src/index.js'
import { bae } from './cli/bae.js'
import { folder, readSafetensors } from './data.js'

interface Entry {
  folder: string
  d_in: number
  d_out: number
  d_sae: number
}

const fixtures = fileURLToPath(new URL('./neighbours/', import.meta.url))
const { models } = JSON.parse(readFileSync(join(fixtures, 'manifest.json'), 'utf8')) as { models: Entry[] }
const at = (name: string) => join(fixtures, 'models', name)

/** What no architecture expresses, and the name that the refusal gives. */
const REFUSED: Record<string, string> = {
  'models/sae_lens/abstopk': '"abstopk"',
  'models/sae_lens/skip_transcoder': '"skip_transcoder"',
  'models/sae_lens/jumprelu_skip_transcoder': '"jumprelu_skip_transcoder"',
  'models/sae_lens/standard_constant_norm_rescale': '"constant_norm_rescale"',
  'models/sparsify/groupmax': '"groupmax"',
  'models/sparsify/skip_transcoder': 'skip connection',
}

/** What a tool says of its model. */
function expected(path: string) {
  const { tensors } = readSafetensors(readFileSync(join(path, 'expected.safetensors')))
  const of = (name: string) => ({
    data: tensors[name]!.data as Float32Array,
    shape: tensors[name]!.shape as [number, number],
  })
  return { x: of('x'), activations: of('activations'), reconstruction: of('reconstruction') }
}

/** Zeros are the same, all else agrees to so much of the largest value. */
function expectAlike(got: Float32Array, wanted: Float32Array, tolerance = 1e-5) {
  expect(got.length).toBe(wanted.length)
  const largest = wanted.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0)
  const differing = Array.from(got).filter(
    (value, index) =>
      (value === 0) !== (wanted[index] === 0) || Math.abs(value - wanted[index]!) > tolerance * largest,
  )
  expect(differing).toEqual([])
}

describe('folders that other tools wrote', () => {
  test.each(models)('$folder', async ({ folder: name, d_in, d_sae, d_out }) => {
    const path = join(fixtures, name)
    if (name in REFUSED) {
      await expect(BinaryAutoencoder.load(path)).rejects.toMatchObject({
        code: 'UNSUPPORTED_FORMAT',
        message: expect.stringContaining(REFUSED[name]!),
      })
      return
    }
    using model = await BinaryAutoencoder.load(path)
    expect(model).toMatchObject({ dIn: d_in, dSae: d_sae })
    const { x, ...given } = expected(path)
    // of a batch's own choice nothing is known for one row: what the tool makes of it for use is
    const wanted = name.endsWith('batchtopk_checkpoint')
      ? expected(path.replace('checkpoint', 'for_use'))
      : given
    const activations = await model.activations(x)
    expect(activations.shape).toEqual([x.shape[0], d_sae])
    expectAlike(activations.data, wanted.activations.data)
    const reconstruction = await model.reconstruct(x)
    expect(reconstruction.shape).toEqual([x.shape[0], d_out])
    // SAELens leaves 1e-5 out where it multiplies by the standard deviation again
    expectAlike(reconstruction.data, wanted.reconstruction.data, name.includes('layer_norm') ? 3e-5 : 1e-5)
    // codes are what is on
    using codes = await model.encode(x)
    for (let row = 0; row < codes.rows; row++) {
      const on = Array.from(wanted.activations.data.subarray(row * d_sae, (row + 1) * d_sae), value =>
        value === 0 ? 0 : 1,
      )
      expect(Array.from(codes.row(row), Number)).toEqual(on)
    }
    expect(await inspect(path)).toMatchObject({ kind: 'model', dIn: d_in, dSae: d_sae })
  })
})

describe('models as other tools read them', () => {
  const formats: [string, ModelFormat, string[]][] = [
    ['sae_lens/topk', 'sparsify', ['cfg.json', 'sae.safetensors']],
    ['sae_lens/topk', 'dictionary_learning', ['ae.pt', 'config.json']],
    ['sae_lens/gated', 'dictionary_learning', ['ae.pt', 'config.json']],
    ['sae_lens/batchtopk_for_use', 'dictionary_learning', ['ae.pt', 'config.json']],
    ['sae_lens/standard', 'dictionary_learning', ['ae.pt', 'config.json']],
    ['sparsify/topk', 'saelens', ['cfg.json', 'sae_weights.safetensors']],
    ['published/bae', 'saelens', ['cfg.json', 'sae_weights.safetensors']],
    ['published/bae', 'published', ['model.pt']],
  ]
  test.each(formats)('%s as %s', async (name, format, files) => {
    const out = join(folder(), 'out')
    using model = await BinaryAutoencoder.load(at(name))
    await model.save(out, { format })
    expect(readdirSync(out).sort()).toEqual(files)
    using again = await BinaryAutoencoder.load(out)
    const { x } = expected(at(name))
    const [before, after] = [await model.activations(x), await again.activations(x)]
    expectAlike(after.data, before.data)
    expectAlike((await again.reconstruct(x)).data, (await model.reconstruct(x)).data)
  })

  test.each<[string, ModelFormat, string]>([
    ['published/bae', 'sparsify', 'architecture bae'],
    ['published/bae', 'dictionary_learning', 'architecture bae'],
    ['sae_lens/standard', 'sparsify', 'architecture standard'],
    ['sae_lens/topk', 'published', 'architecture topk'],
    ['sae_lens/transcoder', 'dictionary_learning', 'from width 16 to 20'],
    ['sparsify/transcoder', 'saelens', 'architecture topk_transcoder'],
    ['sae_lens/standard_layer_norm', 'dictionary_learning', 'layer-normalises'],
  ])('%s cannot be said by %s', async (name, format, why) => {
    const out = join(folder(), 'out')
    using model = await BinaryAutoencoder.load(at(name))
    await expect(model.save(out, { format })).rejects.toMatchObject({
      code: 'UNSUPPORTED_FORMAT',
      message: expect.stringMatching(new RegExp(`${why}.*${format} has no way to say`)),
    })
    expect(existsSync(out)).toBe(false)
  })

  test('a format that is none is refused', async () => {
    using model = await BinaryAutoencoder.load(at('published/bae'))
    const out = join(folder(), 'out')
    await expect(model.save(out, { format: 'onnx' as ModelFormat })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('saelens, sparsify, dictionary_learning, published'),
    })
    await expect(model.save(out, { format: 3 as never })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  })
})

test('bae convert writes a folder, and says which', async () => {
  const out = join(folder(), 'out')
  const { status, stdout, stderr } = await bae([
    'convert',
    at('sparsify/topk'),
    '--to',
    'saelens',
    '--out',
    out,
    '--json',
  ])
  expect([status, stderr]).toEqual([0, ''])
  expect(JSON.parse(stdout)).toEqual({
    model: out,
    format: 'saelens',
    architecture: 'topk',
    dIn: 16,
    dSae: 48,
  })
  const refused = await bae(['convert', out, '--to', 'published', '--out', join(out, 'no'), '--json'])
  expect(refused.status).toBe(1)
  expect(JSON.parse(refused.stdout)).toMatchObject({ error: { code: 'UNSUPPORTED_FORMAT' } })
  const wrong = await bae(['convert', out, '--to', 'onnx', '--out', join(out, 'no')])
  expect(wrong.status).toBe(2)
  expect(wrong.stderr).toContain('saelens, sparsify, dictionary_learning, published')
})

describe('files made to do harm', () => {
  /** A zip archive without compression. */
  function zip(members: Record<string, Uint8Array>): Buffer {
    const u16 = (value: number) => [value & 255, value >> 8]
    const u32 = (value: number) => [...u16(value & 0xffff), ...u16(value >>> 16)]
    const [parts, directory]: [Buffer[], Buffer[]] = [[], []]
    let offset = 0
    for (const [name, bytes] of Object.entries(members)) {
      const sizes = [
        ...u32(crc32(bytes)),
        ...u32(bytes.length),
        ...u32(bytes.length),
        ...u16(name.length),
        0,
        0,
      ]
      const header = [20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0, ...sizes]
      const local = Buffer.concat([Buffer.from([0x50, 0x4b, 3, 4, ...header]), Buffer.from(name), bytes])
      const rest = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ...u32(offset)]
      directory.push(Buffer.from([0x50, 0x4b, 1, 2, 20, 0, ...header, ...rest]), Buffer.from(name))
      parts.push(local)
      offset += local.length
    }
    const central = Buffer.concat(directory)
    const count = u16(parts.length)
    const end = [
      0x50,
      0x4b,
      5,
      6,
      0,
      0,
      0,
      0,
      ...count,
      ...count,
      ...u32(central.length),
      ...u32(offset),
      0,
      0,
    ]
    return Buffer.concat([...parts, central, Buffer.from(end)])
  }

  function crc32(bytes: Uint8Array): number {
    let crc = ~0
    for (const byte of bytes) {
      crc ^= byte
      for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (0xedb88320 & -(crc & 1))
    }
    return ~crc >>> 0
  }

  const file = (name: string, bytes: Uint8Array | string) => {
    const path = join(folder(), name)
    writeFileSync(path, bytes)
    return path
  }

  test('a pickle that would run a command is refused by the name of what it calls', async () => {
    const marker = join(folder(), 'was-run')
    const command = `touch ${marker}`
    const pickle = `cos\nsystem\n(X${String.fromCharCode(command.length)}\0\0\0${command}tR.`
    const path = file('model.pt', zip({ 'model/data.pkl': Buffer.from(pickle, 'latin1') }))
    await expect(BinaryAutoencoder.load(path)).rejects.toMatchObject({
      code: 'UNSUPPORTED_FORMAT',
      message: expect.stringContaining('os.system'),
    })
    expect(existsSync(marker)).toBe(false)
  })

  test('a file cut short anywhere is an error, never a model', async () => {
    const whole = readFileSync(join(at('published/bae'), 'model.pt'))
    for (let length = 0; length < whole.length; length += 97) {
      const path = file('model.pt', whole.subarray(0, length))
      await expect(BinaryAutoencoder.load(path), `${length} bytes`).rejects.toMatchObject({
        code: expect.stringMatching(/^(CORRUPT_FILE|UNSUPPORTED_FORMAT)$/),
      })
    }
  })

  test('values that are no numbers are refused by their place', async () => {
    const dir = folder()
    const name = join(at('sparsify/topk'), 'sae.safetensors')
    const bytes = Buffer.from(readFileSync(name))
    bytes.writeUInt32LE(0x7fc00000, bytes.length - 4)
    mkdirSync(join(dir, 'm'))
    writeFileSync(join(dir, 'm', 'sae.safetensors'), bytes)
    writeFileSync(join(dir, 'm', 'cfg.json'), readFileSync(join(at('sparsify/topk'), 'cfg.json')))
    await expect(BinaryAutoencoder.load(join(dir, 'm'))).rejects.toMatchObject({ code: 'NOT_FINITE' })
    await expect(BinaryAutoencoder.load(dir)).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringContaining('holds several models'),
    })
  })
})
