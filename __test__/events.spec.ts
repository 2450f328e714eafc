import { expect, test } from 'vitest'
import { EventLog, type TrainEvent } from '../src/events.js'

const step = (number: number) => ({ type: 'step', step: number }) as TrainEvent
const epoch = (number: number) => ({ type: 'epoch', epoch: number, step: number }) as TrainEvent

async function all(log: EventLog, number = 0): Promise<TrainEvent[]> {
  const events: TrainEvent[] = []
  for (let entry = await log.next(number); entry; entry = await log.next(entry.number))
    events.push(entry.event)
  return events
}

test('readers come at any time and each sees everything', async () => {
  const log = new EventLog()
  const early = all(log)
  log.add(step(1))
  const middle = all(log)
  log.add(epoch(1))
  log.end()
  const events = [step(1), epoch(1)]
  expect(await Promise.all([early, middle, all(log)])).toEqual([events, events, events])
})

test('of very many steps the old ones are forgotten, epochs are not', async () => {
  const log = new EventLog()
  for (let number = 1; number <= 20_000; number++) {
    log.add(step(number))
    if (number % 1000 === 0) log.add(epoch(number))
  }
  log.end()
  const events = await all(log)
  const steps = events.filter(event => event.type === 'step')
  expect(events.filter(event => event.type === 'epoch')).toHaveLength(20)
  expect(steps.length).toBeLessThanOrEqual(4096)
  expect(steps.length).toBeGreaterThanOrEqual(2048)
  expect(steps.at(-1)).toEqual(step(20_000))
})

test('a reader that lags goes on with what is left, in order', async () => {
  const log = new EventLog()
  log.add(step(1))
  const first = await log.next(0)
  for (let number = 2; number <= 10_000; number++) log.add(step(number))
  log.end()
  const numbers = (await all(log, first!.number)).map(event => (event as { step: number }).step)
  expect(numbers[0]).toBeGreaterThan(2)
  expect(numbers.at(-1)).toBe(10_000)
  expect(numbers).toEqual([...numbers].sort((a, b) => a - b))
})

test('the order stays as it was when steps and others are kept apart', async () => {
  const log = new EventLog()
  const events = [step(1), epoch(1), epoch(2), step(2), step(3), epoch(3)]
  for (const event of events) log.add(event)
  log.end()
  expect(await all(log)).toEqual(events)
})

test('it knows which history it has', () => {
  const log = new EventLog()
  log.add(epoch(3))
  expect(log.has(epoch(3) as never)).toBe(true)
  expect(log.has(epoch(4) as never)).toBe(false)
})
