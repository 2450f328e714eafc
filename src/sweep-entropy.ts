import { join, resolve } from 'node:path'
import { BaeError } from './errors.js'
import { checked, pathOf } from './job.js'
import { BinaryAutoencoder, type StatisticsOptions } from './model.js'
import { partsOf, pathsOf, withKept } from './parts.js'
import { conditionsOf, type LeftOut, type StatesPath } from './states.js'
import type { CodeFigures } from './statistics.js'
import { readTable, type SweepRun } from './sweep.js'
import type { Yardsticks } from './yardsticks.js'

/** Options of {@link sweepEntropy}. */
export interface SweepEntropyOptions extends Omit<StatisticsOptions, 'by' | 'shard' | 'dIn'> {
  /** Hidden states other than those of the sweep, to be taken apart by file or layer as those were. */
  data?: StatesPath | readonly StatesPath[] | undefined
  /** Measure lines to compare with, too ({@link BinaryAutoencoder.yardsticks}). Default false. */
  yardsticks?: boolean | undefined
}

/** Entropy and sparsity of codes by the models of a sweep: a figure of its own for each model. */
export interface SweepEntropyReport {
  /** What the groups differ in: `file`, `layer`, the setting that varies, or `run`. */
  by: string
  groups: (CodeFigures & LeftOut & { value: number | string | boolean; yardsticks?: Yardsticks })[]
}

/**
 * Counts codes with the models of a sweep: each model's own data, or other data, taken apart by file or layer as the sweep was.
 *
 * @param dir the sweep's folder, which holds `sweep.json`.
 * @throws BaeError as {@link BinaryAutoencoder.statistics}; `INVALID_ARGUMENT` where no model is done, or other data lacks a part.
 */
export async function sweepEntropy(
  dir: string,
  options: SweepEntropyOptions = {},
): Promise<SweepEntropyReport> {
  const { data, yardsticks = false, where, ...counting } = checked(options)
  pathOf('dir', dir)
  const { by, runs } = await readTable(dir)
  const done = runs.filter(({ status }) => status === 'done')
  if (done.length === 0) {
    throw new BaeError(
      'INVALID_ARGUMENT',
      `${dir}: none of its ${runs.length} models is done; go on with \`bae sweep --resume\``,
    )
  }
  const others = data === undefined ? undefined : await otherData(data, by, counting.signal)
  const groups: SweepEntropyReport['groups'] = []
  for (const run of done) {
    const part = others ? others(run) : { data: run.data.map(spec => resolve(dir, spec)), where: run.where }
    const rows = { ...counting, where: [...part.where, ...conditionsOf(where)] }
    using model = await BinaryAutoencoder.load(join(dir, run.model), { signal: counting.signal })
    const report = await model.entropy(part.data, rows)
    groups.push({
      value: run.value,
      ...report,
      ...(yardsticks && { yardsticks: await model.yardsticks(part.data, rows) }),
    })
  }
  return { by, groups }
}

/** For each run the part of other data that is its own. */
async function otherData(
  data: NonNullable<SweepEntropyOptions['data']>,
  by: string,
  signal: AbortSignal | undefined,
) {
  const given = pathsOf(data, 'a sweep', 'save the rows to a file')
  if (by !== 'file' && by !== 'layer') return () => ({ data: given, where: [] })
  const parts = await withKept(kept => partsOf(given, { by, where: [], signal, kept }))
  return ({ label, value }: SweepRun) => {
    const part = parts.find(part => part.value === value)
    if (part) return part
    const there = parts.map(({ value }) => value).join(', ')
    throw new BaeError(
      'INVALID_ARGUMENT',
      `data: nothing for the model ${label} (${by} ${value}), only ${there}`,
    )
  }
}
