// What the benchmarks read from the command line; what is wrong there ends them with status 2.
import process from 'node:process'

export function fail(line) {
  console.error(line)
  process.exit(2)
}

export function positive(text, what) {
  const value = Number(text)
  if (!(value > 0)) fail(`${what} ${text}: give a number above 0`)
  return value
}

export function shapeOf(text) {
  const [dIn, dSae, batchSize] = text.split('x').map(part => positive(part, '--shape'))
  if (!batchSize) fail(`--shape ${text}: give d_in x d_sae x rows, as 576x2304x512`)
  return { dIn, dSae, batchSize }
}

/** The names of `text`, all of them peers of `list`. */
export function peersOf(text, list) {
  const names = text.split(',').filter(Boolean)
  for (const name of names)
    if (!list[name]) fail(`--peers ${name}: there are ${Object.keys(list).join(', ')}`)
  return names
}
