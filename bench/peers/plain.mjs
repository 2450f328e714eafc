// The step in loops over Float32Array, one thread: what one writes without a library. Loops run along memory, and bits that are
// 0 are skipped, so the codes' density counts here too.
import process from 'node:process'
import { PARAMETERS } from './fixture.mjs'
import { ADAM_EPSILON, BETA1, BETA2, entropy } from './penalties.mjs'
import { serve } from './serve.mjs'

/** c += a b, with a `[rows, inner]` and b `[inner, columns]`. */
function addProduct(a, b, c, rows, inner, columns) {
  for (let i = 0; i < rows; i++) {
    const row = c.subarray(i * columns, (i + 1) * columns)
    for (let l = 0; l < inner; l++) {
      const value = a[i * inner + l]
      const from = b.subarray(l * columns, (l + 1) * columns)
      for (let j = 0; j < columns; j++) row[j] += value * from[j]
    }
  }
}

/** c = a b', with a `[rows, inner]` and b `[columns, inner]`. */
function productWithTransposed(a, b, c, rows, inner, columns) {
  for (let i = 0; i < rows; i++) {
    const left = a.subarray(i * inner, (i + 1) * inner)
    for (let j = 0; j < columns; j++) {
      const right = b.subarray(j * inner, (j + 1) * inner)
      // four chains, because one waits for itself at every addition
      let [s0, s1, s2, s3] = [0, 0, 0, 0]
      let l = 0
      for (; l + 3 < inner; l += 4) {
        s0 += left[l] * right[l]
        s1 += left[l + 1] * right[l + 1]
        s2 += left[l + 2] * right[l + 2]
        s3 += left[l + 3] * right[l + 3]
      }
      for (; l < inner; l++) s0 += left[l] * right[l]
      c[i * columns + j] = s0 + s1 + s2 + s3
    }
  }
}

/** c += a' b, with a `[rows, columns of a]` and b `[rows, columns of b]`. */
function addTransposedProduct(a, b, c, rows, columnsA, columnsB) {
  for (let l = 0; l < columnsA; l++) {
    const row = c.subarray(l * columnsB, (l + 1) * columnsB)
    for (let i = 0; i < rows; i++) {
      const value = a[i * columnsA + l]
      const from = b.subarray(i * columnsB, (i + 1) * columnsB)
      for (let j = 0; j < columnsB; j++) row[j] += value * from[j]
    }
  }
}

function addRow(to, from) {
  for (let at = 0; at < to.length; at++) to[at] += from[at]
}

class Plain {
  version = `Node ${process.versions.node}`

  constructor(fixture) {
    this.fixture = fixture
    const { n, dIn, dSae, tensors } = fixture
    const each = make => Object.fromEntries(PARAMETERS.map(name => [name, make(tensors[name].data)]))
    this.parameters = each(data => data.slice())
    this.gradients = each(data => new Float32Array(data.length))
    this.first = each(data => new Float32Array(data.length))
    this.second = each(data => new Float32Array(data.length))
    this.z = new Float32Array(n * dSae)
    this.y = new Float32Array(n * dIn)
    this.gradH = new Float32Array(n * dSae)
    this.through = new Int32Array(n * dSae)
    this.counts = new Int32Array(dSae * dSae)
    this.signs = new Int8Array(dSae * dSae)
    this.steps = 0
  }

  lossesAndGradients() {
    const { n, dIn, dSae, tensors, entropyWeight, covarianceWeight } = this.fixture
    const { W_enc, b_enc, W_dec, b_dec } = this.parameters
    const { z, y, gradH, through, counts, gradients } = this
    const x = tensors.x.data
    for (const gradient of Object.values(gradients)) gradient.fill(0)

    for (let i = 0; i < n; i++) z.set(b_enc, i * dSae)
    addProduct(x, W_enc, z, n, dIn, dSae)
    const on = Array.from({ length: n }, (_, i) => activeIn(z.subarray(i * dSae, (i + 1) * dSae)))

    let squares = 0
    for (let i = 0; i < n; i++) {
      const row = y.subarray(i * dIn, (i + 1) * dIn)
      row.set(b_dec)
      for (const j of on[i]) addRow(row, W_dec.subarray(j * dIn, (j + 1) * dIn))
      for (let l = 0; l < dIn; l++) {
        row[l] -= x[i * dIn + l]
        squares += row[l] * row[l]
        row[l] *= 2 / (n * dIn)
      }
      addRow(gradients.b_dec, row)
      for (const j of on[i]) addRow(gradients.W_dec.subarray(j * dIn, (j + 1) * dIn), row)
    }
    const mse = squares / (n * dIn)

    const ones = new Int32Array(dSae)
    counts.fill(0)
    for (const active of on) {
      for (const i of active) {
        ones[i]++
        const row = counts.subarray(i * dSae, (i + 1) * dSae)
        for (const j of active) row[j]++
      }
    }
    const covariance = this.covariance(ones)
    const totals = new Float64Array(dSae)
    through.fill(0)
    for (let i = 0; i < n; i++) {
      const row = through.subarray(i * dSae, (i + 1) * dSae)
      for (const j of on[i]) addRow(row, this.signs.subarray(j * dSae, (j + 1) * dSae))
      addRow(totals, row)
    }

    const { bits, slopes } = entropy(ones, n)
    productWithTransposed(y, W_dec, gradH, n, dIn, dSae)
    const scale = (2 * covarianceWeight) / (n * (n - 1))
    for (let i = 0, at = 0; i < n; i++) {
      for (let j = 0; j < dSae; j++, at++) {
        const penalties = (entropyWeight / n) * slopes[j] + scale * (n * through[at] - totals[j])
        const g = gradH[at] + penalties
        gradH[at] = g * (1 - g)
      }
      addRow(gradients.b_enc, gradH.subarray(i * dSae, (i + 1) * dSae))
    }
    addTransposedProduct(x, gradH, gradients.W_enc, n, dIn, dSae)
    const loss = mse + entropyWeight * bits + covarianceWeight * covariance
    return { losses: { loss, mse, entropyBits: bits, covariance }, gradients }
  }

  /** Sum of |Cov| off the diagonal; leaves the signs. */
  covariance(ones) {
    const { n, dSae } = this.fixture
    let sum = 0
    for (let i = 0; i < dSae; i++) {
      for (let j = 0; j < dSae; j++) {
        const scaled = i === j ? 0 : n * this.counts[i * dSae + j] - ones[i] * ones[j]
        sum += Math.abs(scaled)
        this.signs[i * dSae + j] = Math.sign(scaled)
      }
    }
    return sum / (n * (n - 1))
  }

  step() {
    this.lossesAndGradients()
    this.steps++
    const rate = this.fixture.learningRate / (1 - BETA1 ** this.steps)
    const root = Math.sqrt(1 - BETA2 ** this.steps)
    for (const name of PARAMETERS) {
      const [values, gradient, first, second] = [
        this.parameters,
        this.gradients,
        this.first,
        this.second,
      ].map(each => each[name])
      for (let at = 0; at < values.length; at++) {
        const g = gradient[at]
        first[at] = BETA1 * first[at] + (1 - BETA1) * g
        second[at] = BETA2 * second[at] + (1 - BETA2) * g * g
        values[at] -= (rate * first[at]) / (Math.sqrt(second[at]) / root + ADAM_EPSILON)
      }
    }
  }
}

function activeIn(row) {
  const active = []
  for (let j = 0; j < row.length; j++) if (row[j] > 0) active.push(j)
  return active
}

await serve('plain JavaScript', fixture => new Plain(fixture))
