import { spawn, spawnSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { BinaryAutoencoder, BinaryCodes, cpu } from '../../src/index.js'
import { folder, REAL, readSafetensors, rows, writeNpy, writeRows } from '../data.js'
import { bae, MAIN, start } from './bae.js'

const COMMANDS = ['train', 'sweep', 'encode', 'entropy', 'evaluate', 'compare', 'inspect', 'bench']
const QUICK = ['--epochs', '3', '--batch-size', '64', '--d-sae', '24', '--device', 'cpu']
const PCA = ['--architecture', 'pca', '--d-sae', '8']
let home: string
let data: string
let model: string

beforeAll(async () => {
  home = folder({ keep: true })
  data = writeRows(join(home, 'states.safetensors'), rows())
  model = join(home, 'model')
  expect((await bae(['train', data, '--out', model, ...QUICK])).status).toBe(0)
})
afterAll(() => rmSync(home, { recursive: true, force: true }))

/** The one document that `--json` prints. */
async function json(args: string[]) {
  const { status, stdout, stderr } = await bae([...args, '--json', '--quiet'])
  expect([status, stderr]).toEqual([0, ''])
  return JSON.parse(stdout)
}

describe('bench', () => {
  const small = [
    'bench',
    '--d-in',
    '16',
    '--d-sae',
    '40',
    '--batch-size',
    '32',
    '--steps',
    '2',
    '--threads',
    '1',
  ]

  test('says how long a step takes, and with --stages on what', async () => {
    const { status, stdout } = await bae([...small, '--stages', '--quiet'])
    expect(status).toBe(0)
    expect(stdout).toMatch(/A training step of 32 rows, 16 values, 40 features: [\d.]+ ms \(median of 2/)
    for (const stage of ['encode', 'covariance', 'gradH', 'adam', 'all stages'])
      expect(stdout).toMatch(new RegExp(`^  ${stage} `, 'm'))
  })

  test('prints its report with --json', async () => {
    const report = await json([...small, '--density', '0.2', '--precision', 'bf16'])
    expect(report).toMatchObject({ device: 'cpu', threads: 1, dIn: 16, dSae: 40 })
    expect(report.seconds).toHaveLength(2)
  })

  test('refuses a density that is none', async () => {
    const { status, stderr } = await bae(['bench', '--density', '1.5'])
    expect(status).toBe(2)
    expect(stderr).toMatch(/density/)
  })
})

describe('help', () => {
  test('of the program names every command and the exit statuses', async () => {
    const { status, stdout, stderr } = await bae(['--help'])
    expect([status, stderr]).toEqual([0, ''])
    for (const command of COMMANDS) expect(stdout).toMatch(new RegExp(`^  ${command} `, 'm'))
    expect(stdout).toContain(
      'Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 143 asked to end.',
    )
  })

  test.each(COMMANDS)('of %s explains its options', async command => {
    const { status, stdout } = await bae([command, '--help'])
    expect(status).toBe(0)
    expect(stdout).toContain(`Usage: bae ${command}`)
    for (const option of ['--json', '--quiet', '--help']) expect(stdout).toContain(option)
  })

  test('of train names every option of the contract', async () => {
    const { stdout } = await bae(['train', '--help'])
    const options =
      'expansion d-sae preset estimator gradient-width epochs steps batch-size lr entropy-weight covariance-weight ' +
      'entropy-start-epoch validation-fraction no-shuffle normalize seed device threads precision out overwrite config'
    for (const option of options.split(' ')) expect(stdout).toMatch(new RegExp(`^  --${option}\\b`, 'm'))
    expect(stdout).toMatch(/bits/)
    expect(stdout).toMatch(/default: 512/)
  })

  test('the version is the package’s', async () => {
    const { version } = JSON.parse(
      readFileSync(join(import.meta.dirname, '..', '..', 'package.json'), 'utf8'),
    )
    expect(await bae(['--version'])).toEqual({ status: 0, stdout: `${version}\n`, stderr: '' })
  })
})

describe('train', () => {
  test('--json is the document of the contract', async () => {
    const out = join(folder(), 'm')
    const document = await json(['train', data, '--out', out, ...QUICK, '--threads', '1'])
    const figures = {
      rows: 52,
      mse: expect.any(Number),
      explainedVariance: expect.any(Number),
      fvu: expect.any(Number),
      entropyBits: expect.any(Number),
      covariance: expect.any(Number),
      l0: expect.any(Number),
      density: expect.any(Number),
      deadFraction: expect.any(Number),
      alwaysOnFraction: expect.any(Number),
      denseFraction: expect.any(Number),
    }
    expect(document).toMatchObject({
      model: out,
      device: 'cpu',
      threads: 1,
      steps: 12,
      epochs: 3,
      seconds: expect.any(Number),
      train: {
        loss: expect.any(Number),
        mse: expect.any(Number),
        entropyBits: expect.any(Number),
        covariance: expect.any(Number),
      },
      validation: figures,
      before: figures,
    })
    expect(document.history).toHaveLength(7)
    expect(readdirSync(out).sort()).toEqual(['.lock', 'cfg.json', 'metrics.jsonl', 'sae_weights.safetensors'])
  })

  test('otherwise it ends in plain words', async () => {
    const out = join(folder(), 'my model')
    const { status, stdout, stderr } = await bae(['train', data, '--out', out, ...QUICK])
    expect(status).toBe(0)
    expect(stderr).toMatch(
      /^training 24 features on 204 rows of 16 values, 52 held out: 12 steps, cpu, \d+ threads?\n/,
    )
    expect(stdout).toMatch(/Trained for 12 steps \(3 epochs\)/)
    expect(stdout).toMatch(/reconstruction .* % of the variance explained; before training: .* %/)
    expect(stdout).toMatch(/entropy .* bits; before training: /)
    expect(stdout).toMatch(/on in a row .* of 24 features \(density .* %\)/)
    expect(stdout).toMatch(/features .* dead, .* always on, .* dense/)
    expect(stdout).toContain(`The model is in ${out}`)
    expect(stdout).toContain(`npx bae evaluate '${out}' '${data}'`)
  })

  test('--quiet says nothing on stderr', async () => {
    const { stderr, stdout } = await bae(['train', data, '--out', join(folder(), 'm'), ...QUICK, '--quiet'])
    expect(stderr).toBe('')
    expect(stdout).toMatch(/^Trained for/)
  })

  test('options arrive', async () => {
    const document = await json([
      ...[
        'train',
        data,
        '--out',
        join(folder(), 'm'),
        '--steps',
        '5',
        '--expansion',
        '1.5',
        '--batch-size',
        '32',
      ],
      ...[
        '--lr',
        '1e-3',
        '--entropy-weight',
        '0',
        '--covariance-weight',
        '1e-4',
        '--entropy-start-epoch',
        '1',
      ],
      ...['--estimator', 'rectangle', '--gradient-width', '0.5', '--normalize', 'none', '--no-shuffle'],
      ...[
        '--validation-fraction',
        '0.5',
        '--seed',
        '3',
        '--device',
        'cpu',
        '--preset',
        'default',
        '--threads',
        '2',
      ],
    ])
    expect(document).toMatchObject({ steps: 5, threads: 2, validation: { rows: 128 } })
    const config = JSON.parse(readFileSync(join(document.model, 'cfg.json'), 'utf8'))
    expect(config.d_sae).toBe(24)
    expect(config.training).toMatchObject({
      batchSize: 32,
      learningRate: 1e-3,
      entropyWeight: 0,
      covarianceWeight: 1e-4,
      entropyStartEpoch: 1,
      normalize: 'none',
      seed: 3,
      preset: 'default',
    })
  })

  test('--config is read, and the command line wins over it', async () => {
    const dir = folder()
    const config = join(dir, 'config.json')
    const settings = {
      steps: 7,
      batchSize: 32,
      learningRate: 1e-3,
      dSae: 20,
      shuffle: false,
      out: join(dir, 'm'),
    }
    writeFileSync(config, JSON.stringify(settings))
    expect(await json(['train', data, '--config', config])).toMatchObject({ steps: 7, model: join(dir, 'm') })
    const document = await json(['train', data, '--config', config, '--epochs', '2', '--out', join(dir, 'n')])
    expect(document).toMatchObject({ epochs: 2, steps: 14, model: join(dir, 'n') })
  })

  test('two runs with one seed, with one and two threads, write the same file', async () => {
    const dir = folder()
    const weights = async (name: string, ...more: string[]) => {
      await json(['train', data, '--out', join(dir, name), ...QUICK, ...more])
      return readFileSync(join(dir, name, 'sae_weights.safetensors'))
    }
    const one = await weights('1', '--seed', '5', '--threads', '1')
    expect(await weights('2', '--seed', '5', '--threads', '2')).toEqual(one)
  })

  test('globs, folders and several files', async () => {
    const dir = join(folder(), 'states')
    mkdirSync(dir)
    writeRows(join(dir, 'a.safetensors'), rows(100))
    writeNpy(join(dir, 'b.npy'), rows(60))
    const train = async (...paths: string[]) => {
      const { history, validation } = await json(['train', ...paths, '--out', join(folder(), 'm'), ...QUICK])
      expect(history.length).toBeGreaterThan(0)
      return validation.rows
    }
    expect(await train(join(dir, '*'))).toBe(32)
    expect(await train(dir)).toBe(32)
    expect(await train(join(dir, 'a.safetensors'), join(dir, '*.npy'))).toBe(32)
    expect(await train(`${join(dir, 'a.safetensors')}#hidden_states`)).toBe(20)
  })

  test('real hidden states, all of them', async () => {
    const out = join(folder(), 'm')
    const { stdout, status } = await bae(['train', REAL, '--out', out, '--epochs', '2', '--json'])
    expect(status).toBe(0)
    const { validation, seconds } = JSON.parse(stdout)
    console.log(
      `two epochs on 4,096 × 576 in ${seconds.toFixed(1)} s, ` +
        `explained ${validation.explainedVariance.toFixed(3)}, ${validation.entropyBits.toFixed(0)} bits`,
    )
    expect(validation.rows).toBe(820)
    expect(validation.explainedVariance).toBeGreaterThan(0)
  })
})

describe('encode', () => {
  test('writes what the library gives', async () => {
    const out = join(folder(), 'codes.safetensors')
    expect(await json(['encode', model, data, '--out', out])).toEqual({ rows: 256, dSae: 24, out })
    using loaded = await BinaryAutoencoder.load(model)
    using codes = await loaded.encode(data)
    using file = await BinaryCodes.load(out)
    expect(file.bytes).toEqual(codes.bytes)
    expect(readSafetensors(readFileSync(out)).metadata).toMatchObject({ rows: '256', d_sae: '24', model })
  })

  test('in words', async () => {
    const out = join(folder(), 'codes.safetensors')
    const { stdout } = await bae(['encode', model, data, '--out', out, '--threads', '1'])
    expect(stdout).toBe(`256 rows of 24 bits written to ${out}\n`)
  })

  test('does not overwrite unless asked', async () => {
    const out = join(folder(), 'codes.safetensors')
    writeFileSync(out, 'mine')
    const refused = await bae(['encode', model, data, '--out', out])
    expect(refused.status).toBe(1)
    expect(refused.stderr).toMatch(/^bae: .*already exists.*--overwrite\n$/)
    expect(readFileSync(out, 'utf8')).toBe('mine')
    expect((await bae(['encode', model, data, '--out', out, '--overwrite'])).status).toBe(0)
  })
})

describe('evaluate and entropy', () => {
  test('--json', async () => {
    using loaded = await BinaryAutoencoder.load(model)
    expect(await json(['evaluate', model, data])).toEqual(await loaded.evaluate(data))
    expect(await json(['entropy', model, data, '--threads', '1'])).toEqual(await loaded.entropy(data))
  })

  test('in words', async () => {
    const evaluate = await bae(['evaluate', model, data])
    expect(evaluate.stdout).toMatch(
      /^256 rows of 16 values, 24 features\n +model +mean +PCA .*\n {2}explained variance +[\d.]+ % +0\.0 % /,
    )
    const entropy = await bae(['entropy', model, data])
    expect(entropy.stdout).toMatch(/^256 rows, 24 features\n {2}entropy .* bits/)
    expect([evaluate.stderr, entropy.stderr]).toEqual(['', ''])
  })
})

test('rows that are all alike: the variance explained is null, in words not defined', async () => {
  const dir = folder()
  const alike = writeRows(join(dir, 'alike.safetensors'), {
    data: new Float32Array(64 * 16).fill(2.5),
    shape: [64, 16],
  })
  expect(await json(['evaluate', model, alike])).toMatchObject({ explainedVariance: null, fvu: null })
  const evaluated = await bae(['evaluate', model, alike])
  expect(evaluated.stdout).toMatch(/\n {2}the variance explained is not defined: the rows are all alike\n/)
  expect(evaluated.stdout).toMatch(/\n {2}frozen encoder: .* others\n/)
  expect(evaluated.stdout).not.toContain('NaN')
  const trained = await bae(['train', alike, '--out', join(dir, 'model'), ...QUICK])
  expect(trained.stdout).toMatch(/reconstruction +not defined: the rows are all alike$/m)
  const document = await json(['train', alike, '--out', join(dir, 'again'), ...QUICK])
  expect(document).toMatchObject({ validation: { explainedVariance: null, fvu: null } })
})

test('advice after a training that failed names options that the architecture has', async () => {
  const dir = folder()
  const noise = (seed: number) =>
    Float32Array.from({ length: 40 * 16 }, (_, at) => Math.sin(seed * (at + 1) ** 2))
  const [from, to] = [1.1, 2.3].map((seed, at) =>
    writeRows(join(dir, `${at}.safetensors`), { data: noise(seed), shape: [40, 16] }),
  ) as [string, string]
  const fitted = await bae(['train', from, '--target', to, '--out', join(dir, 'pca'), ...PCA])
  expect(fitted.stdout).toMatch(
    /worse than the mean of the rows: fewer features, more rows or another --norm/,
  )
  expect(fitted.stdout).toMatch(/^Fitted in /)
  expect(fitted.stdout).not.toContain('before training')
  const bought = await bae(['train', from, '--out', join(dir, 'relu'), '--architecture', 'relu', ...QUICK])
  expect(bought.stdout).toMatch(/^On the 8 rows held out:$/m)
  expect(bought.stdout).not.toContain('--entropy-weight')
})

test('codes that hold values are counted and kept as which features are on, and that is said', async () => {
  const relu = join(folder(), 'relu')
  const trained = await bae(['train', data, '--out', relu, '--architecture', 'relu', ...QUICK])
  const says = /^Codes of standard models hold values; this is of which features are on\. `bae evaluate` /m
  expect(trained.stdout).toMatch(says)
  const swept = await bae([
    'sweep',
    data,
    '--out',
    join(folder(), 'sweep'),
    '--vary',
    'architecture=bae,topk',
    ...QUICK,
  ])
  expect(swept.stdout).toMatch(/^Codes of topk hold values; entropy is of which features are on\./m)
  expect((await bae(['encode', relu, data, '--out', join(folder(), 'codes.safetensors')])).stdout).toMatch(
    says,
  )
  expect((await bae(['entropy', relu, data])).stdout).toMatch(says)
  expect((await bae(['entropy', model, data])).stdout).not.toMatch(/hold values/)
})

describe('inspect', () => {
  test('a model, codes and hidden states', async () => {
    const out = join(folder(), 'codes.safetensors')
    await bae(['encode', model, data, '--out', out])
    expect(await json(['inspect', model])).toMatchObject({ kind: 'model', cfg: { architecture: 'bae' } })
    expect(await json(['inspect', out])).toMatchObject({ kind: 'codes', rows: 256 })
    expect(await json(['inspect', data])).toMatchObject({
      kind: 'hidden_states',
      rows: 256,
      dtype: 'float32',
    })
    const words = await bae(['inspect', model])
    expect(words.stdout).toMatch(/^ {2}kind +model$/m)
    expect(words.stdout).toMatch(/^ {2}cfg\.architecture +bae$/m)
  })
})

describe('inspect --cpu', () => {
  test('--json is what the library says', async () => {
    const document = await json(['inspect', '--cpu'])
    expect(document).toEqual(cpu())
    expect(document).toEqual({
      arch: expect.stringMatching(/^\w+$/),
      simd: expect.any(String),
      available: expect.arrayContaining(['portable', document.simd]),
      cores: { logical: expect.any(Number), physical: expect.any(Number) },
      threads: Math.min(document.cores.logical, document.cores.physical),
    })
    expect(document.threads).toBeGreaterThan(0)
  })

  test('in words', async () => {
    const { status, stdout } = await bae(['inspect', '--cpu'], undefined, { BAE_SIMD: '' })
    expect(status).toBe(0)
    expect(stdout).toMatch(/^ {2}instruction sets +portable/m)
    expect(stdout).toMatch(/^ {2}BAE_SIMD +not set/m)
    expect(stdout).toMatch(/^ {2}threads +\d+ unless/m)
  })

  test('BAE_SIMD picks the instruction set', async () => {
    const { stdout } = await bae(['inspect', '--cpu'], undefined, { BAE_SIMD: 'portable' })
    expect(stdout).toMatch(/^ {2}in use +portable$/m)
    expect(stdout).toMatch(/^ {2}BAE_SIMD +portable$/m)
  })
})

test.each([
  ['inspect', ['--cpu']],
  ['train', ['DATA', '--out', 'never written']],
  ['encode', ['MODEL', 'DATA', '--out', 'never written']],
  ['entropy', ['MODEL', 'DATA']],
  ['evaluate', ['MODEL', 'DATA']],
])('%s refuses a BAE_SIMD that this CPU does not have', async (command, args) => {
  const dir = folder()
  const given = args.map(each => (each === 'DATA' ? data : each === 'MODEL' ? model : each))
  const { status, stdout, stderr } = await bae([command, ...given, '--json'], dir, { BAE_SIMD: 'sse9' })
  expect(stderr).toMatch(/^bae: BAE_SIMD is sse9: this CPU has portable[^\n]*\n$/)
  expect(JSON.parse(stdout)).toEqual({ error: { code: 'INVALID_ARGUMENT', message: stderr.slice(5, -1) } })
  expect(status).toBe(1)
  expect(readdirSync(dir)).toEqual([])
})

describe('wrong usage: status 2, one line, and a document with --json', () => {
  const out = ['--out', 'never written']
  test.each<[string, string[], RegExp]>([
    ['an unknown command', ['trian', 'x'], /unknown command 'trian'.*train/],
    ['an unknown option', ['train', 'x', ...out, '--epoch', '3'], /unknown option '--epoch'.*--epochs/],
    ['no data', ['train', ...out], /missing required argument 'data'/],
    ['no out', ['train', 'x'], /--out DIR is needed/],
    ['no out for codes', ['encode', 'm', 'x'], /--out <file>.* not specified/],
    ['no data for a model', ['evaluate', 'm'], /missing required argument 'data'/],
    ['too many paths', ['inspect', 'a', 'b'], /too many arguments/],
    ['nothing to inspect', ['inspect'], /a path or --cpu is needed/],
    ['a path and the CPU', ['inspect', 'a', '--cpu'], /a path and --cpu contradict/],
    [
      'epochs and steps',
      ['train', 'x', ...out, '--epochs', '1', '--steps', '1'],
      /--epochs and --steps contradict/,
    ],
    [
      'expansion and d-sae',
      ['train', 'x', ...out, '--d-sae', '9', '--expansion', '2'],
      /--expansion and --d-sae contradict/,
    ],
    ['a fraction for a count', ['train', 'x', ...out, '--epochs', '1.5'], /--epochs.*whole number/],
    ['zero', ['train', 'x', ...out, '--batch-size', '0'], /--batch-size.*above 0/],
    ['a word for a number', ['train', 'x', ...out, '--lr', 'fast'], /--lr.*must be a number/],
    ['nothing for a number', ['train', 'x', ...out, '--lr', ''], /--lr.*must be a number/],
    ['infinity', ['train', 'x', ...out, '--lr', 'Infinity'], /--lr.*must be a number/],
    ['NaN', ['train', 'x', ...out, '--entropy-weight', 'NaN'], /--entropy-weight.*must be a number/],
    ['a negative weight', ['train', 'x', ...out, '--entropy-weight', '-1'], /--entropy-weight.*at least 0/],
    [
      'everything held out',
      ['train', 'x', ...out, '--validation-fraction', '1'],
      /--validation-fraction.*below 1/,
    ],
    [
      'an unknown preset',
      ['train', 'x', ...out, '--preset', 'best'],
      /--preset.*default, minimal, reference/,
    ],
    ['no threads', ['evaluate', 'm', 'x', '--threads', '0'], /--threads.*above 0/],
    ['too many threads', ['evaluate', 'm', 'x', '--threads', '1025'], /--threads.*at most 1024/],
    ['too many threads to train', ['train', 'x', ...out, '--threads', '1025'], /--threads.*at most 1024/],
  ])('%s', async (_, args, message) => {
    const dir = folder()
    const { status, stdout, stderr } = await bae([...args, '--json'], dir)
    expect(stderr).toMatch(/^bae: [^\n]+\n$/)
    expect(stderr).toMatch(message)
    expect(status).toBe(2)
    expect(JSON.parse(stdout)).toEqual({ error: { code: 'INVALID_ARGUMENT', message: stderr.slice(5, -1) } })
    expect(readdirSync(dir)).toEqual([])
    const words = await bae(args, dir)
    expect([words.status, words.stdout, words.stderr]).toEqual([2, '', stderr])
  })

  test.each([
    { args: [], message: 'no command given; see --help' },
    { args: ['train', 'x', '--out'], message: "option '--out <dir>' argument missing; see --help" },
  ])('bae $args', async ({ args, message }) => {
    expect(await bae(args)).toEqual({ status: 2, stdout: '', stderr: `bae: ${message}\n` })
  })

  test.each<[string, string, RegExp, number]>([
    ['no JSON', '{', /config\.json is no JSON/, 2],
    ['no object', '[1]', /must hold a JSON object/, 2],
    ['unknown names', '{"lr": 1}', /unknown options: lr; there are .*learningRate/, 2],
    ['a contradiction', '{"epochs": 1, "steps": 1}', /epochs in .* and steps in .* contradict/, 2],
    ['a wrong type', '{"epochs": "many"}', /epochs must be a whole number, not "many"\n$/, 1],
    ['a negative count', '{"epochs": -1}', /^bae: epochs must be a whole number, not -1\n$/, 1],
  ])('a configuration with %s', async (_, text, message, expected) => {
    const dir = folder()
    writeFileSync(join(dir, 'config.json'), text)
    const { status, stdout, stderr } = await bae(
      ['train', data, ...out, '--config', 'config.json', '--json'],
      dir,
    )
    expect(stderr).toMatch(message)
    expect(status).toBe(expected)
    expect(JSON.parse(stdout).error.code).toBe('INVALID_ARGUMENT')
    expect(readdirSync(dir)).toEqual(['config.json'])
  })

  test('a configuration that is not there', async () => {
    const { status, stdout } = await bae(['train', data, ...out, '--config', 'no.json', '--json'], home)
    expect(status).toBe(1)
    expect(JSON.parse(stdout).error).toMatchObject({
      code: 'IO',
      message: expect.stringContaining('no.json'),
    })
  })
})

describe('streams', () => {
  test('a closed stdout is no failure', async () => {
    const { child, ended } = start(['inspect', model])
    child.stdout!.destroy()
    expect(await ended).toMatchObject({ status: 0, stderr: '' })
  })

  test('a closed stderr does not end the training', async () => {
    const out = join(folder(), 'm')
    const { child, ended } = start(['train', data, '--out', out, ...QUICK])
    child.stderr!.destroy()
    expect(await ended).toMatchObject({ status: 0, stdout: expect.stringContaining('The model is in') })
  })

  test.runIf(existsSync('/dev/full'))('an output that cannot be written is a failure', async () => {
    const full = openSync('/dev/full', 'w')
    const { status, stderr } = spawnSync(process.execPath, [MAIN, 'inspect', model], {
      stdio: ['ignore', full, 'pipe'],
      encoding: 'utf8',
    })
    closeSync(full)
    expect(stderr).toMatch(/^bae: [^\n]*no space left[^\n]*\n$/i)
    expect(status).toBe(1)
  })

  test.runIf(existsSync('/usr/bin/script'))(
    'on a terminal there is a bar, and it is taken away',
    async () => {
      const out = join(folder(), 'm')
      const quote = (text: string) => `'${text}'`
      const train = [process.execPath, MAIN, 'train', data, '--out', out, ...QUICK, '--epochs', '200']
      const child = spawn('script', ['-qec', train.map(quote).join(' '), '/dev/null'], {
        stdio: ['ignore', 'pipe', 'ignore'],
      })
      let text = ''
      for await (const chunk of child.stdout) text += chunk
      expect(text).toContain('█')
      expect(text).toMatch(/epoch \d+ of 200/)
      expect(text.slice(text.lastIndexOf('█'))).toContain('Trained for')
    },
  )
})
