// Compiled, not run: the types that a user's CommonJS module sees.
import bae = require('binary-autoencoder')

export async function use(x: Float32Array): Promise<bae.EntropyReport> {
  const { model }: bae.TrainOutcome = await bae.train(x, { dIn: 4, steps: 3 })
  const codes: bae.BinaryCodes = await model.encode(x)
  const report = await codes.entropy()
  codes.dispose()
  model.dispose()
  return report
}
