import { BaeError, describe, fromNative } from './errors.js'
import { type CallOptions, checked, ofType, pathOf, positiveInteger, runJob, taken } from './job.js'
import native, { type Codes } from './native.js'
import { type AddOptions, CodeStatistics, type CountingOptions, type EntropyReport } from './statistics.js'

/** Packed codes by shape: what {@link BinaryCodes} is, and what a service may have stored. */
export interface PackedCodes {
  readonly rows: number
  readonly dSae: number
  /** `rows * ceil(dSae / 8)` bytes: bit `j` of a row is at byte `j / 8`, least significant first. */
  readonly bytes: Uint8Array
}

/** Where codes are saved to. */
export interface SaveCodesOptions extends CallOptions {
  /** Replace a file that is already there. Default false. */
  overwrite?: boolean | undefined
  /** Name of the model that made the codes, kept in the file's metadata. */
  model?: string | undefined
}

/** @internal Wraps codes that the addon made. */
export let wrapCodes: (codes: Codes) => BinaryCodes
/** @internal The addon's codes behind any packed codes; `owned` where they were made for this call. */
export let nativeCodes: (codes: PackedCodes) => { codes: Codes; owned: boolean }

/**
 * A matrix of bits, `[rows, dSae]`, packed eight to a byte. Bit `j` of a row is feature `j` of that hidden state.
 *
 * Holds memory outside the JavaScript heap: call `dispose()`, or use `using`, when done with many of them.
 */
export class BinaryCodes implements PackedCodes, Disposable, AsyncDisposable {
  static {
    wrapCodes = codes => new BinaryCodes(codes)
    nativeCodes = codes =>
      #native in codes
        ? { codes: codes.#live(), owned: false }
        : { codes: BinaryCodes.fromBytes(codes.bytes, codes.rows, codes.dSae).#live(), owned: true }
  }

  /** Number of rows: hidden states encoded. */
  readonly rows: number
  /** Features a row, in bits. */
  readonly dSae: number
  #native: Codes | null
  #bytes: Uint8Array | undefined

  private constructor(codes: Codes) {
    this.#native = codes
    this.rows = codes.rows
    this.dSae = codes.dSae
  }

  /**
   * Codes from packed bytes, which are copied.
   *
   * @param bytes `rows * ceil(dSae / 8)` bytes, least significant bit first, as `numpy.packbits(bitorder="little")`.
   * @throws BaeError `SHAPE_MISMATCH` where the length does not fit, `INVALID_ARGUMENT` for other wrong arguments.
   */
  static fromBytes(bytes: Uint8Array, rows: number, dSae: number): BinaryCodes {
    positiveInteger('rows', rows)
    positiveInteger('dSae', dSae)
    if (!(bytes instanceof Uint8Array)) {
      throw new BaeError('INVALID_ARGUMENT', `bytes must be a Uint8Array, not ${describe(bytes)}`)
    }
    const needed = rows * Math.ceil(dSae / 8)
    if (bytes.length !== needed) {
      throw new BaeError(
        'SHAPE_MISMATCH',
        `${rows} rows of ${dSae} bits need ${needed} bytes, there are ${bytes.length}`,
      )
    }
    try {
      return new BinaryCodes(native.Codes.fromBytes(bytes, rows, dSae))
    } catch (error) {
      throw fromNative(error)
    }
  }

  /**
   * Reads a codes file (safetensors).
   *
   * @throws BaeError `INVALID_ARGUMENT` (no path), `IO`, `CORRUPT_FILE`, `UNSUPPORTED_FORMAT`.
   */
  static async load(path: string, options: CallOptions = {}): Promise<BinaryCodes> {
    const { signal } = checked(options)
    pathOf('path', path)
    const { job } = await runJob(on => native.startReadCodes(path, on), { signal })
    return new BinaryCodes(taken(job.takeCodes(), 'codes'))
  }

  /** The packed bits, `rows * ceil(dSae / 8)` bytes, least significant bit first. Copied out once; do not change them. */
  get bytes(): Uint8Array {
    const codes = this.#live()
    this.#bytes ??= codes.bytes()
    return this.#bytes
  }

  /** Whether feature `feature` is on in row `row`. */
  get(row: number, feature: number): boolean {
    this.#within('feature', feature, this.dSae)
    return (((this.#packed(row)[feature >> 3] as number) >> (feature & 7)) & 1) === 1
  }

  /** One row as zeros and ones, `dSae` of them. */
  row(row: number): Uint8Array {
    const packed = this.#packed(row)
    return Uint8Array.from({ length: this.dSae }, (_, j) => ((packed[j >> 3] as number) >> (j & 7)) & 1)
  }

  /** The features that are on in a row, ascending. */
  active(row: number): Uint32Array {
    const on: number[] = []
    for (const [index, byte] of this.#packed(row).entries()) {
      for (let rest = byte; rest; rest &= rest - 1) on.push(index * 8 + 31 - Math.clz32(rest & -rest))
    }
    return Uint32Array.from(on)
  }

  /**
   * Entropy and sparsity over all rows, counted exactly, with intervals.
   *
   * @throws BaeError as {@link CodeStatistics.add}; `OUT_OF_MEMORY` (pairs of too many features).
   */
  async entropy(options: CountingOptions & Omit<AddOptions, 'firstRow'> = {}): Promise<EntropyReport> {
    const { signal } = checked(options)
    using statistics = new CodeStatistics(this.dSae, options)
    await statistics.add(this, options)
    return await statistics.report({ signal })
  }

  /**
   * Writes the codes as safetensors: `codes` U8 `[rows, ceil(dSae / 8)]`, metadata `rows`, `d_sae`, `model`.
   * The file appears whole or not at all.
   *
   * @throws BaeError `INVALID_ARGUMENT`; `IO`, also where the file is there already and `overwrite` is not set.
   */
  async save(path: string, options: SaveCodesOptions = {}): Promise<void> {
    const { signal, overwrite = false, model = '' } = checked(options)
    pathOf('path', path)
    ofType('overwrite', 'boolean', overwrite)
    ofType('model', 'string', model)
    const codes = this.#live()
    await runJob(on => native.startWriteCodes(codes, path, model, overwrite, on), { signal })
  }

  /** Frees the native memory; using the codes afterwards is an error of code `DISPOSED`. */
  dispose(): void {
    this.#native?.dispose()
    this.#native = null
    this.#bytes = undefined
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose()
  }

  #live(): Codes {
    if (this.#native) return this.#native
    throw new BaeError('DISPOSED', 'these codes were disposed of')
  }

  #packed(row: number): Uint8Array {
    this.#within('row', row, this.rows)
    const stride = Math.ceil(this.dSae / 8)
    return this.bytes.subarray(row * stride, (row + 1) * stride)
  }

  #within(name: string, index: number, size: number): void {
    if (Number.isSafeInteger(index) && index >= 0 && index < size) return
    throw new BaeError('INVALID_ARGUMENT', `${name} ${index} is not within 0 … ${size - 1}`)
  }
}
