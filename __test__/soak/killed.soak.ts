import { test } from 'vitest'
import { folder } from '../data.js'
import { killAgainAndAgain } from '../faults/killed.js'
import { seedOf } from '../faults/training.js'

test('a run that is killed 100 times, at any moment, ends as if it had not been', async () => {
  const seed = seedOf('killed 100 times')
  console.log(`killed: ${JSON.stringify(await killAgainAndAgain(folder(), 100, seed))}`)
})
