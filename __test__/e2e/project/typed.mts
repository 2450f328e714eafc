// Compiled, not run: the types that a user's ES module sees.
import {
  BaeError,
  type BaeErrorCode,
  BinaryAutoencoder,
  type BinaryCodes,
  type StatesInput,
  type TrainEvent,
  type TrainOptions,
  train,
} from 'binary-autoencoder'

const options: TrainOptions = { epochs: 2, signal: AbortSignal.timeout(1000), preset: 'default' }
const inputs: StatesInput[] = [
  'states.npy',
  new URL('file:///states.npy'),
  ['a.npy', 'b.npy'],
  { data: new Float32Array(4), shape: [2, 2] },
  { data: new Uint16Array(4), shape: [2, 2], dtype: 'float16' },
  { data: new Float32Array(4), dims: [2, 2], type: 'float32' },
  new Float32Array(4),
  [
    [1, 2],
    [3, 4],
  ],
  [new Float32Array(2), new Float32Array(2)],
]

export async function use(): Promise<number> {
  await using run = train(inputs[0] as StatesInput, options)
  for await (const event of run) {
    const known: TrainEvent = event
    if (known.type === 'validation') console.log(known.explainedVariance.toFixed(2), known.best)
    if (known.type === 'step') console.log(known.batchEntropyBits)
  }
  const { model, history, result } = await run
  using codes: BinaryCodes = await model.encode(inputs[3] as StatesInput, { threads: 2 })
  const { data, shape } = await model.decode(codes)
  const [rows, columns]: [number, number] = shape
  const values: Float32Array = data
  await model.save('dir', { overwrite: true })
  await using again = await BinaryAutoencoder.load('dir')
  try {
    await again.entropy(inputs[1] as StatesInput)
  } catch (error) {
    if (error instanceof BaeError) {
      const code: BaeErrorCode = error.code
      console.log(code, error.cause)
    }
  }
  // @ts-expect-error there is no such option
  train('x', { epoch: 1 })
  // @ts-expect-error nor such data
  train(5)
  return (
    rows +
    columns +
    values.length +
    history.length +
    (result.validation?.entropyBits ?? 0) +
    codes.active(0).length
  )
}
