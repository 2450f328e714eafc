// The figures as Markdown tables, to be read in a terminal and pasted into docs/performance.md.

/** Milliseconds with three digits or more. */
export function digits(value) {
  return value >= 1000
    ? Math.round(value).toLocaleString('en-US')
    : value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2)
}

export const range = ({ median, min, max }) => `${digits(median)} [${digits(min)} – ${digits(max)}]`

export function shapeName({ dIn, dSae, batchSize }) {
  return `(${dIn}, ${dSae}, ${batchSize})`
}

export function table(head, rows) {
  const lines = [head, head.map(() => '---'), ...rows]
  return lines.map(cells => `| ${cells.join(' | ')} |`).join('\n')
}

export function stepTable({ architecture, shape, threads, density, rows, missing }) {
  const title = `Step${architecture ? ` of ${architecture}` : ''} at ${shapeName(shape)}, ${threads} ${threads === 1 ? 'thread' : 'threads'}, density ${density.toFixed(3)}`
  const body = rows.map(({ label, ms, ratio, peakBytes }) => [
    label,
    range(ms),
    ratio ? `${digits(ratio.median)} [${digits(ratio.min)} – ${digits(ratio.max)}]` : '1',
    peakBytes ? `${Math.round(peakBytes / 2 ** 20).toLocaleString('en-US')}` : '',
  ])
  const notes = missing.map(({ name, reason }) => `Not timed: ${name}: ${reason}`)
  return [title, '', table(['', 'ms a step', 'times ours', 'peak MiB'], body), '', ...notes].join('\n')
}

function growthTable(title, rows) {
  const body = rows.map(({ label, ms }, at) => [
    label,
    range(ms),
    at ? (ms.median / rows[0].ms.median).toFixed(2) : '1',
  ])
  return [title, '', table(['', 'ms a step', 'times the first'], body), ''].join('\n')
}

/** Where the time of our plain step goes, from the engine's own clock. */
function stageTable({ shape, threads, rows }) {
  const [{ label, ms, report }] = rows
  const stages = Object.entries(report.stages ?? {}).map(([name, seconds]) => [name, seconds * 1000])
  if (stages.length === 0) return ''
  const sum = stages.reduce((total, [, each]) => total + each, 0)
  const line = (name, each) => [name, digits(each), `${((each / ms.median) * 100).toFixed(1)} %`]
  const title = `Stages of ${label} at ${shapeName(shape)}, ${threads} ${threads === 1 ? 'thread' : 'threads'}`
  const body = [...stages.map(([name, each]) => line(name, each)), line('sum', sum)]
  return [title, '', table(['', 'ms', 'of the median step'], body), ''].join('\n')
}

/** The machine in a line. */
export function machineLine({ date, machine, rounds }) {
  const { cpu, cores, flags, os, node, loadAverage } = machine
  const load = `load average before ${loadAverage.toFixed(2)}`
  return `${cpu}, ${cores} cores, ${flags.join(' ')}; ${os}, Node ${node.slice(1)}; ${date.slice(0, 10)}; ${rounds} rounds; ${load}`
}

/** All of the report. */
export function tables(report) {
  const { steps, densities, growth, encode } = report
  const parts = [`${machineLine(report)}\n`, ...steps.flatMap(each => [stepTable(each), stageTable(each)])]
  for (const { title, rows } of [...densities, ...growth]) parts.push(growthTable(title, rows))
  if (encode) {
    const body = encode.runs.map(({ label, ms, rowsPerSecond, ratio }) => [
      label,
      range(ms),
      Math.round(rowsPerSecond).toLocaleString('en-US'),
      ratio ? ratio.median.toFixed(2) : '1',
    ])
    const title = `Encoding ${encode.rows.toLocaleString('en-US')} rows at (${encode.shape.dIn}, ${encode.shape.dSae}), ${encode.threads} threads`
    parts.push([title, '', table(['', 'ms', 'rows a second', 'times ours'], body), ''].join('\n'))
  }
  return parts.join('\n')
}
