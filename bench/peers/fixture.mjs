// The fixture that our own engine writes: hidden states, parameters, our gradients, the weights of the loss.
import { readFileSync } from 'node:fs'

export const PARAMETERS = ['W_enc', 'b_enc', 'W_dec', 'b_dec']

/** Reads the safetensors file; `tensors` by name as `{ data: Float32Array, shape }`. */
export function readFixture(path) {
  const bytes = readFileSync(path)
  const start = 8 + Number(bytes.readBigUInt64LE(0))
  const { __metadata__: told, ...entries } = JSON.parse(bytes.toString('utf8', 8, start))
  const tensors = {}
  for (const [
    name,
    {
      dtype,
      shape,
      data_offsets: [from, to],
    },
  ] of Object.entries(entries)) {
    if (dtype !== 'F32') throw new Error(`${name} is ${dtype}, not F32`)
    // a copy, because a tensor may begin at any byte of the file
    tensors[name] = {
      data: new Float32Array(new Uint8Array(bytes.subarray(start + from, start + to)).buffer),
      shape,
    }
  }
  const [n, dIn] = tensors.x.shape
  return {
    n,
    dIn,
    dSae: tensors.b_enc.shape[0],
    tensors,
    entropyWeight: Number(told.entropyWeight),
    covarianceWeight: Number(told.covarianceWeight),
    learningRate: Number(told.learningRate),
    losses: Object.fromEntries(
      ((told.architecture ?? 'bae') === 'bae' ? ['loss', 'mse', 'entropyBits', 'covariance'] : ['loss']).map(
        name => [name, Number(told[name])],
      ),
    ),
  }
}

/** Frobenius norm of what differs from our gradients, as a share of the gradient's own, by parameter. */
export function gradientErrors(fixture, gradients) {
  return Object.fromEntries(
    PARAMETERS.map(name => {
      const ours = fixture.tensors[`grad.${name}`].data
      const theirs = gradients[name]
      let difference = 0
      let norm = 0
      for (let at = 0; at < ours.length; at++) {
        difference += (theirs[at] - ours[at]) ** 2
        norm += ours[at] ** 2
      }
      return [name, Math.sqrt(difference / norm)]
    }),
  )
}
