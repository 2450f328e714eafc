// The package as a user gets it: packed, installed into an empty project (its path has a space), used from there.
import { execFile } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { folder, rows, writeRows } from '../data.js'

const ROOT = join(import.meta.dirname, '..', '..')
const PROJECT = join(import.meta.dirname, 'project')
const run = promisify(execFile)
const npm = (args: string[], cwd: string) => run('npm', args, { cwd, shell: process.platform === 'win32' })
let home: string
let project: string
let packed: string[]

beforeAll(async () => {
  home = folder({ keep: true })
  project = join(home, 'a project')
  mkdirSync(project)
  const { stdout } = await npm(['pack', '--json', '--ignore-scripts', '--pack-destination', home], ROOT)
  const [{ filename, files }] = JSON.parse(stdout)
  packed = files.map(({ path }: { path: string }) => path)
  writeFileSync(join(project, 'package.json'), '{ "name": "user", "version": "1.0.0", "private": true }')
  const quiet = ['--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error']
  await npm(['install', ...quiet, join(home, filename)], project)
  for (const name of readdirSync(PROJECT)) copyFileSync(join(PROJECT, name), join(project, name))
}, 300_000)
afterAll(() => rmSync(home, { recursive: true, force: true }))

describe('the package', () => {
  test('holds what it needs and nothing else', () => {
    const needed = [
      'package.json',
      'dist/index.js',
      'dist/index.d.ts',
      'dist/cli/main.js',
      'dist-cjs/index.js',
      'dist-cjs/index.d.ts',
      'dist-cjs/package.json',
      'assets/assets.cjs',
      'assets/Inter-Regular.ttf',
      'assets/LICENSE-Inter.txt',
      'native/load.cjs',
      'native/load.d.cts',
      'native/binding.cjs',
      'native/binding.d.cts',
    ]
    expect(packed).toEqual(expect.arrayContaining(needed))
    const expected =
      /^(dist|dist-cjs|assets|native)\/|^(package\.json|README\.md|CHANGELOG\.md|LICENSE[\w.-]*)$/
    expect(packed.filter(path => !expected.test(path))).toEqual([])
    expect(packed.filter(path => /tsbuildinfo|\.map$|\.rs$/.test(path))).toEqual([])
  })

  test('is installed, not linked, and runs no scripts on the way', () => {
    const installed = join(project, 'node_modules', 'binary-autoencoder')
    expect(existsSync(join(installed, 'src'))).toBe(false)
    const { scripts } = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8'))
    for (const name of ['preinstall', 'install', 'postinstall', 'prepare'])
      expect(scripts).not.toHaveProperty(name)
  })
})

test.each(['use.mjs', 'use.cjs'])('%s', async script => {
  const { stdout, stderr } = await run(process.execPath, [script], { cwd: project })
  expect([stdout, stderr]).toEqual(['done\n', ''])
})

describe('types, strictly', () => {
  const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc')
  const compile = (file: string, ...options: string[]) =>
    run(
      process.execPath,
      [
        tsc,
        ...['--noEmit', '--strict', '--target', 'es2022', '--exactOptionalPropertyTypes'],
        ...['--types', 'node', '--typeRoots', join(ROOT, 'node_modules', '@types')],
        ...options,
        file,
      ],
      { cwd: project },
    ).catch(({ stdout }) => ({ stdout }))

  test.each([
    ['typed.mts', ['--module', 'node16', '--moduleResolution', 'node16']],
    ['typed.cts', ['--module', 'node16', '--moduleResolution', 'node16']],
    ['typed.mts', ['--module', 'esnext', '--moduleResolution', 'bundler']],
    ['typed.mts', ['--module', 'nodenext', '--lib', 'es2022']],
  ])('%s with %s', async (file, options) => {
    expect((await compile(file, ...options)).stdout).toBe('')
  })
})

test('the command', async () => {
  writeRows(join(project, 'states.safetensors'), rows(100))
  const bae = join(project, 'node_modules', '.bin', process.platform === 'win32' ? 'bae.cmd' : 'bae')
  const args = ['train', 'states.safetensors', '--out', 'run', '--steps', '3', '--json', '--quiet']
  const { stdout, stderr } = await run(bae, args, { cwd: project, shell: process.platform === 'win32' })
  expect(stderr).toBe('')
  expect(JSON.parse(stdout)).toMatchObject({ model: 'run', steps: 3 })
  const { stdout: entropy } = await npm(
    ['exec', '--', 'bae', 'entropy', 'run', 'states.safetensors', '--json'],
    project,
  )
  expect(JSON.parse(entropy)).toMatchObject({ rows: 100 })
})

test('without the addon the first use says what to do, and importing it does not end the process', async () => {
  const bare = join(home, 'bare')
  const dir = join(bare, 'node_modules', 'binary-autoencoder')
  for (const path of packed.filter(path => !path.endsWith('.node'))) {
    mkdirSync(join(dir, path, '..'), { recursive: true })
    copyFileSync(join(ROOT, path), join(dir, path))
  }
  writeFileSync(
    join(bare, 'x.mjs'),
    `import { train } from 'binary-autoencoder'
     await train([[1, 2], [3, 4]]).then(undefined, error => console.log(error.name, error.code, error.message))`,
  )
  const { stdout } = await run(process.execPath, ['x.mjs'], { cwd: bare })
  expect(stdout).toMatch(
    /^BaeError IO the native addon of binary-autoencoder could not be loaded on .*: .*install/,
  )
})
