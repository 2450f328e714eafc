import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { bench } from '../src/index.js'
import { folder, readSafetensors } from './data.js'

const SMALL = { dIn: 20, dSae: 70, batchSize: 33, steps: 3, warmUp: 1, threads: 2 }

describe('bench', () => {
  test('times every step, and its stages are the step', async () => {
    const seen: number[] = []
    const report = await bench({
      ...SMALL,
      density: 0.25,
      encodeRows: 100,
      onProgress: ({ steps, total }) => {
        seen.push(steps)
        expect(total).toBe(4)
      },
    })
    expect(seen).toEqual([1, 2, 3, 4])
    expect(report).toMatchObject({ device: 'cpu', dIn: 20, dSae: 70, batchSize: 33, threads: 2 })
    expect(report.seconds).toHaveLength(3)
    expect(report.seconds.every(seconds => seconds > 0)).toBe(true)
    expect(report.density).toBeCloseTo(0.25, 1)
    expect(report.live).toBe(1)
    expect(report.open).toBe(1)
    expect(report.encode?.rows).toBe(100)
    expect(report.peakBytes).toBeGreaterThan(1e6)
    const sum = Object.values(report.stages).reduce((sum, each) => sum + each, 0)
    const whole = report.seconds.reduce((sum, each) => sum + each, 0) / 3
    expect(sum).toBeLessThanOrEqual(whole)
  })

  test('leaves features off where not all are to be live, and counts what a window lets through', async () => {
    const settings = { ...SMALL, dSae: 300, density: 0.05, live: 0.4 }
    const report = await bench({ ...settings, estimator: 'rectangle', gradientWidth: 0.3 })
    expect(report.live).toBeGreaterThan(0.25)
    expect(report.live).toBeLessThan(0.55)
    expect(report.open).toBeGreaterThan(0)
    expect(report.open).toBeLessThan(0.3)
  })

  test('writes what others need to do the same step, once', async () => {
    const home = folder()
    const fixture = join(home, 'step.safetensors')
    await bench({ ...SMALL, fixture })
    const { metadata, tensors } = readSafetensors(readFileSync(fixture))
    expect(Object.keys(tensors).sort()).toEqual(
      [
        'W_dec',
        'W_enc',
        'b_dec',
        'b_enc',
        'grad.W_dec',
        'grad.W_enc',
        'grad.b_dec',
        'grad.b_enc',
        'x',
      ].sort(),
    )
    expect(tensors['grad.W_enc']?.shape).toEqual([20, 70])
    expect(Number(metadata.mse)).toBeGreaterThan(0)
    await expect(bench({ ...SMALL, fixture })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/there already/),
    })
    expect(readdirSync(home)).toEqual(['step.safetensors'])
  })

  test('times an architecture whose codes hold values, and says how many of them are on', async () => {
    const report = await bench({ ...SMALL, architecture: 'topk', k: 7, density: 0.5, clipNorm: 1 })
    expect(report.seconds).toHaveLength(3)
    expect(report.density).toBeCloseTo(0.1, 10)
    expect(report.live).toBeGreaterThan(0.5)
    expect(report.open).toBeNull()
    expect(Object.values(report.stages).every(stage => stage === 0)).toBe(true)
    const relu = await bench({ ...SMALL, architecture: 'relu', density: 0.5 })
    expect(relu.density).toBeCloseTo(0.5, 1)
  })

  test('writes all tensors of an architecture for others to do its step', async () => {
    const fixture = join(folder(), 'step.safetensors')
    await bench({ ...SMALL, architecture: 'jumprelu', sparsityWeight: 0.25, fixture })
    const { metadata, tensors } = readSafetensors(readFileSync(fixture))
    expect(tensors['grad.threshold']?.shape).toEqual([70])
    expect(metadata).toMatchObject({ architecture: 'jumprelu', sparsityWeight: '0.25' })
    const penalty = Number(metadata.sparsity)
    expect(Number(metadata.loss)).toBeCloseTo(Number(metadata.mse) + 0.25 * penalty, 4)
    expect(penalty).toBeGreaterThan(0)
  })

  test.each([
    [{ dIn: 0 }, /dIn/],
    [{ density: 1 }, /density/],
    [{ density: 0.5, live: 0.1 }, /live/],
    [{ steps: 0 }, /steps/],
    [{ threads: 5000 }, /threads/],
    [{ precision: 'f16' }, /precision/],
    [{ gradientWidth: 1 }, /gradientWidth/],
    [{ nonsense: 1 }, /nonsense/],
    [{ architecture: 'best' }, /architecture is "best": it may be bae/],
    [{ architecture: 'pca' }, /architecture pca is found at once/],
    [{ architecture: 'relu', k: 3 }, /k is not for architecture relu/],
    [{ architecture: 'topk', k: 0 }, /k is 0/],
    [{ architecture: 'topk', covarianceWeight: 1e-6 }, /covarianceWeight is not for architecture topk/],
    [{ architecture: 'topk', estimator: 'sigmoid' }, /estimator is not for architecture topk/],
    [{ architecture: 'topk', precision: 'bf16' }, /precision is for architecture bae/],
    [{ architecture: 'relu', sparsityWeight: -1 }, /sparsityWeight is -1/],
    [{ clipNorm: 0 }, /clipNorm is 0/],
  ])('refuses %j', async (wrong, message) => {
    await expect(bench({ ...SMALL, ...wrong } as never)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    })
  })

  test('refuses what does not fit in memory before it starts', async () => {
    await expect(bench({ ...SMALL, dIn: 1 << 20, dSae: 1 << 24 })).rejects.toMatchObject({
      code: 'OUT_OF_MEMORY',
    })
  })

  test('ends when its signal says so', async () => {
    const signal = AbortSignal.timeout(50)
    await expect(bench({ dIn: 64, dSae: 256, steps: 1_000_000, signal })).rejects.toMatchObject({
      name: 'TimeoutError',
    })
    const encoding = bench({ ...SMALL, encodeRows: 1e12, signal: AbortSignal.timeout(200) })
    await expect(encoding).rejects.toMatchObject({ name: 'TimeoutError' })
  })
})
