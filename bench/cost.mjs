// What the default training costs on this machine, in time and memory: `node bench/cost.mjs` after `npm run build`.
import { availableParallelism, cpus } from 'node:os'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { train } from '../dist/index.js'

const states = fileURLToPath(new URL('../examples/data/glosses/layer20.safetensors', import.meta.url))
const mebibytes = bytes => `${Math.round(bytes / 2 ** 20)} MiB`
const peak = () => process.resourceUsage().maxRSS * 1024

const before = peak()
// to look for a GPU loads its driver, which takes what it takes
const { model, result } = await train(states, { device: 'cpu' })
const trained = peak()
const began = performance.now()
const codes = await model.encode(states)
const seconds = (performance.now() - began) / 1000

const row = { data: new Float32Array(model.dIn), shape: [1, model.dIn] }
const single = []
for (let time = 0; time < 300; time++) {
  const before = performance.now()
  await model.encode(row)
  single.push(performance.now() - before)
}
single.sort((a, b) => a - b)

console.log(`${cpus()[0].model.trim()}, ${availableParallelism()} threads, Node ${process.versions.node}`)
console.log(
  `train: ${result.steps} steps of 512 rows at d_in ${model.dIn}, d_sae ${model.dSae}: ${result.seconds.toFixed(0)} s`,
)
console.log(`peak memory of the process: ${mebibytes(trained)}, of which Node itself ${mebibytes(before)}`)
console.log(
  `encode: ${Math.round(codes.rows / seconds).toLocaleString('en-US')} rows a second; one row: ${single[150].toFixed(2)} ms`,
)
