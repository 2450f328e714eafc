// The step in ONNX Runtime for Node, as the graph that `onnx_graph.py` writes; parameters and moments go in and come out.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import ort from 'onnxruntime-node'
import { PARAMETERS } from './fixture.mjs'
import { python } from './list.mjs'
import { BETA1, BETA2 } from './penalties.mjs'
import { serve, versionOf } from './serve.mjs'

/** The graph with the covariance's products in these numbers, `float` or `bytes`, ready to run. */
async function sessionOf({ n, dIn, dSae, entropyWeight, covarianceWeight }, products, threads) {
  const folder = mkdtempSync(join(tmpdir(), 'bae-onnx-'))
  const file = join(folder, 'step.onnx')
  const script = fileURLToPath(new URL('onnx_graph.py', import.meta.url))
  const numbers = [n, dIn, dSae, entropyWeight, covarianceWeight].map(String)
  try {
    execFileSync(python(), [script, products, ...numbers, file], { stdio: ['ignore', 'ignore', 'pipe'] })
    return await ort.InferenceSession.create(file, { intraOpNumThreads: threads, interOpNumThreads: 1 })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

async function open(fixture, threads) {
  const { tensors, learningRate } = fixture
  const tensor = (data, shape) => new ort.Tensor('float32', data, shape)
  const number = value => tensor(new Float32Array([value]), [])

  /** Parameters and moments before the first step. */
  const start = () =>
    Object.fromEntries(
      PARAMETERS.flatMap(name => {
        const { data, shape } = tensors[name]
        const zeros = () => tensor(new Float32Array(data.length), shape)
        return [
          [`p_${name}`, tensor(data, shape)],
          [`m_${name}`, zeros()],
          [`v_${name}`, zeros()],
        ]
      }),
    )
  const x = tensor(tensors.x.data, tensors.x.shape)
  const run = (session, state, steps) =>
    session.run({
      x,
      rate: number(learningRate / (1 - BETA1 ** steps)),
      root: number(Math.sqrt(1 - BETA2 ** steps)),
      ...state,
    })

  /** The session that is fastest here, after one run that warms it. */
  async function fastest() {
    let best
    for (const products of ['float', 'bytes']) {
      const session = await sessionOf(fixture, products, threads)
      await run(session, start(), 1)
      const began = performance.now()
      await run(session, start(), 1)
      const ms = performance.now() - began
      if (best && best.ms < ms) await session.release()
      else {
        await best?.session.release()
        best = { session, products, ms }
      }
    }
    return best
  }

  const { session, products } = await fastest()
  let state = start()
  let steps = 0

  return {
    version: versionOf('onnxruntime-node'),
    variant: products === 'bytes' ? '8-bit covariance' : 'float covariance',
    async lossesAndGradients() {
      const out = await run(session, start(), 1)
      const losses = Object.fromEntries(['loss', 'mse', 'covariance'].map(name => [name, out[name].data[0]]))
      losses.entropyBits = out.entropy.data[0]
      // the gradient itself is no output; from zeros, the first moment is a tenth of it
      const gradients = Object.fromEntries(
        PARAMETERS.map(name => [name, out[`new_m_${name}`].data.map(value => value / (1 - BETA1))]),
      )
      return { losses, gradients }
    },
    async step() {
      const out = await run(session, state, ++steps)
      state = Object.fromEntries(Object.keys(state).map(name => [name, out[`new_${name}`]]))
    },
  }
}

await serve('onnxruntime-node', open)
