import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { BinaryAutoencoder } from '../../src/index.js'
import { folder, rows, writeRows } from '../data.js'
import { start } from './bae.js'

const ENDLESS = ['--epochs', '1000000', '--batch-size', '64', '--d-sae', '24']

function training(...more: string[]) {
  const dir = folder()
  writeRows(join(dir, 'x.safetensors'), rows())
  return { dir, run: start(['train', 'x.safetensors', '--out', 'run', ...ENDLESS, ...more], dir) }
}

describe('Ctrl-C in the middle', () => {
  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('%s keeps the best model so far and says where', async (signal, code) => {
    const { dir, run } = training()
    await run.says('training ')
    await sleep(500)
    run.child.kill(signal)
    const { status, stdout, stderr } = await run.ended
    expect(stderr).toMatch(
      /\nbae: interrupted after [\d,]+ of 4,000,000 steps; the best model so far is in run, and --resume goes on\n$/,
    )
    expect([status, stdout]).toEqual([code, ''])
    expect(readdirSync(dir).sort()).toEqual(['run', 'x.safetensors'])
    await using model = await BinaryAutoencoder.load(join(dir, 'run'))
    expect(await model.evaluate(join(dir, 'x.safetensors'))).toMatchObject({ rows: 256 })
  })

  test('--json tells it as a document', async () => {
    const { run } = training('--json')
    await run.says('training ')
    await sleep(300)
    run.child.kill('SIGINT')
    const { status, stdout } = await run.ended
    expect(status).toBe(130)
    expect(JSON.parse(stdout)).toEqual({
      error: {
        code: 'INTERRUPTED',
        message: expect.stringMatching(/the best model so far is in run, and --resume goes on$/),
        steps: expect.any(Number),
        model: 'run',
        checkpoint: expect.stringMatching(/^run.checkpoints.step-\d{9}$/),
      },
    })
  })

  test('the same keystroke passed on twice, as npm does, is one', async () => {
    const { dir, run } = training()
    await run.says('training ')
    await sleep(300)
    run.child.kill('SIGINT')
    run.child.kill('SIGINT')
    const { status, stderr } = await run.ended
    expect(status).toBe(130)
    expect(stderr).toContain('the best model so far is in run')
    expect(readdirSync(dir).sort()).toEqual(['run', 'x.safetensors'])
  })
})
