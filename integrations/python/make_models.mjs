// Trains small models with the command line into folders below the one that is given, and prints what there is to
// compare, as JSON: { data, rows, models: [{ library, name, folder, layerNorm }] }. `library` names the reader (readers.py)
// that is to run the model on the first `rows` rows of `data`. In each folder lies what we make of these rows:
// activations.f32 and reconstruction.f32, float32, little endian, row after row.
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { BinaryAutoencoder } from '../../dist/index.js'

const MODELS = [
  { library: 'sae_lens', name: 'bae', options: [] },
  { library: 'sae_lens', name: 'bae-layer-norm', options: ['--normalize', 'layer-norm'] },
  { library: 'sae_lens', name: 'bae-squarewave', options: ['--estimator', 'squarewave'] },
]
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

function write(folder, name, values) {
  writeFileSync(join(folder, `${name}.f32`), Float32Array.from(values))
}

const models = []
for (const { library, name, options } of MODELS) {
  const folder = join(out, name)
  train(folder, options)
  const model = await BinaryAutoencoder.load(folder)
  const codes = await model.encode(data)
  const bytes = codes.bytes.subarray(0, rows * Math.ceil(D_SAE / 8))
  const first = { bytes, rows, dSae: D_SAE }
  write(folder, 'activations', Array.from({ length: rows }, (_, row) => [...codes.row(row)]).flat())
  write(folder, 'reconstruction', (await model.decode(first)).data)
  models.push({ library, name, folder, layerNorm: model.config.normalize_activations === 'layer_norm' })
  codes.dispose()
  model.dispose()
}
process.stdout.write(JSON.stringify({ data, rows, models }))
