import { type BinaryCodes, nativeCodes, type PackedCodes, type SaveCodesOptions, wrapCodes } from './codes.js'
import { deviceOf } from './devices.js'
import { BaeError, describe } from './errors.js'
import { asEvaluation, type Evaluation } from './evaluation.js'
import {
  type CallOptions,
  checked,
  ofType,
  pathOf,
  positiveInteger,
  type RowsOptions,
  runJob,
  taken,
  threadsOf,
} from './job.js'
import native, { type Job, type Model, type States } from './native.js'
import { type DataPart, partsOf, pathsOf, withKept } from './parts.js'
import { type ProbeReport, type ProbeSettings, probeRequest } from './probe.js'
import { type LeftOut, type StatesInput, type StatesOptions, withTarget } from './states.js'
import {
  type CodeStatistics,
  type CountingOptions,
  countRequest,
  type EntropyReport,
  wrapStatistics,
} from './statistics.js'
import type { Yardsticks } from './yardsticks.js'

/** What `cfg.json` of a model holds. */
export interface ModelConfig {
  architecture: string
  d_in: number
  d_sae: number
  dtype: string
  metadata?: Record<string, unknown>
  [setting: string]: unknown
}

/** What {@link BinaryAutoencoder.encodeToFile} wrote. Rows that were left out have no codes: codes then are fewer than the data's rows. */
export interface EncodedFile extends LeftOut {
  rows: number
  dSae: number
  out: string
}

/** A matrix of numbers, row after row. */
export interface Matrix {
  data: Float32Array
  /** `[rows, columns]` */
  shape: [rows: number, columns: number]
}

/** Options of the calls that take hidden states and a model. */
export interface InputOptions extends RowsOptions, StatesOptions {}

/** Other tools whose folders a model can be written as. */
export type ModelFormat = 'saelens' | 'sparsify' | 'dictionary_learning' | 'published'

/** How {@link BinaryAutoencoder.save} writes. */
export interface SaveModelOptions extends CallOptions {
  /** Replace a model that is there already. */
  overwrite?: boolean | undefined
  /** Write what this tool reads and computes the same with (docs/files.md), not a folder of our own. */
  format?: ModelFormat | undefined
}

/** What rows are grouped by: a column that the data brings, or the files they are in. */
export type GroupBy = 'layer' | 'position' | 'group' | 'sequence' | 'token' | 'file'

/** What to measure over which rows. */
export interface EvaluationOptions extends InputOptions {
  /** Figures for groups of rows too, at most 1,024, with the controls that need no fitting. */
  by?: GroupBy | undefined
  /** What a transcoder is to make of the hidden states: a row for each of theirs, accepted as they are. */
  target?: StatesInput | undefined
}

/** What to count of which rows. */
export interface StatisticsOptions extends InputOptions, CountingOptions {
  /** Figures for groups of rows too: by a column that the data brings, or by file. */
  by?: GroupBy | undefined
  /** Count one part of the rows only: part `shard`, from 1, of `of`. Merged, all parts are the whole. */
  shard?: { shard: number; of: number } | undefined
}

/** Options of {@link BinaryAutoencoder.probe}. */
export interface ProbeOptions extends InputOptions, ProbeSettings {}

/** @internal Wraps a model that the addon made. */
export let wrapModel: (model: Model) => BinaryAutoencoder

/** @internal What the addon made; an error where it was disposed of. */
export let nativeModel: (model: BinaryAutoencoder) => Model

/**
 * A trained Binary Autoencoder: `h = [x W_enc + b_enc > 0]`, `x̂ = h W_dec + b_dec`. It takes hidden states as the
 * language model gives them; centring and scaling are folded into the weights.
 *
 * Holds memory outside the JavaScript heap: call `dispose()`, or use `await using`, when done with it.
 * Calls reject with a {@link BaeError}, or with the signal's reason where it was aborted.
 */
export class BinaryAutoencoder implements Disposable, AsyncDisposable {
  static {
    wrapModel = model => new BinaryAutoencoder(model)
    nativeModel = model => model.#live()
  }

  /** Values of a hidden state. */
  readonly dIn: number
  /** Values of what the model makes of a hidden state: `dIn`, unless it is a transcoder. */
  readonly dOut: number
  /** Bits of a code. */
  readonly dSae: number
  /** The model's `cfg.json`. */
  readonly config: Readonly<ModelConfig>
  #native: Model | null

  private constructor(model: Model) {
    this.#native = model
    this.dIn = model.dIn
    this.dOut = model.dOut
    this.dSae = model.dSae
    this.config = JSON.parse(model.config) as ModelConfig
  }

  /**
   * Loads a model from its folder (`sae_weights.safetensors` and `cfg.json`), or from that of another tool: SAELens, sparsify,
   * dictionary_learning, or the published Binary Autoencoder's `model.pt` (docs/files.md). Pickles are read, never executed.
   *
   * @throws BaeError `INVALID_ARGUMENT` (no path), `IO`, `CORRUPT_FILE`, `UNSUPPORTED_FORMAT`, `SHAPE_MISMATCH`.
   */
  static async load(dir: string, options: CallOptions = {}): Promise<BinaryAutoencoder> {
    const { signal } = checked(options)
    pathOf('dir', dir)
    const { job } = await runJob(on => native.startLoad(dir, on), { signal })
    return new BinaryAutoencoder(taken(job.takeModel(), 'model'))
  }

  /**
   * Encodes hidden states `[rows, dIn]` to bits `[rows, dSae]`; where codes hold values, the bits say which features are on ({@link activations}
   * has the values).
   *
   * @param x see {@link StatesInput} for what is accepted and what is copied; `dIn` defaults to the model's.
   * @throws BaeError `SHAPE_MISMATCH`, `NOT_FINITE`, `INVALID_ARGUMENT` (no rows), `DISPOSED`; for files also `IO`,
   *   `CORRUPT_FILE`, `UNSUPPORTED_FORMAT`.
   */
  async encode(x: StatesInput, options: InputOptions = {}): Promise<BinaryCodes> {
    const { job } = await this.#over(x, options, native.startEncode)
    return wrapCodes(taken(job.takeCodes(), 'codes'))
  }

  /**
   * Encodes hidden states straight into a codes file: memory does not grow with the rows.
   *
   * @throws BaeError as {@link encode}, and `IO` where the file is there already and `overwrite` is not set.
   */
  async encodeToFile(
    x: StatesInput,
    path: string,
    options: InputOptions & Omit<SaveCodesOptions, 'signal'> = {},
  ): Promise<EncodedFile> {
    const { overwrite = false, model: name = '' } = checked(options)
    pathOf('path', path)
    ofType('overwrite', 'boolean', overwrite)
    ofType('model', 'string', name)
    const { json } = await this.#over(x, options, (model, states, place, on) =>
      native.startEncodeFile(model, states, path, name, overwrite, place, on),
    )
    return JSON.parse(json) as EncodedFile
  }

  /**
   * Makes hidden states again from codes (or targets, if the model is a transcoder): a matrix `[rows, dOut]` in their units. A model that was trained with `normalize:
   * 'layer-norm'` gives layer-normalised ones: the mean and size of a row are not in its bits.
   *
   * @param codes {@link BinaryCodes}, or any `{ bytes, rows, dSae }` (copied).
   * @throws BaeError `SHAPE_MISMATCH` where `dSae` is not the model's, `INVALID_ARGUMENT` (also of a model whose codes hold values), `DISPOSED`, `OUT_OF_MEMORY`.
   */
  async decode(codes: PackedCodes, options: RowsOptions = {}): Promise<Matrix> {
    const model = this.#live()
    const { signal, device, threads, onProgress } = checked(options)
    if (typeof codes !== 'object' || codes === null) {
      throw new BaeError(
        'INVALID_ARGUMENT',
        `codes must be BinaryCodes or { bytes, rows, dSae }, not ${describe(codes)}`,
      )
    }
    if (codes.dSae !== this.dSae) {
      throw new BaeError(
        'SHAPE_MISMATCH',
        `the codes have ${codes.dSae} bits a row, the model has ${this.dSae} features`,
      )
    }
    const place = { device: deviceOf(device), threads: threadsOf(threads) }
    const { codes: packed, owned } = nativeCodes(codes)
    try {
      const { job } = await runJob(on => native.startDecode(model, packed, place, on), {
        signal,
        progress: onProgress,
      })
      return { data: taken(job.takeValues(), 'values'), shape: [codes.rows, this.dOut] }
    } finally {
      if (owned) packed.dispose()
    }
  }

  /**
   * The codes of hidden states with their values: a matrix `[rows, dSae]`. Bits are 0 and 1.
   *
   * @throws BaeError as {@link encode}; `OUT_OF_MEMORY`.
   */
  async activations(x: StatesInput, options: InputOptions = {}): Promise<Matrix> {
    return this.#matrix(x, options, native.startActivations)
  }

  /**
   * What the model makes of hidden states: a matrix `[rows, dOut]` in the units of the input, of a model that layer-normalises its rows too.
   *
   * @throws BaeError as {@link encode}; `OUT_OF_MEMORY`.
   */
  async reconstruct(x: StatesInput, options: InputOptions = {}): Promise<Matrix> {
    return this.#matrix(x, options, native.startReconstruct)
  }

  /**
   * Counts the codes of hidden states in one pass, without keeping them. Rows are taken for clustered by sequence where all of the data says
   * what those are.
   *
   * @throws BaeError as {@link encode}; `INVALID_ARGUMENT` also for a column that the data lacks; `OUT_OF_MEMORY`.
   */
  async statistics(x: StatesInput, options: StatisticsOptions = {}): Promise<CodeStatistics> {
    const { by, shard } = checked(options)
    // without waiting where it can be: arrays are taken hold of before this call returns
    const grouped = isTakenApart(x, by) ? await takenApart(x, by, options.signal) : together(x, by)
    const request = { ...countRequest(options), ...grouped.request, ...(shard && shardOf(shard)) }
    const { job, json } = await this.#over(grouped.x, options, (model, states, place, on) =>
      native.startCount(model, states, request, place, on),
    )
    return wrapStatistics(taken(job.takeStatistics(), 'counts'), JSON.parse(json) as LeftOut)
  }

  /** Entropy and sparsity of the codes of hidden states: {@link statistics}, and what they say. */
  async entropy(x: StatesInput, options: StatisticsOptions = {}): Promise<EntropyReport> {
    using statistics = await this.statistics(x, options)
    return await statistics.report({ signal: options.signal })
  }

  /**
   * What else is said about hidden states, to compare the entropy of their codes with: spectra, intrinsic dimension, and the bits that a
   * Gaussian needs at the same error. Takes 16 dIn² bytes.
   */
  async yardsticks(x: StatesInput, options: InputOptions = {}): Promise<Yardsticks> {
    const { json } = await this.#over(x, options, native.startYardsticks)
    return JSON.parse(json) as Yardsticks
  }

  /**
   * How well labels can be read off one, two, five or all features, beside what can be read off the hidden states, and what chance gives.
   * Progress goes through the rows drawn once to encode them, and once for each split.
   *
   * @throws BaeError as {@link encode}; `INVALID_ARGUMENT` also for a label that is not there, fewer than two classes, more than 50, or none
   *   with enough rows; `SHAPE_MISMATCH` where there is not one label for each row; `OUT_OF_MEMORY`.
   */
  async probe(x: StatesInput, options: ProbeOptions): Promise<ProbeReport> {
    const request = probeRequest(checked(options))
    const { json } = await this.#over(x, options, (model, states, place, on) =>
      native.startProbe(model, states, request, place, on),
    )
    const label = typeof options.label === 'string' ? options.label : null
    return { label, ...(JSON.parse(json) as Omit<ProbeReport, 'label'>) }
  }

  /**
   * Reconstruction and sparsity on hidden states, over all rows, beside controls: what a score is worth is seen beside what needs no model,
   * or a senseless one. Goes through the rows three times, and fits two of the controls to a sample of them, on the CPU.
   * A transcoder is measured by how well it makes `target` of them: a row for each of theirs.
   *
   * @throws BaeError as {@link encode}; `INVALID_ARGUMENT` also for a column that the data lacks, for too many groups, and where a transcoder
   *   is given no `target`, or another model one.
   */
  async evaluate(x: StatesInput, options: EvaluationOptions = {}): Promise<Evaluation> {
    const { by, target } = checked(options)
    if (target !== undefined && isTakenApart(x, by)) {
      throw new BaeError(
        'INVALID_ARGUMENT',
        `by is '${by}', which takes the data apart, and target stays whole: group a transcoder's rows by a column, or evaluate part by part`,
      )
    }
    const grouped = isTakenApart(x, by) ? await takenApart(x, by, options.signal) : together(x, by)
    const { json } = await this.#over(
      grouped.x,
      options,
      (model, states, place, on, targets) =>
        native.startEvaluate(model, states, targets, grouped.request ?? {}, place, on),
      target,
    )
    return asEvaluation(JSON.parse(json))
  }

  /**
   * Saves the model as a folder in the layout that sparse-autoencoder tools read, or as `format` says. It appears whole or not at all.
   *
   * @throws BaeError `INVALID_ARGUMENT`, `DISPOSED`; `IO`, also where the folder already holds a model and `overwrite` is not set;
   *   `UNSUPPORTED_FORMAT` where the format has no way to say what the model computes.
   */
  async save(dir: string, options: SaveModelOptions = {}): Promise<void> {
    const model = this.#live()
    const { signal, overwrite = false, format } = checked(options)
    pathOf('dir', dir)
    ofType('overwrite', 'boolean', overwrite)
    if (format !== undefined) ofType('format', 'string', format)
    await runJob(on => native.startSave(model, dir, format, overwrite, on), { signal })
  }

  /** Frees the native memory; using the model afterwards is an error of code `DISPOSED`. */
  dispose(): void {
    this.#native?.dispose()
    this.#native = null
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose()
  }

  #live(): Model {
    if (this.#native) return this.#native
    throw new BaeError('DISPOSED', 'this model was disposed of')
  }

  /** One of the calls that leave a matrix. */
  async #matrix(
    x: StatesInput,
    options: InputOptions,
    start: typeof native.startActivations,
  ): Promise<Matrix> {
    const { job, json } = await this.#over(x, options, start)
    const { rows, width } = JSON.parse(json) as { rows: number; width: number }
    return { data: taken(job.takeValues(), 'values'), shape: [rows, width] }
  }

  /** Runs one of the calls that take a model and hidden states. */
  async #over(
    x: StatesInput,
    options: InputOptions,
    start: (
      model: Model,
      states: States,
      place: Parameters<typeof native.startEncode>[2],
      on: Parameters<typeof native.startEncode>[3],
      target: States | undefined,
    ) => Job,
    target?: StatesInput,
  ): Promise<{ job: Job; json: string }> {
    this.#live()
    const { signal, device, threads, onProgress, dIn = this.dIn, where, skipInvalid } = checked(options)
    signal?.throwIfAborted()
    const place = { device: deviceOf(device), threads: threadsOf(threads) }
    return withTarget(x, target, { dIn, dOut: this.dOut, signal, where, skipInvalid }, (states, targets) => {
      // looked up again: it may have been disposed of while the input was coming in
      const model = this.#live()
      return runJob(on => start(model, states, place, on, targets), { signal, progress: onProgress })
    })
  }
}

const MOST_SHARDS = 65_536

function shardOf(shard: { shard: number; of: number }) {
  if (typeof shard !== 'object' || shard === null) {
    throw new BaeError('INVALID_ARGUMENT', `shard must be { shard, of }, not ${describe(shard)}`)
  }
  const [part, of] = [positiveInteger('shard.shard', shard.shard), positiveInteger('shard.of', shard.of)]
  if (part > of || of > MOST_SHARDS) {
    throw new BaeError(
      'INVALID_ARGUMENT',
      `shard: part ${part}/${of} is none; parts are numbered from 1 to their number, at most ${MOST_SHARDS}`,
    )
  }
  return { shard: part, shards: of }
}

/** Rows as they are, and what they are grouped by. */
function together(x: StatesInput, by: GroupBy | undefined) {
  if (by !== undefined) ofType('by', 'string', by)
  return { x, request: by && { by } }
}

/** Whether groups are made of files, or perhaps of layers along an axis of theirs. */
function isTakenApart(x: StatesInput, by: GroupBy | undefined): by is 'file' | 'layer' {
  const first: unknown = Array.isArray(x) ? x[0] : x
  return by === 'file' || (by === 'layer' && (typeof first === 'string' || first instanceof URL))
}

/** Files by the groups they are, with their names. */
async function takenApart(
  x: StatesInput,
  by: 'file' | 'layer',
  signal: AbortSignal | undefined,
): Promise<{ x: StatesInput; request: { by: string; files?: (number | string)[] } }> {
  const given = pathsOf(x, 'grouping by file', 'count rows in memory group by group')
  // what is picked already has its column
  if (by === 'layer' && given.every(spec => /:layer=\d+$/.test(spec))) return { x: given, request: { by } }
  const parts = await withKept(kept => partsOf(given, { by, where: [], signal, kept }))
  if (by === 'layer') {
    const isColumn = parts.some(({ where }) => where.length)
    return { x: isColumn ? given : parts.flatMap(({ data }) => data), request: { by } }
  }
  const name = ({ value = '' }: DataPart) => (Number.isInteger(value) ? value : String(value))
  return { x: parts.flatMap(({ data }) => data), request: { by, files: parts.map(name) } }
}
