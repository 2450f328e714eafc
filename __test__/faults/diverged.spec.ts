import { expect, test } from 'vitest'
import { folder } from '../data.js'
import { failure, Training } from './training.js'

test.each([['1e38'], ['1e30'], ['1e10']])(
  'a learning rate of %s: says why, and the last finite model is kept',
  async rate => {
    const training = new Training(folder(), [
      '--d-sae',
      '128',
      '--batch-size',
      '48',
      '--steps',
      '200',
    ]).withData()
    const ended = await training.start('run', '--lr', rate).ended
    if (ended.status === 0 && rate !== '1e38') {
      // bounded by its nature: nothing became infinite
      training.came('run', ended)
    } else {
      expect(failure(ended, { status: 1, code: 'NOT_FINITE' })).toMatch(
        /^the loss is not finite at step \d+ \(.+\); lower the learning rate or the weights/,
      )
      expect(training.checkpoints('run')).toEqual([])
    }
    await training.uses('run')
  },
)
