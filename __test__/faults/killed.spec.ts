import { appendFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { folder } from '../data.js'
import { killAgainAndAgain } from './killed.js'
import { same, seedOf, Training } from './training.js'

test('a run that is killed 20 times, at any moment, ends as if it had not been', async () => {
  const seed = seedOf('killed 20 times')
  const killed = await killAgainAndAgain(folder(), 20, seed)
  console.log(`killed: ${JSON.stringify(killed)}`)
}, 300_000)

test('a line that a kill cut short is ended by the next run', async () => {
  const training = new Training(folder()).withData()
  const plain = await training.whole()
  const run = training.start('run', '--checkpoint-every', '10')
  await training.until(run, 'run', event => event.type === 'checkpoint')
  run.child.kill('SIGKILL')
  await run.ended
  training.told('run')
  appendFileSync(join(training.dir, 'run', 'metrics.jsonl'), '{"time":1,"type":"st')
  same(await training.whole('run', '--resume'), plain)
  const lines = training.lines('run')
  const cut = lines.indexOf('{"time":1,"type":"st')
  const events = lines.toSpliced(cut, 1).map(line => JSON.parse(line))
  const types = events
    .slice(cut)
    .map(({ type }) => type)
    .filter(type => type !== 'warning')
  expect(types.slice(0, 2)).toEqual(['start', 'resume'])
  expect(events.filter(({ type }) => type === 'start')).toHaveLength(2)
})
