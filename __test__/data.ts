// Hidden states small enough to learn in milliseconds, and files of them written byte by byte.
import { mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'

/** Real hidden states: layer 20 of SmolLM2-135M on 4,096 definitions, float16. */
export const REAL = join(import.meta.dirname, '..', 'examples', 'data', 'glosses', 'layer20.safetensors')

/** An empty folder that is gone after the test (or, `keep`, that the caller removes). */
export function folder({ keep = false } = {}): string {
  const dir = mkdtempSync(join(realpathSync(tmpdir()), 'bae test '))
  if (!keep) onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

/** A generator of numbers in [0, 1) that gives the same ones every time (mulberry32). */
export function random(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

export interface Rows {
  data: Float32Array
  shape: [rows: number, dIn: number]
}

/** Rows that four fair bits decide, along random directions, with an offset and a little noise. */
export function rows(count = 256, dIn = 16, seed = 1): Rows {
  const next = random(seed)
  const directions = Array.from({ length: 4 }, () => Array.from({ length: dIn }, () => 4 * next() - 2))
  const data = new Float32Array(count * dIn)
  for (let row = 0; row < count; row++) {
    const bits = directions.map(() => (next() < 0.5 ? 0 : 1))
    for (let j = 0; j < dIn; j++) {
      const signal = directions.reduce(
        (sum, direction, k) => sum + (bits[k] as number) * (direction[j] as number),
        0,
      )
      // three binary digits after the point: exact in float16 as well, and in bfloat16 once rounded
      data[row * dIn + j] = Math.round(8 * (1 + signal + 0.2 * next())) / 8
    }
  }
  return { data, shape: [count, dIn] }
}

/** The rows of a matrix as arrays. */
export const nested = ({ data, shape: [count, dIn] }: Rows): number[][] =>
  Array.from({ length: count }, (_, row) => Array.from(data.subarray(row * dIn, (row + 1) * dIn)))

/** Float16 bits of numbers that float16 holds exactly. */
export function half(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  return Uint16Array.from(bits, each => {
    const exponent = ((each >>> 23) & 0xff) - 112
    return exponent <= 0
      ? (each >>> 16) & 0x8000
      : ((each >>> 16) & 0x8000) | (exponent << 10) | ((each >>> 13) & 0x3ff)
  })
}

/** Bfloat16 bits: the upper half of float32, cut off. */
export function brain(values: Float32Array): Uint16Array {
  return Uint16Array.from(
    new Uint32Array(values.buffer, values.byteOffset, values.length),
    each => each >>> 16,
  )
}

export interface Tensor {
  dtype: string
  shape: number[]
  data: ArrayBufferView
}

const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView) =>
  Buffer.from(buffer, byteOffset, byteLength)

/** The bytes of a safetensors file. */
export function safetensors(tensors: Record<string, Tensor>, metadata?: Record<string, string>): Buffer {
  const header: Record<string, unknown> = metadata ? { __metadata__: metadata } : {}
  let end = 0
  for (const [name, { dtype, shape, data }] of Object.entries(tensors)) {
    header[name] = { dtype, shape, data_offsets: [end, end + data.byteLength] }
    end += data.byteLength
  }
  return framed(
    JSON.stringify(header),
    Buffer.concat(Object.values(tensors).map(({ data }) => bytesOf(data))),
  )
}

/** A safetensors file with any text for its header. */
export function framed(
  header: string,
  body: Buffer = Buffer.alloc(0),
  length = BigInt(Buffer.byteLength(header)),
): Buffer {
  const size = Buffer.alloc(8)
  size.writeBigUInt64LE(length)
  return Buffer.concat([size, Buffer.from(header), body])
}

/** The tensors of a safetensors file. */
export function readSafetensors(file: Buffer): {
  metadata: Record<string, string>
  tensors: Record<string, Tensor>
} {
  const size = Number(file.readBigUInt64LE())
  const { __metadata__: metadata = {}, ...entries } = JSON.parse(file.toString('utf8', 8, 8 + size))
  const tensors: Record<string, Tensor> = {}
  for (const [name, entry] of Object.entries(entries)) {
    const { dtype, shape, data_offsets } = entry as {
      dtype: string
      shape: number[]
      data_offsets: [number, number]
    }
    const bytes = new Uint8Array(
      file.subarray(8 + size + data_offsets[0], 8 + size + data_offsets[1]),
    ).slice()
    tensors[name] = { dtype, shape, data: dtype === 'F32' ? new Float32Array(bytes.buffer) : bytes }
  }
  return { metadata, tensors }
}

/** Writes rows as float32 safetensors and gives the path. */
export function writeRows(path: string, { data, shape }: Rows, name = 'hidden_states'): string {
  writeFileSync(path, safetensors({ [name]: { dtype: 'F32', shape, data } }))
  return path
}

/** Writes rows as a .npy file, version 1.0. */
export function writeNpy(path: string, { data, shape }: Rows): string {
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': (${shape.join(', ')}), }`
  const header = `${text.padEnd(117)}\n`
  const magic = Buffer.from([0x93, ...Buffer.from('NUMPY'), 1, 0, header.length & 0xff, header.length >> 8])
  writeFileSync(path, Buffer.concat([magic, Buffer.from(header), bytesOf(data)]))
  return path
}
