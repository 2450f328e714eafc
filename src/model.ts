import { type BinaryCodes, nativeCodes, type PackedCodes, type SaveCodesOptions, wrapCodes } from './codes.js'
import { deviceOf } from './devices.js'
import { BaeError, describe } from './errors.js'
import { defined } from './events.js'
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
import { type LeftOut, type StatesInput, type StatesOptions, withTarget } from './states.js'
import {
  type CodeStatistics,
  type CountingOptions,
  countRequest,
  type EntropyReport,
  type Sparsity,
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

/** How well a model makes hidden states again, and how sparse its codes are; over all rows. */
export interface Evaluation extends Sparsity, LeftOut {
  /** Mean squared error of the reconstruction over all values, in squared units of the input. */
  mse: number
  /** `1 - fvu`: the share of the variance (about each column's mean) that the reconstruction explains. NaN where the rows are all alike. */
  explainedVariance: number
  /** Fraction of variance unexplained. NaN where the rows are all alike. */
  fvu: number
  /** Sum over pairs of features of the absolute covariance (of the first 16,384 rows where there are more). */
  covariance: number
}

/** A matrix of numbers, row after row. */
export interface Matrix {
  data: Float32Array
  /** `[rows, columns]` */
  shape: [rows: number, columns: number]
}

/** Options of the calls that take hidden states and a model. */
export interface InputOptions extends RowsOptions, StatesOptions {}

/** Options of {@link BinaryAutoencoder.evaluate}. */
export interface EvaluateOptions extends InputOptions {
  /** What a transcoder is to make of the hidden states: a row for each of theirs, accepted as they are. */
  target?: StatesInput | undefined
}

/** What to count of which rows. */
export interface StatisticsOptions extends InputOptions, CountingOptions {
  /** Figures for groups of rows too: by a column that the data brings, or by file. */
  by?: 'layer' | 'position' | 'group' | 'sequence' | 'token' | 'file' | undefined
  /** Count one part of the rows only: part `shard`, from 1, of `of`. Merged, all parts are the whole. */
  shard?: { shard: number; of: number } | undefined
}

/** @internal Wraps a model that the addon made. */
export let wrapModel: (model: Model) => BinaryAutoencoder

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
   * Loads a model from its folder (`sae_weights.safetensors` and `cfg.json`).
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
   * Encodes hidden states `[rows, dIn]` to bits `[rows, dSae]`.
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
   * @throws BaeError `SHAPE_MISMATCH` where `dSae` is not the model's, `INVALID_ARGUMENT`, `DISPOSED`, `OUT_OF_MEMORY`.
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
   * Counts the codes of hidden states in one pass, without keeping them. Rows are taken for clustered by sequence where all of the data says
   * what those are.
   *
   * @throws BaeError as {@link encode}; `INVALID_ARGUMENT` also for a column that the data lacks; `OUT_OF_MEMORY`.
   */
  async statistics(x: StatesInput, options: StatisticsOptions = {}): Promise<CodeStatistics> {
    const { by, shard } = checked(options)
    if (by !== undefined) ofType('by', 'string', by)
    // without waiting where it can be: arrays are taken hold of before this call returns
    const grouped = isTakenApart(x, by)
      ? await takenApart(x, by, options.signal)
      : { x, request: by && { by } }
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
   * Reconstruction error and sparsity on hidden states, over all rows. A transcoder is measured by how well it makes `target` of them: a row
   * for each of theirs.
   *
   * @throws BaeError as {@link encode}; `INVALID_ARGUMENT` also where a transcoder is given no `target`, or another model one.
   */
  async evaluate(x: StatesInput, options: EvaluateOptions = {}): Promise<Evaluation> {
    const { json } = await this.#over(
      x,
      options,
      (model, states, place, on, target) => native.startEvaluate(model, states, target, place, on),
      checked(options).target,
    )
    return defined(JSON.parse(json) as Evaluation)
  }

  /**
   * Saves the model as a folder in the layout that sparse-autoencoder tools read. It appears whole or not at all.
   *
   * @throws BaeError `INVALID_ARGUMENT`, `DISPOSED`; `IO`, also where the folder already holds a model and `overwrite` is not set.
   */
  async save(dir: string, options: CallOptions & { overwrite?: boolean | undefined } = {}): Promise<void> {
    const model = this.#live()
    const { signal, overwrite = false } = checked(options)
    pathOf('dir', dir)
    ofType('overwrite', 'boolean', overwrite)
    await runJob(on => native.startSave(model, dir, overwrite, on), { signal })
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

/** Whether groups are made of files, or perhaps of layers along an axis of theirs. */
function isTakenApart(x: StatesInput, by: StatisticsOptions['by']): by is 'file' | 'layer' {
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
