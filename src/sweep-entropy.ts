import { join, resolve } from 'node:path'
import { BaeError } from './errors.js'
import { checked, pathOf } from './job.js'
import { BinaryAutoencoder, type StatisticsOptions } from './model.js'
import { type DataPart, partsOf, pathsOf, withKept } from './parts.js'
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
  /** Labels of the models that are left out because their training has not come to its end. */
  notDone: string[]
}

/**
 * Counts codes with the models of a sweep: each model's own data, or other data, taken apart by file or layer as the sweep was.
 *
 * @param dir the sweep's folder, which holds `sweep.json`.
 * @throws BaeError as {@link BinaryAutoencoder.statistics}; `IO`, `CORRUPT_FILE` (no table, a damaged one); `INVALID_ARGUMENT` where no model is done, or other data has a part for none of them.
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
  const others = data === undefined ? undefined : await otherData(data, by, done, counting.signal)
  const groups: SweepEntropyReport['groups'] = []
  for (const run of done) {
    const part = others
      ? others.get(run)
      : { data: run.data.map(spec => resolve(dir, spec)), where: run.where }
    if (!part) continue
    const rows = { ...counting, where: [...part.where, ...conditionsOf(where)] }
    using model = await BinaryAutoencoder.load(join(dir, run.model), { signal: counting.signal })
    const report = await model.entropy(part.data, rows)
    groups.push({
      value: run.value,
      ...report,
      ...(yardsticks && { yardsticks: await model.yardsticks(part.data, rows) }),
    })
  }
  const notDone = runs.filter(({ status }) => status !== 'done').map(({ label }) => label)
  return { by, groups, notDone }
}

/** The runs that other data has a part for, each with that. */
async function otherData(
  data: NonNullable<SweepEntropyOptions['data']>,
  by: string,
  runs: SweepRun[],
  signal: AbortSignal | undefined,
): Promise<Map<SweepRun, Pick<DataPart, 'data' | 'where'>>> {
  const given = pathsOf(data, 'a sweep', 'save the rows to a file')
  if (by !== 'file' && by !== 'layer') return new Map(runs.map(run => [run, { data: given, where: [] }]))
  const parts = await withKept(kept => partsOf(given, { by, where: [], signal, kept }))
  const own = runs.flatMap(run => {
    const part = parts.find(({ value }) => value === run.value)
    return part ? [[run, part] as const] : []
  })
  if (own.length) return new Map(own)
  const [models, there] = [runs, parts].map(list => list.map(({ value }) => value).join(', '))
  throw new BaeError(
    'INVALID_ARGUMENT',
    `data: it is of ${by} ${there}, the models of ${models}; give data of theirs`,
  )
}
