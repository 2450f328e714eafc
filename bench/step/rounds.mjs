// Everyone in turn, again and again, so that what the machine does meanwhile meets all alike.

/** Above this a step is timed once a round, without a warm-up step before it. */
const SLOW_MS = 5000
/** Above this it is timed in the first round only. */
const VERY_SLOW_MS = 60_000
/** About how long a turn takes otherwise. */
const TURN_MS = 1500
const STEPS = { least: 2, most: 10 }

function stepsATurn(ms) {
  return ms > SLOW_MS ? 1 : Math.min(STEPS.most, Math.max(STEPS.least, Math.round(TURN_MS / ms)))
}

/**
 * `runners` are `{ name, time(count, warmUp) }`, which gives the milliseconds of `count` units of work. Gives for each a list
 * of rounds, and leaves out whoever failed, with a call of `failed`.
 */
export async function rounds(runners, count, { failed = () => {}, progress = () => {} } = {}) {
  const times = new Map(runners.map(({ name }) => [name, []]))
  const usual = new Map()
  for (let round = 0; round < count; round++) {
    for (const { name, time } of runners) {
      if (!times.has(name) || (round > 0 && usual.get(name) > VERY_SLOW_MS)) continue
      progress(`round ${round + 1} of ${count}: ${name}`)
      try {
        // the very first step warms caches and pools; where it is slow it is the round's measurement
        const first = round === 0 ? await time(1, 0) : null
        if (first) usual.set(name, first[0])
        const slow = usual.get(name) > SLOW_MS
        times.get(name).push(slow && first ? first : await time(stepsATurn(usual.get(name)), slow ? 0 : 1))
      } catch (error) {
        times.delete(name)
        failed(name, error)
      }
    }
  }
  return times
}
