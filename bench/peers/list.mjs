// The peers: what each is called on the command line and how its process starts.
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { interpreter } from '../../scripts/python.mjs'

/** Where `install.mjs` puts the Python packages. */
export const venv = fileURLToPath(new URL('../.venv', import.meta.url))

/** The Python that runs peers: BAE_BENCH_PYTHON names one that has the packages already. */
export const python = () => process.env.BAE_BENCH_PYTHON ?? interpreter(venv)

const file = name => fileURLToPath(new URL(name, import.meta.url))
const torch = (script, ...args) => ({ command: python(), args: [file(script), ...args], oneThread: true })
const node = (script, ...args) => ({ command: process.execPath, args: [file(script), ...args] })

/** Peers that do whole steps. `oneThread`: also timed on one thread. */
export const PEERS = {
  'torch-published': torch('torch_published.py'),
  'torch-best': torch('torch_best.py'),
  'torch-int8': torch('torch_best.py', '--int8'),
  'torch-compiled': torch('torch_compiled.py'),
  'onnxruntime-node': node('onnx.mjs'),
  'tfjs-wasm': node('tfjs.mjs'),
  'jax-js': node('jax.mjs'),
  'plain-js': node('plain.mjs'),
}

const cuda = (script, ...args) => torch(script, '--cuda', ...args)
/** TF32 keeps eleven bits of each factor: more codes flip than where products are f32. */
const tf32 = (script, ...args) => ({
  ...cuda(script, '--tf32', ...args),
  gradientTolerance: 0.2,
  lossTolerance: 1e-2,
})

/** Peers that do whole steps on a CUDA device. */
export const GPU_PEERS = {
  'torch-published': cuda('torch_published.py'),
  'torch-eager': cuda('torch_compiled.py', '--eager'),
  'torch-compiled': cuda('torch_compiled.py'),
  'torch-eager-tf32': tf32('torch_compiled.py', '--eager'),
  'torch-compiled-tf32': tf32('torch_compiled.py'),
}

/** The peer of `encode`: the f32 product alone. */
export const PRODUCT = { 'torch-product': torch('torch_product.py') }

/** The Python that `integrations/python/install.mjs` makes; BAE_PYTHON names one that has the libraries already. */
const libraries = () =>
  process.env.BAE_PYTHON ??
  interpreter(fileURLToPath(new URL('../../integrations/python/.venv', import.meta.url)))

/** Trainers of sparse autoencoders of an architecture, with k features on in a row. */
export const trainers = (architecture, k) =>
  Object.fromEntries(
    ['sae_lens', 'dictionary_learning'].map(library => [
      library,
      { command: libraries(), args: [file('trainers.py'), library, architecture, `${k}`] },
    ]),
  )

/** What others pay for hidden states at which error (`npm run experiment:rate`). */
export const RATE = torch('torch_rate.py')

/** Peers that count codes (`npm run bench:entropy`). */
export const COUNTING = { numpy: torch('counting.py', 'numpy'), torch: torch('counting.py', 'torch') }
