// The step in jax-js, compiled by its `jit` to WebAssembly; without web workers, as in Node, it has one thread. A call takes
// ownership of the arrays it is given, so each use but the last goes through `.ref`.
import { blockUntilReady, defaultDevice, init, jit, numpy as np } from '@jax-js/jax'
import { PARAMETERS } from './fixture.mjs'
import { ADAM_EPSILON, BETA1, BETA2 } from './penalties.mjs'
import { serve, versionOf } from './serve.mjs'

const EPSILON = 1e-10

async function open({ n, dIn, dSae, tensors, entropyWeight, covarianceWeight, learningRate }) {
  await init('wasm')
  defaultDevice('wasm')
  const array = ({ data, shape }) => np.array(data.slice()).reshape(shape)

  /** Entropy by feature, in nats, and its slope by p. */
  function entropyOf(p) {
    const q = np.subtract(1, p.ref)
    const [nearP, nearQ] = [p.ref.add(EPSILON), q.ref.add(EPSILON)]
    const [logP, logQ] = [np.log(nearP.ref), np.log(nearQ.ref)]
    const slope = logQ.ref.sub(logP.ref).add(q.ref.div(nearQ)).sub(p.ref.div(nearP))
    return [p.mul(logP).add(q.mul(logQ)).mul(-1), slope]
  }

  const lossesAndGradients = (x, [W_enc, b_enc, W_dec, b_dec]) => {
    const h = np.matmul(x.ref, W_enc).add(b_enc).greater(0).astype(np.float32)
    const error = np.matmul(h.ref, W_dec.ref).add(b_dec).sub(x.ref)
    const mse = np.square(error.ref).mean()
    const gradY = error.mul(2 / (n * dIn))

    const s = h.ref.sum(0)
    const [nats, slope] = entropyOf(s.ref.div(n))
    const bits = nats.sum().div(Math.LN2)
    const counts = np.matmul(np.transpose(h.ref), h.ref)
    // n (n - 1) Cov; its diagonal is n s - s^2, with sign 1 where the feature is neither off nor always on
    const scaled = counts.mul(n).sub(s.ref.reshape([dSae, 1]).mul(s.ref))
    const variances = s.ref.mul(np.subtract(n, s))
    const pairs = n * (n - 1)
    const covariance = np.absolute(scaled.ref).sum(0).sub(variances.ref).sum().div(pairs)
    const through = np.matmul(h.ref, np.sign(scaled)).sub(h.ref.mul(np.sign(variances)))

    const covariancePull = through.ref
      .mul(n)
      .sub(through.sum(0))
      .mul((2 * covarianceWeight) / pairs)
    const entropyPull = slope.mul(entropyWeight / n / Math.LN2)
    const g = np.matmul(gradY.ref, np.transpose(W_dec)).add(entropyPull).add(covariancePull)
    const gradZ = g.ref.sub(np.square(g))
    const penalties = bits.ref.mul(entropyWeight).add(covariance.ref.mul(covarianceWeight))
    return {
      losses: [mse.ref.add(penalties), mse, bits, covariance],
      gradients: [
        np.matmul(np.transpose(x), gradZ.ref),
        gradZ.sum(0),
        np.matmul(np.transpose(h), gradY.ref),
        gradY.sum(0),
      ],
    }
  }

  const step = jit((x, { parameters, first, second }, rate, root) => {
    const { losses, gradients } = lossesAndGradients(
      x,
      parameters.map(value => value.ref),
    )
    const next = { parameters: [], first: [], second: [] }
    gradients.forEach((gradient, at) => {
      const m = first[at].mul(BETA1).add(gradient.ref.mul(1 - BETA1))
      const v = second[at].mul(BETA2).add(np.square(gradient).mul(1 - BETA2))
      const divisor = np.sqrt(v.ref).div(root.ref).add(ADAM_EPSILON)
      next.parameters.push(parameters[at].sub(m.ref.mul(rate.ref).div(divisor)))
      next.first.push(m)
      next.second.push(v)
    })
    rate.dispose()
    root.dispose()
    return { losses, state: next }
  })

  const x = array(tensors.x)
  const start = () => ({
    parameters: PARAMETERS.map(name => array(tensors[name])),
    first: PARAMETERS.map(name => np.zeros(tensors[name].shape)),
    second: PARAMETERS.map(name => np.zeros(tensors[name].shape)),
  })
  let state = start()
  let steps = 0
  const run = (state, steps) =>
    step(x.ref, state, np.array(learningRate / (1 - BETA1 ** steps)), np.array(Math.sqrt(1 - BETA2 ** steps)))

  return {
    version: versionOf('@jax-js/jax'),
    variant: '1 thread',
    async lossesAndGradients() {
      const { losses, state: next } = run(start(), 1)
      const [loss, mse, entropyBits, covariance] = await Promise.all(
        losses.map(async value => (await value.data())[0]),
      )
      // the gradient itself is no output; from zeros, the first moment is a tenth of it
      const gradients = {}
      for (const [at, name] of PARAMETERS.entries()) {
        gradients[name] = (await next.first[at].data()).map(value => value / (1 - BETA1))
      }
      for (const value of [...next.parameters, ...next.second]) value.dispose()
      return { losses: { loss, mse, entropyBits, covariance }, gradients }
    },
    async step() {
      const out = run(state, ++steps)
      state = await blockUntilReady(out.state)
      await Promise.all(out.losses.map(value => value.data()))
    },
  }
}

await serve('jax-js, wasm', open)
