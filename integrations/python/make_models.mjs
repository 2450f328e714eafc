// Trains small models with the command line into folders below the one that is given, writes them as other tools read them, and
// prints what there is to compare, as JSON: { data, rows, models: [{ library, name, folder }] }. `library` names the reader
// (readers.py) that is to run the model on the first `rows` rows of `data`. In each folder lies what we make of these rows:
// activations.f32 and reconstruction.f32, float32, little endian, row after row.
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { BinaryAutoencoder } from '../../dist/index.js'

/** What is trained, by what options, and as whose files it is written. */
const MODELS = [
  { name: 'bae', options: [], as: ['saelens'] },
  { name: 'bae-layer-norm', options: ['--normalize', 'layer-norm'], as: ['saelens'] },
  { name: 'bae-squarewave', options: ['--estimator', 'squarewave'], as: ['saelens'] },
  { name: 'relu', options: ['--architecture', 'relu'], as: ['saelens', 'dictionary_learning'] },
  {
    name: 'topk',
    options: ['--architecture', 'topk', '--k', '8'],
    as: ['saelens', 'sparsify', 'dictionary_learning'],
  },
  {
    name: 'batchtopk',
    options: ['--architecture', 'batchtopk', '--k', '8'],
    as: ['saelens', 'dictionary_learning'],
  },
  { name: 'jumprelu', options: ['--architecture', 'jumprelu'], as: ['saelens', 'dictionary_learning'] },
  { name: 'gated', options: ['--architecture', 'gated'], as: ['saelens', 'dictionary_learning'] },
  {
    name: 'matryoshka-batchtopk',
    options: ['--architecture', 'matryoshka-batchtopk', '--k', '8'],
    as: ['saelens', 'dictionary_learning'],
  },
]
const READERS = { saelens: 'sae_lens', sparsify: 'sparsify', dictionary_learning: 'dictionary_learning' }
const STEPS = 30
const D_SAE = 96

const [, , out] = process.argv
const root = fileURLToPath(new URL('../..', import.meta.url))
const data = join(root, 'examples', 'data', 'glosses', 'layer20.safetensors')
const rows = 64

function train(folder, options) {
  const size = ['--steps', STEPS, '--d-sae', D_SAE, '--batch-size', 128, '--device', 'cpu']
  const args = ['train', data, '--out', folder, '--quiet', ...size, ...options]
  // what it prints goes where it does not mix with the list
  execFileSync(process.execPath, [join(root, 'dist', 'cli', 'main.js'), ...args], { stdio: ['ignore', 2, 2] })
}

/** The first rows of a matrix, into a file of numbers. */
function write(folder, name, { data, shape }) {
  writeFileSync(join(folder, `${name}.f32`), data.subarray(0, rows * shape[1]))
}

const models = []
for (const { name, options, as } of MODELS) {
  const trained = join(out, name)
  train(trained, options)
  const model = await BinaryAutoencoder.load(trained)
  const [activations, reconstruction] = [await model.activations(data), await model.reconstruct(data)]
  for (const format of as) {
    const folder = join(out, `${name}-${format}`)
    await model.save(folder, { format })
    write(folder, 'activations', activations)
    write(folder, 'reconstruction', reconstruction)
    models.push({ library: READERS[format], name, folder })
  }
  model.dispose()
}
process.stdout.write(JSON.stringify({ data, rows, models }))
