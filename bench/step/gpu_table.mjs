// The figures of a GPU as Markdown tables.
import { digits, range, shapeName, table } from './table.mjs'

/** All of the report. */
export function gpuTables({ date, device, machine, rounds, steps }) {
  const where = `${device.name} (${device.kind}, ${device.backend}, ${device.driver}); ${machine.os}; ${date.slice(0, 10)}; ${rounds} rounds`
  const warning = device.kind === 'software' ? ['This device is software: the figures mean nothing.', ''] : []
  return [...warning, where, '', ...steps.flatMap(step => [stepTable(step), stageTable(step)])].join('\n')
}

function stepTable({ shape, rows, missing }) {
  const floor = rows[0]?.report?.peak.floorSeconds * 1000
  const body = rows.map(({ label, ms, ratio, report, peakBytes }) => [
    label,
    range(ms),
    ratio ? `${digits(ratio.median)} [${digits(ratio.min)} – ${digits(ratio.max)}]` : '1',
    report ? (ms.median / floor).toFixed(2) : '',
    !report && peakBytes ? Math.round(peakBytes / 2 ** 20).toLocaleString('en-US') : '',
  ])
  const head = [
    '',
    'ms a step',
    'times ours',
    `times the floor of ${digits(floor)} ms`,
    'peak MiB on the card',
  ]
  const notes = missing.map(({ name, reason }) => `Not timed: ${name}: ${reason}`)
  return [
    `Step at ${shapeName(shape)}`,
    '',
    ...(rows.length ? [table(head, body), ''] : []),
    ...notes,
    '',
  ].join('\n')
}

/** Where the time goes, from the card's own clock. */
function stageTable({ shape, rows }) {
  const [ours] = rows
  const stages = Object.entries(ours?.report.stages ?? {}).filter(([, seconds]) => seconds > 0)
  if (stages.length === 0) return ''
  const sum = stages.reduce((total, [, seconds]) => total + seconds, 0) * 1000
  const line = (name, ms) => [name, digits(ms), `${((ms / sum) * 100).toFixed(1)} %`]
  const body = [...stages.map(([name, seconds]) => line(name, seconds * 1000)), line('sum', sum)]
  const { multiplyAdds, popcounts } = ours.report.peak
  const peak = `The card's peak in this run: ${digits(multiplyAdds / 1e12)}e12 multiply-adds of f32 and ${digits(popcounts / 1e12)}e12 popcounts a second.`
  return [
    `Stages of ours at ${shapeName(shape)}`,
    '',
    table(['', 'ms', 'of the sum'], body),
    '',
    peak,
    '',
  ].join('\n')
}
