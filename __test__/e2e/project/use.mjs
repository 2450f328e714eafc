// What a user's script does, as an ES module.
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { BaeError, BinaryAutoencoder, BinaryCodes, train } from 'binary-autoencoder'

const [count, dIn] = [200, 12]
const data = Float32Array.from({ length: count * dIn }, (_, i) => Math.sin(i * i) + ((i / dIn) & 1 ? 2 : -2))

const run = train({ data, shape: [count, dIn] }, { epochs: 3, batchSize: 50, dSae: 20 })
const types = new Set()
for await (const event of run) types.add(event.type)
assert.deepEqual([...types], ['start', 'validation', 'step', 'epoch'])
const { model, history, result } = await run
assert.equal(history.length, 7)
assert.ok(result.validation.entropyBits >= 0)

const codes = await model.encode(data, { dIn })
assert.ok(codes instanceof BinaryCodes)
assert.deepEqual([codes.rows, codes.dSae], [count, 20])
const back = await model.decode(codes)
assert.deepEqual(back.shape, [count, dIn])
assert.equal((await codes.entropy()).rows, count)

await model.save('model')
assert.ok(existsSync('model/sae_weights.safetensors'))
const again = await BinaryAutoencoder.load('model')
assert.deepEqual((await again.encode({ data, shape: [count, dIn] })).bytes, codes.bytes)

const controller = new AbortController()
const cancelled = train({ data, shape: [count, dIn] }, { epochs: 1e6, signal: controller.signal })
setTimeout(() => controller.abort(), 50)
await assert.rejects(async () => await cancelled, { name: 'AbortError' })

again.dispose()
await assert.rejects(again.encode(data), error => error instanceof BaeError && error.code === 'DISPOSED')
codes.dispose()
model.dispose()
console.log('done')
