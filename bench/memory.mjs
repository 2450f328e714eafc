// The memory of a training step against the formula in docs/performance.md: `node bench/memory.mjs` after `npm run build`.
// Each shape runs in a process of its own, because a process never forgets its peak.
import { spawnSync } from 'node:child_process'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { bench } from '../dist/index.js'

const SHAPES = [
  { dIn: 576, dSae: 2304, batchSize: 512 },
  { dIn: 2048, dSae: 8192, batchSize: 512 },
  { dIn: 2048, dSae: 8192, batchSize: 512, estimator: 'rectangle', gradientWidth: 0.5 },
  { dIn: 2048, dSae: 8192, batchSize: 4096 },
  { dIn: 1024, dSae: 16_384, batchSize: 512 },
]
const THREADS = 2

/** Bytes of a step, without Node itself. */
function expected({ dIn: d, dSae: m, batchSize: n, estimator = '' }, { density, live }) {
  const weights = 3 * 4 * (2 * d * m + m + d)
  const batch = 4 * n * m + (estimator === 'rectangle' ? 6 : 5) * 4 * n * d
  const codes = (n * m) / 4 + n * m * density
  const pairs = (live * m) ** 2 / 4 + 2 * n * live * m
  const threads = THREADS * 4 * (512 * d + 288 * n)
  return weights + batch + codes + pairs + threads
}

if (process.argv[2]) {
  const before = process.resourceUsage().maxRSS * 1024
  const report = await bench({ ...JSON.parse(process.argv[2]), threads: THREADS, steps: 2, warmUp: 1 })
  console.log(JSON.stringify({ before, ...report }))
} else {
  const mebibytes = bytes => `${Math.round(bytes / 2 ** 20).toLocaleString('en-US')} MiB`
  console.log(
    '| d_in, d_sae, rows | by the formula | measured, less Node itself | ratio |\n| --- | ---: | ---: | ---: |',
  )
  for (const shape of SHAPES) {
    const { stdout, status, stderr } = spawnSync(
      process.execPath,
      [fileURLToPath(import.meta.url), JSON.stringify(shape)],
      { encoding: 'utf8' },
    )
    if (status !== 0) throw new Error(stderr)
    const report = JSON.parse(stdout)
    const [sum, measured] = [expected(shape, report), report.peakBytes - report.before]
    const name = [shape.dIn, shape.dSae, shape.batchSize, shape.estimator].filter(Boolean).join(', ')
    console.log(`| ${name} | ${mebibytes(sum)} | ${mebibytes(measured)} | ${(measured / sum).toFixed(2)} |`)
  }
}
