import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  BaeError,
  BinaryAutoencoder,
  type Comparison,
  compare,
  type RowsProgress,
  stability,
  train,
} from '../src/index.js'
import { bae } from './cli/bae.js'
import { folder, REAL, type Rows, random, safetensors, writeRows } from './data.js'

const DIN = 24

/** A feature: it is on where the sum of `sees` is above `above`, and adds `writes`. */
interface Feature {
  sees: number[]
  above: number
  writes: number[]
}

const axis = (...dimensions: number[]) => Array.from({ length: DIN }, (_, i) => +dimensions.includes(i))
const negative = (values: number[]) => values.map(value => -value)

/** Sees one dimension and writes it, or several and all of them. */
const on = (...dimensions: number[]): Feature => ({
  sees: axis(...dimensions),
  above: 0.5,
  writes: axis(...dimensions),
})

/** On where the feature is off, and the same to the reconstruction but for a constant. */
const turned = ({ sees, above, writes }: Feature): Feature => ({
  sees: negative(sees),
  above: -above,
  writes: negative(writes),
})

let home: string
let data: string
beforeAll(() => {
  home = folder({ keep: true })
  data = writeRows(join(home, 'states.safetensors'), states())
})
afterAll(() => rmSync(home, { recursive: true, force: true }))

/** 0 and 1, each dimension on in a fifth of the rows; 0 and 1 never together. */
function states(): Rows {
  const [next, count] = [random(7), 3000]
  const values = new Float32Array(count * DIN)
  for (let row = 0; row < count; row++) {
    for (let i = 0; i < DIN; i++) values[row * DIN + i] = +(next() < 0.2)
    if (values[row * DIN]) values[row * DIN + 1] = 0
  }
  return { data: values, shape: [count, DIN] }
}

/** Writes a model with these features and gives its folder. */
function written(name: string, features: Feature[], dIn = DIN): string {
  const dir = join(home, name)
  const dSae = features.length
  const f32 = (shape: number[], values: number[]) => ({
    dtype: 'F32',
    shape,
    data: Float32Array.from(values),
  })
  const columns = Array.from({ length: dIn }, (_, i) => features.map(({ sees }) => sees[i] ?? 0))
  mkdirSync(dir, { recursive: true })
  writeFileSync(
    join(dir, 'sae_weights.safetensors'),
    safetensors({
      W_enc: f32([dIn, dSae], columns.flat()),
      b_enc: f32(
        [dSae],
        features.map(({ above }) => -above),
      ),
      W_dec: f32(
        [dSae, dIn],
        features.flatMap(({ writes }) => writes.slice(0, dIn)),
      ),
      b_dec: f32([dIn], new Array(dIn).fill(0)),
    }),
  )
  const config = { architecture: 'bae', d_in: dIn, d_sae: dSae, dtype: 'float32', metadata: {} }
  writeFileSync(join(dir, 'cfg.json'), JSON.stringify({ ...config, apply_b_dec_to_input: false }))
  return dir
}

async function compared(a: Feature[], b: Feature[], options = {}): Promise<Comparison> {
  using one = await BinaryAutoencoder.load(written('a', a))
  using other = await BinaryAutoencoder.load(written('b', b))
  return await compare(one, other, { data, threads: 1, ...options })
}

const singles = Array.from({ length: 20 }, (_, i) => on(i + 2))

describe('planted features', () => {
  test('the same ones in another order, some turned around, are all shared', async () => {
    const order = singles.map((_, i) => (7 * i + 3) % 20)
    const others = order.map(i => (i % 3 === 0 ? turned(singles[i]!) : singles[i]!))
    const found = await compared(singles, others)
    expect(found.rows).toBe(3000)
    expect(found.matchedByBoth).toBe(20)
    for (const measure of [found.decoder, found.codes!]) {
      expect(measure).toMatchObject({ matched: 20, matchedFraction: 1, turning: true, families: [] })
      expect(measure.meanMatched).toBeCloseTo(1, 6)
      expect(measure.a).toMatchObject({ shared: 20, split: 0, merged: 0, missing: 0, constant: 0 })
      expect(measure.b.classes).toEqual(new Array(20).fill('shared'))
      for (const { a, b, cosine, phi } of measure.pairs) {
        expect(order[b]).toBe(a)
        expect(cosine).toBeCloseTo(a % 3 === 0 ? -1 : 1, 6)
        expect(phi).toBe(a % 3 === 0 ? -1 : 1)
        expect(measure.a.nearest[a]).toBe(b)
        expect(measure.b.similarity[b]).toBeCloseTo(cosine, 6)
      }
    }
    // dimensions shuffled still are 0 and 1, so decoders may meet by chance; codes do not
    expect(found.codes!.chance).toMatchObject({ matched: 0, matchedFraction: 0, meanMatched: null })
    expect(found.codes!.chance.meanNearest[0]).toBeLessThan(0.1)
  })

  test('one that is two in the other model is split here and merged there', async () => {
    const one = [on(0, 1), ...singles]
    const two = [on(0), on(1), ...singles]
    const found = await compared(one, two)
    for (const measure of [found.decoder, found.codes!]) {
      expect(measure.matched).toBe(21)
      expect(measure.a).toMatchObject({ shared: 20, split: 1, merged: 0, missing: 0 })
      expect(measure.b).toMatchObject({ shared: 20, split: 0, merged: 2, missing: 0 })
      expect(measure.a.classes[0]).toBe('split')
      expect(measure.families).toHaveLength(1)
      expect(measure.families[0]!.a).toEqual([0])
      expect(measure.families[0]!.b.toSorted()).toEqual([0, 1])
    }
    const back = await compared(two, one)
    for (const measure of [back.decoder, back.codes!]) {
      expect(measure.a).toMatchObject({ shared: 20, split: 0, merged: 2, missing: 0 })
      expect(measure.b).toMatchObject({ shared: 20, split: 1, merged: 0, missing: 0 })
      expect(measure.families[0]!.b).toEqual([0])
    }
  })

  test('what the other lacks is missing, and what never changes is constant', async () => {
    const silent = { ...on(22), above: 100 }
    const weightless = { ...on(23), writes: axis() }
    const found = await compared([...singles.slice(0, 15), silent, weightless], singles.slice(5))
    expect(found.decoder.a).toMatchObject({ shared: 10, missing: 6, constant: 1 })
    expect(found.decoder.a.classes[16]).toBe('constant')
    expect(found.codes!.a).toMatchObject({ shared: 10, missing: 6, constant: 1 })
    expect(found.codes!.a.classes[15]).toBe('constant')
    expect(found.codes!.a.nearest[15]).toBeNull()
    for (const measure of [found.decoder, found.codes!]) {
      expect(measure.b).toMatchObject({ shared: 10, missing: 5, constant: 0 })
      expect(measure.matchedFraction).toBeCloseTo(20 / 31, 12)
    }
  })

  test('thresholds decide', async () => {
    const leaning = singles.map(({ sees, above, writes }) => ({
      sees,
      above,
      writes: writes.map((value, i) => value + (i === 0 ? 1 : 0)),
    }))
    // cosine √½
    expect((await compared(singles, leaning)).decoder.matched).toBe(20)
    const strict = await compared(singles, leaning, { cosineThreshold: 0.71, phiThreshold: 1 })
    expect([strict.decoder.matched, strict.codes!.matched]).toEqual([0, 20])
  })

  test('figures are the plain cosines and φ', async () => {
    const next = random(3)
    const drawn = (): Feature => ({
      sees: Array.from({ length: DIN }, () => next() - 0.5),
      above: next() - 0.5,
      writes: Array.from({ length: DIN }, () => next() - 0.5),
    })
    const [a, b] = [Array.from({ length: 37 }, drawn), Array.from({ length: 70 }, drawn)]
    const found = await compared(a, b, { cosineThreshold: 0.3, phiThreshold: 0.3 })
    using one = await BinaryAutoencoder.load(join(home, 'a'))
    using other = await BinaryAutoencoder.load(join(home, 'b'))
    using codesA = await one.encode(data)
    using codesB = await other.encode(data)
    const correlation = (x: number[], y: number[], centre: boolean) => {
      const mean = (values: number[]) =>
        centre ? values.reduce((sum, value) => sum + value, 0) / values.length : 0
      const [mx, my] = [mean(x), mean(y)]
      const sum = (of: (i: number) => number) => x.reduce((sum, _, i) => sum + of(i), 0)
      const norm = sum(i => (x[i]! - mx) ** 2) * sum(i => (y[i]! - my) ** 2)
      return norm > 0 ? sum(i => (x[i]! - mx) * (y[i]! - my)) / Math.sqrt(norm) : 0
    }
    const bits = (codes: typeof codesA, feature: number) =>
      Array.from({ length: codes.rows }, (_, row) => +codes.get(row, feature))
    expect(found.decoder.matched).toBeGreaterThan(10)
    for (const pair of [...found.decoder.pairs.slice(0, 5), ...found.codes!.pairs.slice(0, 5)]) {
      expect(pair.cosine).toBeCloseTo(correlation(a[pair.a]!.writes, b[pair.b]!.writes, false), 5)
      expect(pair.phi).toBeCloseTo(correlation(bits(codesA, pair.a), bits(codesB, pair.b), true), 9)
    }
    const nearest = a.map(({ writes }) =>
      Math.max(...b.map(other => Math.abs(correlation(writes, other.writes, false)))),
    )
    expect(found.decoder.meanNearest[0]).toBeCloseTo(nearest.reduce((sum, value) => sum + value, 0) / 37, 5)
  })
})

test('random dictionaries share what chance gives', async () => {
  const drawn = (seed: number) => {
    const next = random(seed)
    const values = (count: number) => Array.from({ length: count }, () => next() + next() + next() - 1.5)
    return Array.from({ length: 60 }, () => ({ sees: values(DIN), above: 0, writes: values(DIN) }))
  }
  const { decoder } = await compared(drawn(1), drawn(2))
  expect(decoder.matchedFraction).toBeLessThan(0.2)
  expect(decoder.meanNearest[0]).toBeCloseTo(decoder.chance.meanNearest[0]!, 1)
})

describe('trained models', () => {
  const dirs = ['one', 'two', 'three']
  beforeAll(async () => {
    for (const [seed, name] of dirs.entries()) {
      const { model } = await train(REAL, {
        epochs: 4,
        dSae: 128,
        seed,
        device: 'cpu',
        out: join(home, name),
      })
      model.dispose()
    }
  })

  test('of two seeds share more than chance gives', async () => {
    using one = await BinaryAutoencoder.load(join(home, 'one'))
    using two = await BinaryAutoencoder.load(join(home, 'two'))
    const seen: RowsProgress[] = []
    const found = await compare(one, two, { data: REAL, onProgress: event => seen.push(event) })
    for (const measure of [found.decoder, found.codes!]) {
      expect(measure.matchedFraction).toBeGreaterThan(measure.chance.matchedFraction! + 0.02)
      expect(measure.meanNearest[0]).toBeGreaterThan(measure.chance.meanNearest[0]! + 0.1)
    }
    expect(seen.at(-1)).toMatchObject({ rows: 4096, total: 4096 })
    const again = await compare(one, two, { data: REAL, threads: 1 })
    expect(again).toEqual(found)
    const itself = await compare(one, one)
    expect(itself).toMatchObject({ rows: null, codes: null, matchedByBoth: null })
    expect(itself.decoder).toMatchObject({ matchedFraction: 1, families: [] })
  })

  test('of several seeds: stability over all pairs', async () => {
    const paths = dirs.map(name => join(home, name))
    const { status, stdout } = await bae(['compare', ...paths, '--data', REAL, '--json', '--quiet'])
    expect(status).toBe(0)
    const report = JSON.parse(stdout)
    expect(report.models).toEqual(paths)
    expect(report.comparisons.map(({ a, b }: { a: string; b: string }) => [a, b])).toEqual([
      [paths[0], paths[1]],
      [paths[0], paths[2]],
      [paths[1], paths[2]],
    ])
    const fractions = (report.comparisons as Comparison[]).map(each => each.codes!.matchedFraction!)
    expect(report.stability).toEqual(stability(report.comparisons))
    expect(report.stability.codes.mean).toBeCloseTo(fractions.reduce((sum, value) => sum + value, 0) / 3, 12)
    expect(report.stability.codes.lowest).toBe(Math.min(...fractions))
    expect(report.stability.decoder.highest).toBeGreaterThan(report.stability.decoder.chance.highest)
    const text = await bae(['compare', ...paths, '--quiet'])
    expect(text.status).toBe(0)
    expect(text.stdout).toMatch(/Stability: .* over 3 pairs of 3 models/)
  })
})

describe('what cannot be compared', () => {
  const refused = async (args: string[]) => {
    const { status, stderr } = await bae(['compare', ...args, '--quiet'])
    return { status, message: stderr.trim() }
  }

  test('is refused, and says why', async () => {
    const model = written('wide', singles)
    const narrow = written('narrow', singles, 23)
    expect(await refused([model])).toEqual({
      status: 2,
      message: expect.stringMatching(/two models at least/),
    })
    expect(await refused([model, narrow])).toEqual({
      status: 1,
      message: expect.stringMatching(/width 24 and 23/),
    })
    expect((await refused([model, model, '--data', REAL])).message).toMatch(/takes width 24/)
    expect((await refused([model, model, '--phi-threshold', '0.4'])).message).toMatch(/give --data/)
    expect((await refused([model, model, '--cosine-threshold', '0'])).status).toBe(2)
  })

  test('without data, that is said', async () => {
    const { stdout } = await bae(['compare', written('wide', singles), written('same', singles)])
    expect(stdout).toMatch(/compared by decoder alone/)
    expect(stdout).toMatch(/matched one to one +20 pairs, 100.0 % \(by chance/)
    expect(stdout).not.toMatch(/φ/)
  })

  test('in Node too', async () => {
    using model = await BinaryAutoencoder.load(written('wide', singles))
    using narrow = await BinaryAutoencoder.load(written('narrow', singles, 23))
    const gone = await BinaryAutoencoder.load(written('wide', singles))
    gone.dispose()
    const code = (promise: Promise<unknown>) =>
      promise.then(
        () => 'nothing thrown',
        error => (error instanceof BaeError ? error.code : error.name),
      )
    expect(await code(compare(model, narrow))).toBe('SHAPE_MISMATCH')
    expect(await code(compare(model, narrow, { data }))).toBe('SHAPE_MISMATCH')
    expect(await code(compare(model, gone))).toBe('DISPOSED')
    expect(await code(compare(model, {} as never))).toBe('INVALID_ARGUMENT')
    expect(await code(compare(model, model, { phiThreshold: 2 }))).toBe('INVALID_ARGUMENT')
    expect(await code(compare(model, model, { cosineThreshold: Number.NaN }))).toBe('INVALID_ARGUMENT')
    expect(await code(compare(model, model, { data: [] }))).toBe('INVALID_ARGUMENT')
    expect(await code(compare(model, model, { data, signal: AbortSignal.abort() }))).toBe('AbortError')
    const controller = new AbortController()
    const running = compare(model, model, {
      data,
      signal: controller.signal,
      onProgress: () => controller.abort(),
    })
    expect(await code(running)).toBe('AbortError')
  })
})
