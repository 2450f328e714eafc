// Trains on real hidden states, then encodes, measures, decodes, saves and loads. Run `npm run build` first.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { BinaryAutoencoder, train } from 'binary-autoencoder'

const states = fileURLToPath(new URL('data/glosses/layer20.safetensors', import.meta.url))
const folder = await mkdtemp(join(tmpdir(), 'bae-'))
const abort = new AbortController()

const run = train(states, { steps: 35, dSae: 1152, signal: abort.signal })
for await (const event of run) {
  if (event.type === 'validation') {
    const { epoch, explainedVariance, entropyBits } = event
    console.log(
      `epoch ${epoch}: ${(100 * explainedVariance).toFixed(1)} % explained at ${entropyBits.toFixed(0)} bits`,
    )
  }
}
const { model } = await run

const codes = await model.encode(states)
console.log(`row 0 is ${codes.active(0).length} of ${codes.dSae} features`)
const { entropyBits, density } = await codes.entropy()
console.log(`all ${codes.rows} rows: ${entropyBits.toFixed(0)} bits, density ${density.toFixed(3)}`)
const { shape } = await model.decode(codes)
console.log(`decoded to [${shape}]`)

await model.save(join(folder, 'model'))
const again = await BinaryAutoencoder.load(join(folder, 'model'))
const same = Buffer.compare(Buffer.from(codes.bytes), Buffer.from((await again.encode(states)).bytes)) === 0
console.log(`the saved model gives the same codes: ${same}`)
for (const holder of [codes, model, again]) holder.dispose()
await rm(folder, { recursive: true })
if (!same) process.exit(1)
