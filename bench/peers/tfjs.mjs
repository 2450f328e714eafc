// The step in TensorFlow.js on its WebAssembly backend, which has no threads in Node (tensorflow/tfjs#3830).
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { PARAMETERS } from './fixture.mjs'
import { ADAM_EPSILON, BETA1, BETA2, entropy } from './penalties.mjs'
import { serve } from './serve.mjs'

const require = createRequire(import.meta.url)
const tf = require('@tensorflow/tfjs')
const wasm = require('@tensorflow/tfjs-backend-wasm')

async function open({ n, dIn, dSae, tensors, entropyWeight, covarianceWeight, learningRate }) {
  wasm.setWasmPaths(
    `${join(dirname(require.resolve('@tensorflow/tfjs-backend-wasm/package.json')), 'dist')}/`,
  )
  if (!(await tf.setBackend('wasm'))) throw new Error('the wasm backend does not start')
  const x = tf.tensor(tensors.x.data, tensors.x.shape)
  // matrices are transposed in memory first: the backend has a fast product for plain ones only
  const xT = x.transpose()
  const parameters = PARAMETERS.map(name => tf.tensor(tensors[name].data, tensors[name].shape))
  let state = {
    parameters,
    first: parameters.map(value => tf.zerosLike(value)),
    second: parameters.map(value => tf.zerosLike(value)),
  }
  let steps = 0

  /** The losses as numbers and the gradients as tensors; call it inside `tf.tidy`. */
  function lossesAndGradients([W_enc, b_enc, W_dec, b_dec]) {
    const h = x.matMul(W_enc).add(b_enc).greater(0).toFloat()
    const error = h.matMul(W_dec).add(b_dec).sub(x)
    const mse = error.square().mean().dataSync()[0]
    const gradY = error.mul(2 / (n * dIn))

    const s = h.sum(0)
    const { bits, slopes } = entropy(s.dataSync(), n)
    const hT = h.transpose()
    const counts = hT.matMul(h)
    // n (n - 1) Cov; its diagonal is n s - s^2, with sign 1 where the feature is neither off nor always on
    const scaled = counts.mul(n).sub(s.reshape([dSae, 1]).mul(s))
    const variances = s.mul(tf.scalar(n).sub(s))
    const pairs = n * (n - 1)
    // by columns first: one sum over all of it would lose digits
    const covariance = scaled.abs().sum(0).sub(variances).sum().dataSync()[0] / pairs
    const through = h.matMul(scaled.sign()).sub(h.mul(variances.sign()))

    const entropyPull = tf.tensor1d(slopes).mul(entropyWeight / n)
    const covariancePull = through
      .mul(n)
      .sub(through.sum(0))
      .mul((2 * covarianceWeight) / pairs)
    const g = gradY.matMul(W_dec.transpose()).add(entropyPull).add(covariancePull)
    const gradZ = g.sub(g.square())
    const loss = mse + entropyWeight * bits + covarianceWeight * covariance
    return {
      losses: { loss, mse, entropyBits: bits, covariance },
      gradients: [xT.matMul(gradZ), gradZ.sum(0), hT.matMul(gradY), gradY.sum(0)],
    }
  }

  function adam({ parameters, first, second }, gradients) {
    steps++
    const rate = learningRate / (1 - BETA1 ** steps)
    const root = Math.sqrt(1 - BETA2 ** steps)
    const next = { parameters: [], first: [], second: [] }
    gradients.forEach((gradient, at) => {
      const m = first[at].mul(BETA1).add(gradient.mul(1 - BETA1))
      const v = second[at].mul(BETA2).add(gradient.square().mul(1 - BETA2))
      next.first.push(m)
      next.second.push(v)
      next.parameters.push(parameters[at].sub(m.mul(rate).div(v.sqrt().div(root).add(ADAM_EPSILON))))
    })
    return next
  }

  return {
    version: tf.version_core,
    variant: '1 thread',
    lossesAndGradients() {
      return tf.tidy(() => {
        const { losses, gradients } = lossesAndGradients(state.parameters)
        const data = PARAMETERS.map((name, at) => [name, gradients[at].dataSync().slice()])
        return { losses, gradients: Object.fromEntries(data) }
      })
    },
    step() {
      const next = tf.tidy(() => adam(state, lossesAndGradients(state.parameters).gradients))
      tf.dispose(state)
      state = next
    },
  }
}

await serve('tfjs, wasm', open)
