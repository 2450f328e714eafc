// Medians and ratios of times that were taken in turns.

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** Median, least and most of `values`. */
export function spread(values) {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) }
}

/**
 * How many times as long `theirs` took as `ours`; each is a list of rounds, each round a list of times. The ratio is that of
 * the medians over all rounds; least and most are those of the rounds' own medians, so a slow minute of the machine
 * counts for both sides.
 */
export function ratio(theirs, ours) {
  const rounds = theirs.map((times, round) => median(times) / median(ours[round]))
  return {
    median: median(theirs.flat()) / median(ours.flat()),
    min: Math.min(...rounds),
    max: Math.max(...rounds),
  }
}
