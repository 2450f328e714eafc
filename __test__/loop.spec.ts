import { monitorEventLoopDelay } from 'node:perf_hooks'
import { expect, test } from 'vitest'
import { train } from '../src/index.js'
import { REAL } from './data.js'

/** Longest pause that is allowed, in milliseconds: far above what is seen, far below what anybody would notice. */
const BOUND = 200

test('the event loop stays free at the end of very many epochs', async () => {
  const data = Float32Array.from({ length: 32 }, (_, i) => Math.sin(i))
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  const { history } = await train({ data, shape: [8, 4] }, { epochs: 20_000, dSae: 8, threads: 1 })
  await new Promise(resolve => setTimeout(resolve, 5))
  delay.disable()
  expect(history).toHaveLength(40_001)
  console.log(`longest pause of the event loop ${(delay.max / 1e6).toFixed(1)} ms`)
  expect(delay.max / 1e6).toBeLessThan(250)
})

test('the event loop stays free while real hidden states are trained on', async () => {
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  let ticks = 0
  const timer = setInterval(() => ticks++, 5)
  const { result } = await train(REAL, { steps: 14 })
  clearInterval(timer)
  delay.disable()
  const [longest, median] = [delay.max / 1e6, delay.percentile(50) / 1e6]
  console.log(
    `longest pause of the event loop ${longest.toFixed(1)} ms, median ${median.toFixed(1)} ms, ` +
      `in ${result.seconds.toFixed(1)} s of training`,
  )
  expect(longest).toBeLessThan(BOUND)
  expect(ticks).toBeGreaterThan((result.seconds * 1000) / BOUND)
})
