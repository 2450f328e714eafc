// What the experiments do with their figures.
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus } from 'node:os'
import { basename, dirname, join } from 'node:path'
import process from 'node:process'

/** When and where figures are made. */
export function made(root) {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  return {
    date: today(),
    cpu: cpus()[0].model.trim(),
    threads: availableParallelism(),
    node: process.versions.node,
    version,
  }
}

/** Puts each table between its marks, `<!-- PREFIX:NAME -->` and `<!-- /PREFIX:NAME -->`. */
export function writeTables(document, prefix, tables) {
  const blank = Object.keys(tables).map(name => `<!-- ${prefix}:${name} -->\n<!-- /${prefix}:${name} -->\n`)
  let text = existsSync(document) ? readFileSync(document, 'utf8') : blank.join('\n')
  for (const [name, table] of Object.entries(tables)) {
    const marks = new RegExp(`(<!-- ${prefix}:${name} -->\n)[^]*?(<!-- /${prefix}:${name} -->)`)
    if (!marks.test(text)) throw new Error(`${basename(document)} has no place for the table ${name}`)
    text = text.replace(marks, (_, begin, end) => `${begin}${table}\n${end}`)
  }
  write(document, text)
}

export function write(path, text) {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(`${path}.new`, text)
  renameSync(`${path}.new`, path)
}

export function today() {
  return new Date().toISOString().slice(0, 10)
}

/** Four digits are more than a seed leaves. */
export function rounded(figures) {
  return Object.fromEntries(
    Object.entries(figures).map(([name, value]) => [
      name,
      typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(5)) : value,
    ]),
  )
}
