import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { isAbsolute, join, relative, resolve, sep } from 'node:path'
import { BaeError, describe, fromNative } from './errors.js'
import { defined, type TrainEvent, type ValidationFigures } from './events.js'
import { type CallOptions, checked, pathOf, runJob, tell } from './job.js'
import native, { type FolderLock, type KeptFiles } from './native.js'
import { writeOutputFile } from './output-file.js'
import { partsOf, pathsOf, type Taking, unique } from './parts.js'
import { settingsJson } from './settings.js'
import { conditionsOf, type StatesOptions, type StatesPath } from './states.js'
import { SETTINGS, TrainRun, type TrainSettings } from './train.js'

/** A setting of training that a sweep can vary. */
export type VariedSetting = Exclude<keyof TrainSettings, 'out' | 'overwrite' | 'resume'>

/** Options of {@link sweep}: what differs from model to model, and the settings of training that they share. */
export interface SweepOptions
  extends TrainSettings,
    Pick<StatesOptions, 'where' | 'skipInvalid'>,
    CallOptions {
  /** Folder of the sweep: a folder for each model, and `sweep.json`, the table. */
  out: string
  /**
   * One model for each file, or for each layer: of tensors `[tokens, layers, dIn]` along their second axis, of other data by the column
   * `layer`.
   */
  by?: 'file' | 'layer' | undefined
  /** One model for each value of these settings; of several settings, for each combination. */
  vary?: { [Name in VariedSetting]?: readonly NonNullable<TrainSettings[Name]>[] } | undefined
  /** Replace a sweep that `out` already holds, with the folders of its models. Default false. */
  overwrite?: boolean | undefined
  /**
   * Go on with the sweep in `out`: models that are finished are kept, the one that was interrupted goes on from its last checkpoint, those
   * that failed are tried again; from the start where there is none. Default false.
   */
  resume?: boolean | undefined
  /** Called with every event. What it throws is ignored. */
  onEvent?: ((event: SweepEvent) => void) | undefined
}

/** What a sweep tells while it runs: of one of its trainings, number `index` (from 0) of `total`. */
export type SweepEvent = { label: string; index: number; total: number } & (
  | { type: 'run'; status: SweepStatus }
  | { type: 'train'; event: TrainEvent }
)

/** How far a training of a sweep has come. */
export type SweepStatus = 'waiting' | 'running' | 'interrupted' | 'failed' | 'done'

/** What a sweep came to; also the content of its `sweep.json`. */
export interface SweepReport {
  /** What the `value` of a run is: `file`, `layer`, the name of the one setting that varies, or `run`. */
  by: string
  /** The settings that vary, with their values. */
  vary: Record<string, (number | string | boolean)[]>
  /** The settings given that all trainings share. */
  settings: Record<string, unknown>
  /** The data, as it was given. */
  data: string[]
  runs: SweepRun[]
}

/** One training of a sweep. */
export interface SweepRun {
  /** Names it; also its folder. */
  label: string
  /** Where it stands on the curve: a layer, a setting's value, a file's label, or the number in which these differ. */
  value: number | string | boolean
  /** Its values of the settings that vary. */
  values: Record<string, number | string | boolean>
  /** Its data: paths within the sweep's folder are relative to that, all others absolute. */
  data: string[]
  /** Conditions that its rows meet. */
  where: string[]
  /** The folder of its model, relative to the sweep's. */
  model: string
  status: SweepStatus
  /** Features of the model, once it is done. */
  dSae?: number
  steps?: number
  /** Wall time of its training. */
  seconds?: number
  /** Over its held-out rows; null where none were held out. */
  validation?: ValidationFigures | null
  /** Why it failed. */
  error?: { code: string; message: string }
}

/** Name of the table in the sweep's folder. */
const TABLE = 'sweep.json'

/** What may differ when a sweep goes on: it changes no result. */
const CHANGEABLE = [
  'threads',
  'device',
  'checkpointEvery',
  'checkpointMinutes',
  'keepCheckpoints',
  'tensorboard',
]

/**
 * Trains one model for each file, each layer or each value of a setting, one after the other: the same models, to the same bits, as
 * trainings of their own. The data is read once for all of them, as long as its files fit into `memory` bytes beside what each training
 * takes.
 *
 * All that is known to be wrong beforehand is refused before the first training. A training that fails later does not stop the
 * others: its run in the report has `status: 'failed'` and an `error`.
 *
 * ```ts
 * const { runs } = await sweep('states/layer*.safetensors', { by: 'file', out: 'layers' })
 * for (const { value, validation } of runs) console.log(value, validation?.entropyBits)
 * ```
 *
 * @throws BaeError `INVALID_ARGUMENT`, and those of reading; `IO`, also where `out` holds a sweep and neither `overwrite` nor `resume` is set.
 */
export async function sweep(
  data: StatesPath | readonly StatesPath[],
  options: SweepOptions,
): Promise<SweepReport> {
  const { signal, onEvent, by, vary = {}, out, overwrite, resume, ...shared } = checked(options)
  signal?.throwIfAborted()
  const given = pathsOf(data, 'a sweep', 'save the rows to a file, or call train for each model')
  pathOf('out', out)
  checkWhat(by, vary, shared)
  if (overwrite && resume) {
    throw new BaeError('INVALID_ARGUMENT', 'overwrite and resume contradict each other: give one of them')
  }
  const kept = keeper(by, shared.memory)
  let lock: FolderLock | undefined
  try {
    const plan = await planned(given, { by, vary, where: conditionsOf(shared.where), signal, kept })
    await checkRuns(plan, shared, { signal, kept })
    lock = await takeFolder(out)
    const report: SweepReport = {
      by: by ?? (Object.keys(vary).length === 1 ? (Object.keys(vary)[0] as string) : 'run'),
      vary: { ...(vary as SweepReport['vary']) },
      settings: JSON.parse(JSON.stringify(shared)),
      data: given,
      runs: plan.map(({ data, ...run }) => ({ ...run, data: data.map(spec => stored(spec, out)) })),
    }
    await begin(report, out, { overwrite, resume })
    const save = () => writeOutputFile(join(out, TABLE), `${JSON.stringify(report, null, 2)}\n`, true)
    await save()
    for (const [index, run] of report.runs.entries()) {
      const about = { label: run.label, index, total: report.runs.length }
      const begun = plan.find(each => each.label === run.label)
      const say = () => tell(onEvent, { ...about, type: 'run', status: run.status })
      // one that is in the table and was not asked for this time stays there
      if (run.status === 'done' || !begun) {
        say()
        continue
      }
      delete run.error
      run.status = 'running'
      await save()
      say()
      try {
        const training = new TrainRun(
          begun.data,
          {
            ...shared,
            ...run.values,
            where: run.where,
            out: join(out, run.model),
            // it may be started again: it then finds its checkpoint, or what it came to
            resume: true,
            signal,
            onEvent: event => tell(onEvent, { ...about, type: 'train', event }),
          },
          kept.of(begun),
        )
        const { model, result } = await training
        const { steps, seconds, validation } = result
        Object.assign(run, { status: 'done', dSae: model.dSae, steps, seconds, validation })
        model.dispose()
      } catch (error) {
        const stopped = signal?.aborted || !(error instanceof BaeError)
        run.status = stopped ? 'interrupted' : 'failed'
        if (!stopped) run.error = { code: error.code, message: error.message }
        await save()
        say()
        if (stopped) throw error
        continue
      }
      await save()
      say()
    }
    return report
  } finally {
    kept.dispose()
    lock?.release()
  }
}

/** A run, with its data as training takes it. */
type Planned = Omit<SweepRun, 'seconds' | 'validation' | 'error'>

interface Planning extends Omit<Taking, 'kept'> {
  vary: NonNullable<SweepOptions['vary']>
  kept: Keeper
}

/** The runs: each part of the data with each combination of the settings that vary. */
async function planned(given: string[], planning: Planning): Promise<Planned[]> {
  const parts = await partsOf(given, { ...planning, kept: planning.kept.shared })
  const names = Object.keys(planning.vary) as VariedSetting[]
  const combinations = names.reduce<Record<string, number | string | boolean>[]>(
    (all, name) =>
      all.flatMap(values =>
        (planning.vary[name] as readonly (number | string | boolean)[]).map(value => ({
          ...values,
          [name]: value,
        })),
      ),
    [{}],
  )
  const runs = parts.flatMap(({ label, value, data, where }) =>
    combinations.map((values): Planned => {
      const settings = names.map(name => `${hyphenated(name)}=${values[name]}`)
      const name = fileName([...(label === undefined ? [] : [label]), ...settings].join(','))
      const varied = names.length === 1 ? (values[names[0] as string] as number) : name
      return { label: name, value: value ?? varied, values, data, where, model: name, status: 'waiting' }
    }),
  )
  const labels = new Set<string>()
  for (const { label } of runs) {
    // some file systems do not tell capital letters from small ones
    if (labels.has(label.toLowerCase())) {
      throw new BaeError(
        'INVALID_ARGUMENT',
        `two models would be called ${label}; give each file or value once`,
      )
    }
    labels.add(label.toLowerCase())
  }
  return runs
}

/** Refuses before the first training what it, or a later one, would refuse. */
async function checkRuns(
  plan: Planned[],
  shared: TrainSettings & Pick<StatesOptions, 'skipInvalid'>,
  { signal, kept }: { signal: AbortSignal | undefined; kept: Keeper },
): Promise<void> {
  for (const { label, values, data, where } of plan) {
    const json = settingsJson(
      { skipInvalid: undefined, ...shared, ...values, where, out: label, resume: true },
      SETTINGS,
      'auto',
    )
    const states = { files: data, ...kept.ifShared() }
    try {
      await runJob(on => native.startCheckTraining(states, json, on), { signal })
    } catch (error) {
      if (!(error instanceof BaeError) || plan.length === 1) throw error
      throw new BaeError(error.code, `${label}: ${error.message}`, { cause: error })
    }
  }
}

function checkWhat(by: unknown, vary: object, shared: object): void {
  const refuse = (message: string) => {
    throw new BaeError('INVALID_ARGUMENT', message)
  }
  if (by !== undefined && by !== 'file' && by !== 'layer') refuse(`by must be file or layer, not ${by}`)
  if (typeof vary !== 'object' || vary === null || Array.isArray(vary)) {
    refuse(`vary must be an object of settings, each with its values, not ${describe(vary)}`)
  }
  const names = Object.keys(vary)
  if (by === undefined && names.length === 0) {
    refuse('nothing to sweep over: give by (file or layer), vary (a setting and its values), or both')
  }
  for (const [name, values] of Object.entries(vary)) {
    const known = Object.hasOwn(SETTINGS, name) && !['out', 'overwrite', 'resume', 'where'].includes(name)
    if (!known) refuse(`vary: there is no setting ${name} that can vary`)
    if (!Array.isArray(values) || values.length === 0) refuse(`vary: ${name} needs an array of values`)
    if (values.some((value: unknown) => !['number', 'string', 'boolean'].includes(typeof value))) {
      refuse(`vary: a value of ${name} must be a number, a string or a boolean`)
    }
    if (!unique(values)) refuse(`vary: ${name} has a value twice`)
    if ((shared as Record<string, unknown>)[name] !== undefined) {
      refuse(`${name} is given and varies: give it once`)
    }
  }
}

/** Takes the folder of the sweep, which is made if need be, from other sweeps. */
async function takeFolder(out: string): Promise<FolderLock> {
  try {
    await mkdir(out)
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    if (code !== 'EEXIST') {
      const why = code === 'ENOENT' ? 'its folder is not there' : message
      const advice = code === 'ENOENT' ? 'create it first' : 'check its permissions'
      throw new BaeError('IO', `cannot write ${out}: ${why}; ${advice} or choose another --out`, { cause })
    }
  }
  try {
    return new native.FolderLock(out)
  } catch (error) {
    throw fromNative(error)
  }
}

/** Says no to a folder that holds what these options do not ask for; takes over what is done, or deletes it. */
async function begin(
  report: SweepReport,
  out: string,
  { overwrite = false, resume = false }: Pick<SweepOptions, 'overwrite' | 'resume'>,
): Promise<void> {
  const refuse = (message: string): never => {
    throw new BaeError('IO', message)
  }
  const [leftovers, others] = await contents(out)
  for (const name of leftovers) await rm(join(out, name), { force: true })
  if (!others.includes(TABLE)) {
    if (others.length > 0 && !overwrite) {
      refuse(`${out} holds ${others[0]} and no sweep; choose another --out or pass --overwrite`)
    }
    return
  }
  const before = await readTable(out)
  if (overwrite) {
    for (const { model } of before.runs) {
      // only what a sweep can have made, whatever the table says
      if (model === fileName(model)) await rm(join(out, model), { recursive: true, force: true })
    }
    return
  }
  if (!resume) {
    refuse(
      `${out} already holds a sweep; pass --resume to go on with it, --overwrite to start anew, or choose another --out`,
    )
  }
  const advice = 'give the same again, choose another --out, or pass --overwrite instead of --resume'
  const differing = difference(before.settings, report.settings)
  if (before.by !== report.by) refuse(`${out} holds a sweep by ${before.by}, not by ${report.by}; ${advice}`)
  if (differing !== undefined) refuse(`${out} holds a sweep with another ${differing}; ${advice}`)
  for (const run of report.runs) {
    const old = before.runs.find(({ label }) => label === run.label)
    if (!old) continue
    for (const name of ['values', 'data', 'where'] as const) {
      if (JSON.stringify(old[name]) !== JSON.stringify(run[name])) {
        refuse(`${out} holds a model ${run.label} of other ${name}; ${advice}`)
      }
    }
    // a model that somebody deleted is made again
    if (old.status === 'done' && existsSync(join(out, run.model, 'cfg.json'))) Object.assign(run, old)
  }
  const asked = new Set(report.runs.map(({ label }) => label))
  report.runs.push(...before.runs.filter(({ label }) => !asked.has(label)))
  for (const [name, values] of Object.entries(before.vary)) {
    report.vary[name] = [...new Set([...values, ...(report.vary[name] ?? [])])]
  }
}

/** What writers that were killed left in a sweep's folder, and what else there is. */
async function contents(out: string): Promise<[leftovers: string[], others: string[]]> {
  const names = await readdir(out)
  const isLeftover = (name: string) => /^\.bae-[0-9a-f]{12}-sweep\.json$/.test(name)
  return [names.filter(isLeftover), names.filter(name => name !== '.lock' && !isLeftover(name))]
}

/** @internal The table of the sweep in a folder. */
export async function readTable(out: string): Promise<SweepReport> {
  const path = join(out, TABLE)
  const text = await readFile(path, 'utf8').catch(cause => {
    const why = cause.code === 'ENOENT' ? 'it is not there; give the folder of a sweep' : cause.message
    throw new BaeError('IO', `cannot read ${path}: ${why}`, { cause })
  })
  try {
    const table: unknown = JSON.parse(text)
    if (!isTable(table)) throw new Error('its runs are not what a sweep writes')
    for (const { validation } of table.runs) if (validation) defined(validation)
    return table
  } catch (cause) {
    throw new BaeError(
      'CORRUPT_FILE',
      `${path} is no table of a sweep: ${(cause as Error).message}; choose another --out, or delete it`,
      { cause },
    )
  }
}

/** Whether something is a table, as far as it is relied on: anybody may have written it. */
function isTable(table: unknown): table is SweepReport {
  const { by, vary, settings, runs } = (table ?? {}) as Record<string, unknown>
  const isObject = (value: unknown) => typeof value === 'object' && value !== null && !Array.isArray(value)
  const areTexts = (value: unknown) =>
    Array.isArray(value) && value.every(each => typeof each === 'string' && each !== '')
  const isRun = (run: unknown) => {
    const { label, value, values, data, where, model, status } = (run ?? {}) as Record<string, unknown>
    return (
      areTexts([label, model, status]) &&
      ['number', 'string', 'boolean'].includes(typeof value) &&
      isObject(values) &&
      areTexts(data) &&
      areTexts(where)
    )
  }
  return (
    typeof by === 'string' && isObject(vary) && isObject(settings) && Array.isArray(runs) && runs.every(isRun)
  )
}

/** The first setting in which two sweeps differ, of those that change results. */
function difference(one: Record<string, unknown>, other: Record<string, unknown>): string | undefined {
  const names = [...Object.keys(one), ...Object.keys(other)].filter(name => !CHANGEABLE.includes(name))
  return names.find(name => JSON.stringify(one[name]) !== JSON.stringify(other[name]))
}

/** A path as the table has it. */
function stored(spec: string, out: string): string {
  const path = resolve(spec)
  const within = relative(resolve(out), path)
  const isWithin = within !== '' && !isAbsolute(within) && within !== '..' && !within.startsWith(`..${sep}`)
  return isWithin ? within : path
}

/** What a file system takes as a name. */
function fileName(label: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is not wanted
  const name = label.replaceAll(/[<>:"/\\|?*\u0000-\u001f]/g, '_').slice(0, 200)
  return /^\.|^$/.test(name) || name.toLowerCase() === TABLE ? `_${name}` : name
}

const hyphenated = (name: string) => name.replace(/[A-Z]/g, letter => `-${letter.toLowerCase()}`)

/** The bytes of files that trainings have in common: all of the data, or, one file after the other, that file's. */
interface Keeper {
  /** For all runs. */
  shared(): KeptFiles
  /** The same, as a part of the addon's `States`, where runs have data in common. */
  ifShared(): { kept?: KeptFiles }
  of(run: Planned): KeptFiles
  dispose(): void
}

function keeper(by: SweepOptions['by'], memory = 2 ** 30): Keeper {
  let kept: KeptFiles | undefined
  let current = ''
  const shared = () => {
    kept ??= new native.KeptFiles(memory)
    return kept
  }
  const dispose = () => {
    kept?.dispose()
    kept = undefined
  }
  return {
    shared,
    ifShared: () => (by === 'file' ? {} : { kept: shared() }),
    of({ data }) {
      const next = by === 'file' ? data.join() : ''
      // the file before is not needed any more
      if (next !== current) dispose()
      current = next
      return shared()
    },
    dispose,
  }
}
