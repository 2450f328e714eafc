import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import assets from '../assets/assets.cjs'
import { checkPlot, type PlottedReport, plotEntropy } from '../src/index.js'
import { bae } from './cli/bae.js'
import { folder, random, rows, writeRows } from './data.js'

/** What an entropy report of 64 features may look like, with `groups` groups of that value. */
function report(groups = 0, value: (group: number) => number | string = group => group): PlottedReport {
  const next = random(7)
  const figures = (bits: number) => ({
    rows: 512,
    features: 64,
    entropyBits: bits - 1,
    density: 0.1 + 0.02 * next(),
    estimates: { plugIn: bits - 1, millerMadow: bits, jackknife: bits + 0.1, grassberger: bits },
    interval: { lower: bits - 2, upper: bits + 2, level: 0.95 },
  })
  const block = [3, 17, 21, 40]
  return {
    ...figures(30),
    batch: { size: 512, entropyBits: 28 },
    neverOn: { features: 11 },
    alwaysOn: { features: 2 },
    densityHistogram: { edges: [0.0001, 0.001, 0.01, 0.1, 1], features: [0, 1, 20, 30] },
    l0Distribution: {
      quartiles: [5, 6, 8],
      counts: Array.from({ length: 65 }, (_, on) => (on < 12 ? on : 0)),
    },
    joint: { lowerBits: 8, upperBits: 20 },
    yardsticks: { gaussian: { bits: 25.5 } },
    pairs: { block: { features: block, phi: block.map(i => block.map(j => (i === j ? 1 : 0.1))) } },
    ...(groups && {
      by: 'layer',
      groups: Array.from({ length: groups }, (_, group) => ({
        value: value(group),
        ...figures(20 + 10 * next()),
      })),
    }),
  }
}

/** The text of each label in an SVG picture. */
const labels = (svg: string) => [...svg.matchAll(/<text[^>]*>([^<]*)<\/text>/g)].map(([, text]) => text)

/** Draws into a new folder, and gives what was written. */
async function drawn(what: PlottedReport, extension: string): Promise<Buffer> {
  const path = join(folder(), `picture${extension}`)
  await plotEntropy(what, path)
  return readFileSync(path)
}

describe('a picture', () => {
  test('has axes with units, and a curve for numbers', async () => {
    const svg = String(
      await drawn(
        report(6, group => 2 ** group),
        '.svg',
      ),
    )
    expect(svg).toMatch(/^<svg /)
    expect(svg).toContain('<title>Entropy by layer</title>')
    expect(labels(svg)).toEqual(
      expect.arrayContaining([
        ...['entropy (bits)', 'density (%)', 'layer', 'rate: share of the rows a feature is on in'],
        ...['features', 'rows', 'features on in a row', 'φ'],
        // each group's value is on the axis; never and always have bars with their counts
        ...['1', '2', '4', '8', '16', '32', 'never', 'always', '11'],
      ]),
    )
    expect(svg).not.toMatch(/NaN|undefined|Infinity/)
  })

  test('names its groups down the side where they are no numbers', async () => {
    const svg = String(
      await drawn(
        report(3, group => ['north', 'south', 'east'][group] as string),
        '.svg',
      ),
    )
    const shown = labels(svg).filter(text => ['north', 'south', 'east'].includes(text as string))
    expect(shown).toEqual(['north', 'south', 'east'])
  })

  test('leaves out of long names what they have in common, and keeps them apart', async () => {
    const name = (group: number) => `a_collection_of_prompts_with_a_long_name_${group}_of_all.safetensors`
    const shown = labels(String(await drawn(report(4, name), '.svg'))).filter(text => text?.includes('…'))
    expect(new Set(shown).size).toBe(4)
    for (const text of shown) expect(text?.length).toBeLessThan(30)
    const alone = labels(String(await drawn(report(1, name), '.svg'))).find(text => text?.includes('…'))
    expect(alone?.length).toBeLessThan(40)
  })

  test('of all rows shows the estimates beside each other, the joint entropy as an interval', async () => {
    const svg = String(await drawn(report(), '.svg'))
    expect(svg).toContain('<title>Entropy of the codes</title>')
    const expected = ['sum of marginals, plug-in', 'Miller–Madow', 'jackknife, with interval', 'Grassberger']
    expect(labels(svg)).toEqual(
      expect.arrayContaining([
        ...expected,
        'joint entropy, between',
        '8 … 20',
        'a Gaussian at the same error',
        '25.5',
      ]),
    )
  })

  test('has no entropies below 0 on its axis, and no halves of features', async () => {
    const what = { ...report(), joint: { lowerBits: 0.2, upperBits: 31 } }
    expect(labels(String(await drawn(what, '.svg'))).filter(text => /^[−-]\d/.test(text as string))).toEqual([
      // φ goes from −1 to 1
      '−1',
    ])
    // features that are all never or always on are not cut off, and a single row is a whole one
    const bare = {
      ...{ entropyBits: 0, density: 0.1, neverOn: { features: 3 }, alwaysOn: { features: 1 } },
      densityHistogram: { edges: [0.1, 1], features: [0] },
      l0Distribution: { quartiles: [1, 1, 1], counts: [0, 1] },
    }
    const shown = labels(String(await drawn(bare, '.svg')))
    expect(shown).toEqual(expect.arrayContaining(['3', '1']))
    expect(shown.filter(text => text?.includes('↑') || /^[0-3]\.[2468]$/.test(text as string))).toEqual([])
  })

  test.each([1, 30, 300])('of %i groups is drawn, numbers and names', async groups => {
    for (const value of [(group: number) => group, (group: number) => `group ${group}`]) {
      const svg = String(await drawn(report(groups, value), '.svg'))
      expect(svg).not.toMatch(/NaN|undefined|Infinity/)
    }
  })

  test('is drawn of figures that are missing, or no numbers', async () => {
    const bare = { entropyBits: 3, density: 0.5 }
    expect(labels(String(await drawn(bare, '.svg')))).toContain('entropy (bits)')
    const groups = [
      { value: 0, entropyBits: null, density: null },
      { value: 1, entropyBits: 0, density: 0, interval: { lower: null, upper: null } },
      { value: 2, entropyBits: 4, density: 1, estimates: { jackknife: null } },
    ]
    const rest = {
      joint: null,
      interval: null,
      l0Distribution: null,
      densityHistogram: { edges: [0.1, 1], features: [0] },
    }
    const what = { entropyBits: null, density: null, by: 'position', groups, ...rest }
    const svg = String(await drawn(what, '.svg'))
    expect(svg).not.toMatch(/NaN|undefined|Infinity/)
    await expect(drawn({ entropyBits: null, density: null }, '.svg')).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    })
  })

  test('keeps what names mean to SVG and HTML out of them', async () => {
    const evil = '</script><script>alert(1)</script>&<b>'
    const what = { ...report(2, group => `${evil}${group}`), by: evil }
    for (const extension of ['.svg', '.html']) {
      const text = String(await drawn(what, extension))
      expect(text).not.toContain('<script>alert')
      expect(text).not.toContain('<b>')
    }
  })

  test('as PNG is twice the size, and its letters show', async () => {
    const png = await drawn(report(6), '.png')
    const svg = String(await drawn(report(6), '.svg'))
    const [, width, height] = /<svg[^>]* width="(\d+)" height="(\d+)"/.exec(svg) as unknown as string[]
    expect([png.readUInt32BE(16), png.readUInt32BE(20)]).toEqual([2 * Number(width), 2 * Number(height)])
    expect(existsSync(assets.font)).toBe(true)
    // the same without its text takes far fewer bytes
    const { renderAsync } = await assets.loadResvg()
    const options = {
      background: 'white',
      fitTo: { mode: 'zoom', value: 2 },
      font: { loadSystemFonts: false },
    }
    const bare = await renderAsync(svg.replaceAll(/<text.*?<\/text>/g, ''), options)
    expect(png.length).toBeGreaterThan(1.5 * bare.asPng().length)
    // and the bundled font alone is enough for all of it
    const font = { fontFiles: [assets.font], defaultFontFamily: 'Inter', loadSystemFonts: false }
    expect(Buffer.from((await renderAsync(svg, { ...options, font })).asPng())).toEqual(png)
  })

  test('as HTML is one file that asks for nothing', async () => {
    const html = String(await drawn(report(6), '.html'))
    expect(html).toContain("default-src 'none'")
    expect(html).toMatch(/<div id="picture"><svg /)
    expect(html.replace(/<script>[\s\S]*?<\/script>/g, '')).not.toMatch(/<(link|img|script src|iframe)/)
    // each script is whole: what is between its tags can be parsed
    const scripts = [...html.matchAll(/<script([^>]*)>([\s\S]*?)<\/script>/g)]
    expect(scripts).toHaveLength(3)
    for (const [, kind, text] of scripts) {
      if (kind?.includes('json')) JSON.parse(text as string)
      else new Function(text as string)
    }
  })
})

describe('the file', () => {
  test('has one of three extensions', async () => {
    for (const path of ['picture.pdf', 'picture', 'constructor']) {
      await expect(checkPlot(path)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(/\.svg, \.png, \.html/),
      })
    }
    await checkPlot(join(folder(), 'PICTURE.SVG'))
  })

  test('is not written over unasked, and a missing folder is named', async () => {
    const dir = folder()
    const path = join(dir, 'picture.svg')
    writeFileSync(path, 'mine')
    await expect(plotEntropy(report(), path)).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringContaining('already exists'),
    })
    expect(readFileSync(path, 'utf8')).toBe('mine')
    await plotEntropy(report(), path, { overwrite: true })
    expect(readFileSync(path, 'utf8')).toMatch(/^<svg/)
    await expect(plotEntropy(report(), join(dir, 'none', 'picture.svg'))).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringContaining('create its folder first'),
    })
    mkdirSync(join(dir, 'folder.svg'))
    await expect(plotEntropy(report(), join(dir, 'folder.svg'), { overwrite: true })).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringContaining('is a folder'),
    })
  })

  test('refuses what is no report', async () => {
    for (const what of [null, 5, {}]) {
      await expect(plotEntropy(what as never, join(folder(), 'a.svg'))).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      })
    }
  })
})

describe('bae entropy --plot', () => {
  let home: string
  beforeAll(async () => {
    home = folder({ keep: true })
    const data = writeRows(join(home, 'states.safetensors'), rows())
    const quick = ['--epochs', '3', '--batch-size', '64', '--d-sae', '24', '--device', 'cpu']
    expect((await bae(['train', data, '--out', join(home, 'model'), ...quick])).status).toBe(0)
  })

  test('draws what is counted, in each format', async () => {
    for (const name of ['a.svg', 'a.png', 'a.html']) {
      const { status, stderr } = await bae(
        ['entropy', 'model', 'states.safetensors', '--plot', name, '--quiet'],
        home,
      )
      expect([status, stderr]).toEqual([0, ''])
      expect(existsSync(join(home, name))).toBe(true)
    }
    expect(labels(readFileSync(join(home, 'a.svg'), 'utf8'))).toContain('entropy (bits)')
  })

  test('says no before it reads', async () => {
    writeFileSync(join(home, 'there.svg'), 'mine')
    const tried = (name: string) =>
      bae(['entropy', 'model', 'missing.safetensors', '--plot', name, '--json'], home)
    const [there, other] = [await tried('there.svg'), await tried('a.pdf')]
    expect(JSON.parse(there.stdout).error).toMatchObject({ code: 'IO' })
    expect([there.status, other.status]).toEqual([1, 2])
    expect(other.stderr).toContain('.svg, .png or .html')
  })
})
