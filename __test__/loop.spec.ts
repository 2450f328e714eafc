import { monitorEventLoopDelay } from 'node:perf_hooks'
import { expect, test } from 'vitest'
import { train } from '../src/index.js'
import { REAL } from './data.js'

/** Longest pause that is allowed, in milliseconds: far above what is seen, far below what anybody would notice. */
const BOUND = 200

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
