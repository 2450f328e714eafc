import { expect, test } from 'vitest'
import { tradeOff } from '../../src/cli/train.js'
import type { ValidationFigures } from '../../src/index.js'

const figures = (explainedVariance: number, entropyBits: number) =>
  ({ explainedVariance, entropyBits }) as ValidationFigures

test('the summary explains error that was paid for fewer bits, and only that', () => {
  expect(tradeOff(figures(0.8, 400), figures(0.75, 300))).toEqual([
    'Training gave 5 points of reconstruction for 25.0 % fewer bits; a lower --entropy-weight keeps more of both.',
  ])
  expect(tradeOff(figures(0.7, 400), figures(0.75, 300))).toEqual([])
  expect(tradeOff(figures(0.8, 300), figures(0.75, 400))).toEqual([])
  expect(tradeOff(figures(Number.NaN, 0), figures(Number.NaN, 0))).toEqual([])
  expect(tradeOff(null, figures(0.75, 300))).toEqual([])
})
