// What a user's script does, as CommonJS.
const assert = require('node:assert/strict')
const { BaeError, BinaryAutoencoder, BinaryCodes, train } = require('binary-autoencoder')

async function main() {
  const [count, dIn] = [200, 12]
  const data = Float32Array.from({ length: count * dIn }, (_, i) => Math.sin(i * i))

  const run = train({ data, shape: [count, dIn] }, { steps: 10, batchSize: 50, dSae: 20 })
  let steps = 0
  for await (const event of run) if (event.type === 'step') steps++
  assert.equal(steps, 10)
  const { model } = await run

  const codes = await model.encode({ data, dims: [count, dIn], type: 'float32' })
  assert.ok(codes instanceof BinaryCodes)
  assert.equal((await model.decode(codes)).data.length, data.length)
  assert.equal((await codes.entropy()).features, 20)

  await model.save('model-cjs')
  const again = await BinaryAutoencoder.load('model-cjs')
  assert.equal(again.dSae, 20)

  const signal = AbortSignal.timeout(50)
  await assert.rejects(async () => await train(data, { dIn, epochs: 1e6, signal }), { name: 'TimeoutError' })

  // codes of the one build of the package are taken by the other
  const esm = await import('binary-autoencoder')
  const other = await esm.BinaryAutoencoder.load('model-cjs')
  assert.deepEqual(await other.decode(codes), await model.decode(codes))

  for (const each of [again, codes, model, other]) each.dispose()
  await assert.rejects(again.evaluate(data), error => error instanceof BaeError && error.code === 'DISPOSED')
  console.log('done')
}

main()
