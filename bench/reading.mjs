// How fast files of hidden states are read, beside numpy's memory maps and pyarrow, in one run and in turns:
// `npm run bench:reading`.
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs, promisify } from 'node:util'
import { python } from './peers/list.mjs'
import { positive } from './step/arguments.mjs'

const { values: options } = parseArgs({
  options: {
    // of each file
    mib: { type: 'string', default: '256' },
    rounds: { type: 'string', default: '3' },
    // passes over a file in each round
    passes: { type: 'string', default: '3' },
  },
})
const rounds = positive(options.rounds, '--rounds')
const passes = positive(options.passes, '--passes')

const run = promisify(execFile)
const root = fileURLToPath(new URL('..', import.meta.url))
const script = fileURLToPath(new URL('peers/reading.py', import.meta.url))
const folder = await mkdtemp(join(tmpdir(), 'bae-reading-'))

/** What a command prints, a line of JSON for each file. */
async function lines(command, args) {
  const { stdout } = await run(command, args, { cwd: root })
  return stdout
    .split('\n')
    .filter(line => line.startsWith('{'))
    .map(line => JSON.parse(line))
}

const cargo = ['bench', '--quiet', '-p', 'bae-data', '--bench', 'reading', '--']
const readers = {
  ours: files => lines('cargo', [...cargo, '--passes', String(passes), ...files]),
  theirs: files => lines(python(), [script, 'time', String(passes), ...files]),
}

const rate = ({ rows, dIn }, seconds) => (rows * dIn * 4) / seconds / 1e9
const range = rates => `${Math.min(...rates).toFixed(2)} to ${Math.max(...rates).toFixed(2)}`
const median = values => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]

try {
  await run(python(), [script, 'make', folder, String(positive(options.mib, '--mib'))])
  const files = (await readdir(folder)).sort().map(name => join(folder, name))
  const rates = new Map(files.map(path => [path, { ours: [], theirs: [] }]))
  for (let round = 0; round < rounds; round++) {
    for (const [reader, measure] of Object.entries(readers)) {
      console.error(`round ${round + 1} of ${rounds}: ${reader}`)
      for (const measured of await measure(files)) {
        rates.get(measured.path)[reader].push(...measured.seconds.map(seconds => rate(measured, seconds)))
      }
    }
  }
  console.log(
    `GB/s of float32 handed out, least to most of ${rounds * passes} passes; the ratio is that of medians\n`,
  )
  console.log('| file | ours | numpy or pyarrow | ratio |\n|---|---|---|---|')
  for (const [path, { ours, theirs }] of rates) {
    const ratio = (median(ours) / median(theirs)).toFixed(2)
    console.log(`| ${basename(path)} | ${range(ours)} | ${range(theirs)} | ${ratio} |`)
  }
} finally {
  await rm(folder, { recursive: true, force: true })
}
