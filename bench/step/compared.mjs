// Runners timed in turns, as rows of a report.
import { ratio, spread } from './numbers.mjs'
import { label } from './peers.mjs'
import { rounds } from './rounds.mjs'

/** Times what runs in `runners` in turns; gives a row each, compared with the first. */
export async function compared(runners, roundCount, watch) {
  const times = await rounds(runners, roundCount, watch)
  const first = times.get(runners[0].name)
  if (!first) throw new Error(`${runners[0].name} failed, and all is compared with it`)
  return runners
    .filter(({ name }) => times.has(name))
    .map(({ name }) => {
      const theirs = times.get(name)
      return {
        name,
        label: name,
        ms: spread(theirs.flat()),
        ...(theirs === first ? {} : { ratio: ratio(theirs, first) }),
        rounds: theirs,
      }
    })
}

/** Adds to each row what its engine or its peer told. */
export function tell(rows, ours, peers) {
  for (const row of rows) {
    const peer = peers.find(({ name }) => name === row.name)
    if (peer) {
      const { told, check, peakBytes } = peer
      Object.assign(row, { label: label(told), told, check, peakBytes })
    } else {
      row.report = withoutTimes(ours.find(({ name }) => name === row.name).last)
      row.peakBytes = row.report.peakBytes
    }
  }
}

/** What the engine told about a run, less the times, which stand beside it. */
export function withoutTimes({ seconds: _, ...report }) {
  return report
}
