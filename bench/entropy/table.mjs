// The figures of counting as Markdown tables, and where they stand in the docs.
import { readFile, writeFile } from 'node:fs/promises'
import { digits, machineLine, range, table } from '../step/table.mjs'

const whole = number => Math.round(number).toLocaleString('en-US')
const threadsOf = count => `${count} ${count === 1 ? 'thread' : 'threads'}`
const ratioOf = ({ ratio }) =>
  ratio ? `${digits(ratio.median)} [${digits(ratio.min)} – ${digits(ratio.max)}]` : '1'

/** Tables of all that was counted and of the passes from hidden states. */
export function countingTables(report) {
  const parts = [machineLine(report)]
  for (const { rows, features, density, live, threads, pairs, ones, missing } of report.counting) {
    const some = live < 1 ? `, ${whole(100 * live)} % of the features ever on` : ''
    const codes = `${whole(rows)} × ${whole(features)}, density ${density}${some}, ${threadsOf(threads)}`
    const bytes = (rows * Math.ceil(features / 64) * 8) / 1e6
    const ofPairs = pairs.map(row => [row.label, range(row.ms), ratioOf(row)])
    const ofOnes = ones.map(row => [
      row.label,
      range(row.ms),
      ratioOf(row),
      /^(counts|the same)/.test(row.label) ? (bytes / row.ms.median).toFixed(1) : '',
    ])
    parts.push(
      `All pairs of ${codes}`,
      table(['', 'ms', 'times ours'], ofPairs),
      `Ones of ${codes}`,
      table(['', 'ms', 'times ours', 'GB/s of packed bits'], ofOnes),
      ...missing.map(({ name, reason }) => `Not timed: ${name}: ${reason}`),
    )
  }
  const { rows, dIn, dSae, density, dead, runs } = report.passes
  const body = runs.map(({ label, ms, ratio }) => [
    label,
    range(ms),
    whole((rows / ms.median) * 1000),
    ratio ? ratio.median.toFixed(3) : '1',
  ])
  const shares = `density ${density.toFixed(3)}, ${whole(100 * (1 - dead))} % of the features ever on`
  parts.push(
    `${whole(rows)} hidden states at (${whole(dIn)}, ${whole(dSae)}), ${shares}`,
    table(['', 'ms', 'rows a second', 'times encode'], body),
  )
  return parts.join('\n\n')
}

/** Puts the tables between the marks in a document. */
export async function counted(document, report) {
  const marks = /(<!-- counting -->\n)[\s\S]*?(<!-- \/counting -->)/
  const text = await readFile(document, 'utf8')
  if (!marks.test(text)) throw new Error(`${document} has no place for the figures of counting`)
  await writeFile(
    document,
    text.replace(marks, (_, begin, end) => `${begin}\n${countingTables(report)}\n\n${end}`),
  )
}
