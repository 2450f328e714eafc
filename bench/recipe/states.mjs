// Hidden states of a safetensors file in plain JavaScript, and what is Gaussian about them.
import { readFileSync } from 'node:fs'
import { EVD, Matrix } from 'ml-matrix'

/** Rows of hidden states: float16 bits, row after row.
 * @typedef {{ data: Uint16Array, shape: [rows: number, dIn: number], dtype: 'float16' }} States */

/** The tensors of a file; F16 as its bits, I32 and I64 as numbers. */
export function readTensors(path) {
  const file = readFileSync(path)
  const size = Number(file.readBigUInt64LE())
  const { __metadata__: _, ...entries } = JSON.parse(file.toString('utf8', 8, 8 + size))
  return Object.fromEntries(
    Object.entries(entries).map(
      ([
        name,
        {
          dtype,
          shape,
          data_offsets: [start, end],
        },
      ]) => {
        const { buffer } = new Uint8Array(file.subarray(8 + size + start, 8 + size + end))
        if (dtype === 'F16') return [name, { data: new Uint16Array(buffer), shape, dtype: 'float16' }]
        if (dtype === 'I32') return [name, { data: new Int32Array(buffer), shape }]
        if (dtype === 'I64') return [name, { data: Array.from(new BigInt64Array(buffer), Number), shape }]
        throw new Error(`${path}: ${name} is ${dtype}`)
      },
    ),
  )
}

/** The rows whose index is kept, as states of their own. */
export function select({ data, shape: [rows, dIn], dtype }, keep) {
  const kept = Array.from({ length: rows }, (_, row) => row).filter(keep)
  const out = new Uint16Array(kept.length * dIn)
  kept.forEach((row, at) => {
    out.set(data.subarray(row * dIn, (row + 1) * dIn), at * dIn)
  })
  return { data: out, shape: [kept.length, dIn], dtype }
}

const HALVES = Float64Array.from({ length: 65536 }, (_, bits) => {
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023]
  const size = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15)
  return bits >> 15 ? -size : size
})

const numbers = data => Float64Array.from(data, bits => HALVES[bits])

const median = values => Float64Array.from(values).sort()[(values.length - 1) >> 1]

/** Of each row, whether it is ordinary: as the default recipe has it, not of another order of magnitude. */
export function ordinary({ data, shape: [rows, dIn] }) {
  const x = numbers(data)
  const middle = Float64Array.from({ length: dIn }, (_, j) =>
    median(Float64Array.from({ length: rows }, (_, row) => x[row * dIn + j])),
  )
  const distances = Float64Array.from({ length: rows }, (_, row) => {
    let sum = 0
    for (let j = 0; j < dIn; j++) sum += (x[row * dIn + j] - middle[j]) ** 2
    return sum
  })
  const limit = 9 * median(distances)
  return Array.from(distances, distance => distance <= limit)
}

/** Eigenvalues of the covariance of rows, largest first. */
export function spectrum({ data, shape: [rows, dIn] }) {
  const x = numbers(data)
  for (let j = 0; j < dIn; j++) {
    let sum = 0
    for (let row = 0; row < rows; row++) sum += x[row * dIn + j]
    for (let row = 0; row < rows; row++) x[row * dIn + j] -= sum / rows
  }
  const covariance = new Matrix(dIn, dIn)
  const sums = Array.from({ length: dIn }, () => new Float64Array(dIn))
  for (let row = 0; row < rows; row++) {
    const values = x.subarray(row * dIn, (row + 1) * dIn)
    for (let i = 0; i < dIn; i++) {
      const [value, into] = [values[i], sums[i]]
      for (let j = i; j < dIn; j++) into[j] += value * values[j]
    }
  }
  for (let i = 0; i < dIn; i++) {
    for (let j = i; j < dIn; j++) {
      covariance.set(i, j, sums[i][j] / (rows - 1))
      covariance.set(j, i, sums[i][j] / (rows - 1))
    }
  }
  return new EVD(covariance, { assumeSymmetric: true }).realEigenvalues
    .map(value => Math.max(0, value))
    .sort((a, b) => b - a)
}

/**
 * Bits a row that any code needs, at least, for a Gaussian of this spectrum at a fraction `fvu` of its variance:
 * reverse water-filling (Cover & Thomas, Elements of Information Theory, section 10.3.3).
 */
export function gaussianBound(eigenvalues, fvu) {
  const total = eigenvalues.reduce((sum, value) => sum + value, 0)
  let [low, high] = [0, eigenvalues[0]]
  for (let round = 0; round < 200; round++) {
    const level = (low + high) / 2
    const left = eigenvalues.reduce((sum, value) => sum + Math.min(value, level), 0)
    if (left < fvu * total) low = level
    else high = level
  }
  return eigenvalues.reduce((sum, value) => sum + (value > high ? 0.5 * Math.log2(value / high) : 0), 0)
}
