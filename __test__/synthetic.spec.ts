import { describe, expect, test } from 'vitest'
import { synthetic } from '../src/index.js'
import { bae } from './cli/bae.js'

const SMALL = { rank: 3, dIn: 12, rows: 600, steps: 6, device: 'cpu' } as const

describe('synthetic', () => {
  test('finds the bits that made the hidden states', async () => {
    const seen: string[] = []
    const report = await synthetic({ ...SMALL, onEvent: ({ type }) => seen.push(type) })
    expect(report.trueBits).toBe(3)
    expect(report.entropyBits).toBeGreaterThan(2.9)
    expect(report.entropyBits).toBeLessThanOrEqual(3)
    expect(report.liveFeatures).toBe(3)
    expect(report.fvu).toBeLessThan(1e-6)
    expect(report.recovery.f1).toBe(1)
    expect(report.recovery.bits.map(({ bit }) => bit)).toEqual([0, 1, 2])
    expect(report.training.steps).toBe(6)
    expect(seen).toContain('start')
  })

  test('takes the settings of a training, with the preset minimal unless another is given', async () => {
    const noisy = { ...SMALL, noise: 0.1, rows: 2000, threads: 1 }
    const minimal = await synthetic(noisy)
    const reference = await synthetic({ ...noisy, preset: 'reference', steps: 40, dSae: 30 })
    expect(minimal.entropyBits).toBeLessThan(reference.entropyBits)
    expect(minimal.noiseFraction).toBeGreaterThan(0.1)
    expect(reference.training.steps).toBe(40)
  })

  test('has truths of all kinds in closed form', async () => {
    const of = async (kind: 'pairs' | 'sparse' | 'common-cause' | 'markov') =>
      (await synthetic({ ...SMALL, kind, rank: 8, steps: 1 })).trueBits
    expect(await of('markov')).toBeCloseTo(4.28297, 5)
    expect(await of('common-cause')).toBeCloseTo(4.74386, 5)
    expect(await of('pairs')).toBeCloseTo(5.87598, 5)
    expect(await of('sparse')).toBeCloseTo(2.29118, 5)
  })

  test.each([
    [{ rank: 0 }, /rank is 0/],
    [{ rank: 13 }, /13 directions cannot be orthogonal in 12 dimensions/],
    [{ noise: -1 }, /noise is -1/],
    [{ kind: 'other' }, /kind must be one of independent/],
    [{ resume: true }, /there is no setting resume/],
    [{ entropyWeight: -1 }, /entropyWeight is -1/],
  ])('refuses %j', async (wrong, message) => {
    await expect(synthetic({ ...SMALL, ...wrong } as never)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    })
  })

  test('refuses what does not fit in memory before it draws anything', async () => {
    await expect(synthetic({ ...SMALL, rows: 2 ** 45 })).rejects.toMatchObject({ code: 'OUT_OF_MEMORY' })
    await expect(synthetic({ ...SMALL, rank: 2 ** 45, directions: 'random' })).rejects.toMatchObject({
      code: 'OUT_OF_MEMORY',
    })
  })

  test('ends when its signal says so', async () => {
    const signal = AbortSignal.timeout(100)
    await expect(synthetic({ ...SMALL, steps: 1_000_000, signal })).rejects.toMatchObject({
      name: 'TimeoutError',
    })
  })
})

describe('bae synthetic', () => {
  const small = [
    'synthetic',
    '--rank',
    '3',
    '--d-in',
    '12',
    '--rows',
    '600',
    '--steps',
    '6',
    '--device',
    'cpu',
  ]

  test('prints one document, the same on any number of threads', async () => {
    const documents = []
    for (const threads of ['1', '2']) {
      const { status, stdout } = await bae([...small, '--kind', 'pairs', '--json', '--threads', threads])
      expect(status).toBe(0)
      const { training, ...figures } = JSON.parse(stdout)
      documents.push(figures)
    }
    expect(documents[0].trueBits).toBeCloseTo(2.469, 5)
    expect(documents[1]).toEqual(documents[0])
  })

  test('says it in words', async () => {
    const { status, stdout } = await bae(small)
    expect(status).toBe(0)
    expect(stdout).toMatch(/truth +3 bits jointly, 3 summed over the bits/)
    expect(stdout).toMatch(/F1 1, MCC 1/)
  })

  test('refuses what is no kind', async () => {
    const { status, stderr } = await bae(['synthetic', '--kind', 'other'])
    expect(status).toBe(2)
    expect(stderr).toMatch(/independent, pairs, sparse, common-cause, markov/)
  })
})
